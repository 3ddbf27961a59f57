/* SPDX-License-Identifier: MIT */
/* Making one object's metadata equal to another's: for copy-up and for replaced directories. */
#ifndef VENEER_CORE_CLONE_H
#define VENEER_CORE_CLONE_H

#include "core/internal.h"

struct clone_attr {
	struct core *core;
	int from; /* O_PATH; -1: there is nothing but st */
	bool from_upper; /* that is in the upper already */
	int to; /* in the work directory; O_PATH or open */
	const struct statx *st; /* of from */
	/* From clone_attributes(). */
	mode_t mode; /* that the copy gets */
	bool is_lost; /* it belongs to another, whom no privilege of the file is to go to */
};

/*
 * Owner (core/owner.h), extended attributes (private ones left out; ACLs and capabilities
 * included), file flags: in the order in which none of them undoes another. 0 or -errno.
 */
int clone_attributes(struct clone_attr *clone);
/*
 * Mode, access and modification time; last, as everything else changes the times, and who may not
 * override modes cannot set attributes of what is read-only.
 */
int clone_finish(const struct clone_attr *clone);
/* Gives @fd the times in @st. */
int clone_stat_times(int fd, const struct statx *st);
/* What writing to a file takes away from it. */
struct clone_privileges {
	char *capability; /* value of security.capability; owned, or NULL */
	ssize_t size;
};

/* Saves what writes to @fd (O_PATH) would take away; clone_restore() gives it back. */
int clone_save(int fd, struct clone_privileges *privileges);
/* Set-id bits and capabilities (unless owner or mode changed meanwhile) and times as they were in
 * @st and @privileges. */
int clone_restore(int fd, const struct statx *st, const struct clone_privileges *privileges);
void clone_privileges_deinit(struct clone_privileges *privileges);

/* fsync of the directory behind the O_PATH descriptor. */
int clone_sync_dir(int fd);

#endif
