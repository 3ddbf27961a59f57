/* SPDX-License-Identifier: MIT */
/*
 * One object of the layer while it is looked at, what its private attributes
 * say, and the few ways in which fsck changes one.  Nothing is followed: names
 * are single components in a directory that is held open.
 */
#ifndef VENEER_TOOLS_FSCK_OBJECT_H
#define VENEER_TOOLS_FSCK_OBJECT_H

#include <limits.h>

#include "tools/fsck_layer.h"

/* Longer than any private attribute that makes sense. */
#define FSCK_VALUE_MAX PATH_MAX

struct fsck_object {
	struct fsck *fsck;
	int dirfd; /* borrowed */
	const char *name; /* in it; "": @dirfd itself */
	const char *path; /* for people */
	struct statx st;
	char *list; /* the names of its attributes; owned */
	size_t list_size;
};

/* Fills @object but for its path and place. 0 or -errno. To be deinitialised in any case. */
int fsck_object_read(struct fsck_object *object);
void fsck_object_deinit(struct fsck_object *object);

bool fsck_object_has(const struct fsck_object *object, enum xattr_private which);
/* Its size, at most FSCK_VALUE_MAX, and a NUL is put behind it; or -errno (-ERANGE: longer). */
ssize_t fsck_object_get(const struct fsck_object *object, enum xattr_private which,
			char value[FSCK_VALUE_MAX + 1]);
int fsck_object_set(const struct fsck_object *object, enum xattr_private which, const void *value,
		    size_t size);
int fsck_object_drop(const struct fsck_object *object, enum xattr_private which);

/* Tells of a finding; true: repair it. */
bool fsck_object_find(const struct fsck_object *object, enum fsck_problem problem,
		      const char *note);

/* Removes its name. */
int fsck_object_unlink(const struct fsck_object *object);
/* Puts a whiteout in its place, or where there is nothing under its name. */
int fsck_object_hide(const struct fsck_object *object);
/*
 * Moves it into WORKDIR/lost+found, where the union does not show it; a whiteout takes its place
 * if @hide. -EXDEV: the work directory is not known.
 */
int fsck_object_keep(const struct fsck_object *object, bool hide);

#define _cleanup_fsck_object_ _cleanup_(fsck_object_deinit)

#endif
