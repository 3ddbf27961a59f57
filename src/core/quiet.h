/* SPDX-License-Identifier: MIT */
/*
 * Quiet changes: what a copy-up does to the upper is no change of the union,
 * so it must not show in any time.
 *
 * Modification and access time can be set back.  The change time of a
 * directory that a copy was put in cannot, nor can the time of birth of the
 * copy; what the union shows for these is kept in an attribute (format/times.h).
 * A change time kept so counts until something really changes the directory,
 * which quiet_changed() tells.  Should others than this mount change it, the
 * real change time is later than the attribute says, and the real one is shown.
 *
 * All of this is only ever about times: failing to keep one is no failure.
 */
#ifndef VENEER_CORE_QUIET_H
#define VENEER_CORE_QUIET_H

#include "core/internal.h"

/* A change under way. */
struct quiet {
	struct node *dir; /* borrowed */
	int fd; /* of its upper directory; borrowed */
	struct statx before; /* as the union shows it */
	enum quiet_state state; /* to go back to */
	struct times times;
};

/*
 * Brackets what changes the upper directory @fd of @dir, but not the union. The directory's lock
 * is held for writing. -errno: nothing has begun. @done: the upper was changed.
 */
int quiet_begin(struct core *core, struct node *dir, int fd, struct quiet *quiet);
/* 0, or -errno: the modification time could not be set back. */
int quiet_end(struct core *core, struct quiet *quiet, bool done);
/* The union's directory @dir was changed: its attributes or its names. */
void quiet_changed(struct core *core, struct node *dir);

/* Gives the copy @fd the times of @st that it can have in an attribute only. */
void quiet_keep(struct core *core, int fd, const struct statx *st);
/* The change time of a directory in the upper, and the birth time of anything there. */
void quiet_present_change(struct core *core, struct node *dir, struct statx *st);
void quiet_present_birth(struct core *core, struct node *node, struct statx *st);

#endif
