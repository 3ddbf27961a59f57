/* SPDX-License-Identifier: MIT */
#include "tools/fsck_metacopy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "format/metacopy.h"
#include "format/redirect.h"
#include "sys/copy.h"
#include "sys/file.h"
#include "sys/xattr.h"
#include "tools/fsck_dir.h"
#include "tools/fsck_origin.h"

#define FSCK_CAPABILITY "security.capability"
#define FSCK_CAPABILITY_MAX 64

/* ---- is there data? ---- */

/* What the layers below have for the file. */
static struct fsck_below fsck_metacopy_below(struct fsck_walk *walk,
					     const struct fsck_object *object)
{
	const struct fsck_below *parent = &fsck_walk_dir(walk)->below;
	char value[FSCK_VALUE_MAX + 1];

	if (!fsck_object_has(object, XATTR_REDIRECT))
		return fsck_below_lookup(walk->fsck, parent, object->name);
	ssize_t size = fsck_object_get(object, XATTR_REDIRECT, value);

	if (size < 0 || !redirect_is_valid(value, (size_t)size))
		return FSCK_BELOW_INIT;
	return fsck_below_follow(walk->fsck, parent, value);
}

/*
 * True if the data is where it should be, or nobody can tell. A file below that is without data itself
 * answers with an error.
 */
static bool fsck_metacopy_has_data(struct fsck_walk *walk, const struct fsck_object *object)
{
	struct fsck_below below = fsck_metacopy_below(walk, object);
	bool has = below.kind == FSCK_BELOW_UNKNOWN ?
			   below.error != -EIO || fsck_walk_dir(walk)->below.error < 0 :
			   below.kind == FSCK_BELOW_REGULAR &&
				   fsck_below_has_data(walk->fsck, &below);

	fsck_below_put(walk->fsck, &below);
	return has;
}

/*
 * The file it was copied from, wherever that is now: of the same size, and with data of its own.
 * -1: there is none.
 */
static int fsck_metacopy_open_origin(const struct fsck_object *object)
{
	_cleanup_close_ int fd = -1;
	struct origin origin;
	struct statx st;

	if (!fsck_origin_read(object, &origin))
		return -1;
	if (fsck_origin_judge(object->fsck, &origin, object->st.stx_mode, &fd) !=
		    FSCK_ORIGIN_GOOD ||
	    fd < 0)
		return -1;
	if (sys_stat(fd, "", &st) < 0 || st.stx_size != object->st.stx_size ||
	    sys_getxattr(fd, xattr_private_name(object->fsck->target.ns, XATTR_METACOPY), NULL,
			 0) >= 0)
		return -1;
	return sys_reopen(fd, O_RDONLY);
}

/* ---- repairs ---- */

/* From now on the file's own data counts. */
static int fsck_metacopy_drop(struct fsck_object *object)
{
	int r = fsck_object_drop(object, XATTR_METACOPY);

	return r == 0 && fsck_object_has(object, XATTR_REDIRECT) ?
		       fsck_object_drop(object, XATTR_REDIRECT) :
		       r;
}

/* Writing takes capabilities away and sets times: both are put back. */
static int fsck_metacopy_copy(const struct fsck_object *object, int from, int to)
{
	char capability[FSCK_CAPABILITY_MAX];
	ssize_t size = sys_getxattr(to, FSCK_CAPABILITY, capability, sizeof(capability));
	const struct timespec times[2] = {
		{ object->st.stx_atime.tv_sec, object->st.stx_atime.tv_nsec },
		{ object->st.stx_mtime.tv_sec, object->st.stx_mtime.tv_nsec },
	};
	const struct sys_copy copy = { .from = from, .to = to, .size = object->st.stx_size };
	int r = sys_copy_data(&copy);

	if (r == 0 && size > 0)
		r = sys_setxattr(to, FSCK_CAPABILITY, capability, (size_t)size, 0);
	if (r == 0)
		r = sys_chmod(to, object->st.stx_mode & 07777);
	if (r == 0)
		r = sys_utimens(to, times);
	return r < 0 ? r : sys_fsync(to, false);
}

/*
 * The mark goes when the data is on the disk. The origin goes as well: what it leads to may show
 * elsewhere, and no two objects can have one.
 */
static int fsck_metacopy_fill(struct fsck_object *object, int from)
{
	_cleanup_close_ int to = sys_open(object->dirfd, object->name, O_RDWR, 0);
	int r = to < 0 ? to : fsck_metacopy_copy(object, from, to);

	if (r == 0)
		r = fsck_object_set(object, XATTR_ORIGIN, "", 0);
	return r < 0 ? r : fsck_metacopy_drop(object);
}

/* Out of the union, where it could not be read; what is below under its name stays hidden. */
static int fsck_metacopy_keep(struct fsck_walk *walk, struct fsck_object *object)
{
	struct fsck_below below =
		fsck_below_lookup(walk->fsck, &fsck_walk_dir(walk)->below, object->name);
	bool hide = below.kind != FSCK_BELOW_NONE;

	fsck_below_put(walk->fsck, &below);
	fsck_dir_touch(walk);
	return fsck_object_keep(object, hide);
}

static void fsck_metacopy_check_data(struct fsck_walk *walk, struct fsck_object *object)
{
	if (fsck_metacopy_has_data(walk, object))
		return;
	if (object->st.stx_size == 0) {
		if (fsck_object_find(object, FSCK_METACOPY_EMPTY, NULL))
			fsck_settle(walk->fsck, fsck_metacopy_drop(object));
		return;
	}
	_cleanup_close_ int from = fsck_metacopy_open_origin(object);

	if (from >= 0) {
		if (fsck_object_find(object, FSCK_METACOPY_FOUND, NULL))
			fsck_settle(walk->fsck, fsck_metacopy_fill(object, from));
	} else if (fsck_object_find(object, FSCK_METACOPY_LOST, NULL)) {
		fsck_settle(walk->fsck, fsck_metacopy_keep(walk, object));
	}
}

void fsck_metacopy_check(struct fsck_walk *walk, struct fsck_object *object)
{
	char value[FSCK_VALUE_MAX + 1];
	struct metacopy metacopy;

	if (!S_ISREG(object->st.stx_mode) || !fsck_object_has(object, XATTR_METACOPY))
		return;
	ssize_t size = fsck_object_get(object, XATTR_METACOPY, value);

	if (size != -ERANGE && size < 0)
		return;
	if ((size < 0 || metacopy_decode(value, (size_t)size, &metacopy) < 0) &&
	    fsck_object_find(object, FSCK_METACOPY_DAMAGED, NULL))
		fsck_settle(walk->fsck, fsck_object_set(object, XATTR_METACOPY, "", 0));
	fsck_metacopy_check_data(walk, object);
}
