/* SPDX-License-Identifier: MIT */
#include "tools/fsck_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "format/whiteout.h"
#include "sys/file.h"
#include "sys/xattr.h"
#include "tools/fsck_attributes.h"
#include "tools/fsck_dir.h"
#include "tools/fsck_index.h"
#include "tools/fsck_metacopy.h"
#include "tools/fsck_origin.h"

/* Settles a repair that changed a name of the directory at hand. */
static void fsck_file_settle(struct fsck_walk *walk, int result)
{
	fsck_dir_touch(walk);
	fsck_settle(walk->fsck, result);
}

/* ---- whiteouts ---- */

/* True if the whiteout hides something; else it was dealt with. */
static bool fsck_whiteout_hides(struct fsck_walk *walk, struct fsck_object *object)
{
	const struct fsck_dir *dir = fsck_walk_dir(walk);
	enum fsck_problem problem = FSCK_WHITEOUT_OPAQUE;

	if (!dir->is_opaque) {
		struct fsck_below below = fsck_below_lookup(walk->fsck, &dir->below, object->name);
		bool hides = below.kind != FSCK_BELOW_NONE;

		fsck_below_put(walk->fsck, &below);
		if (hides)
			return true;
		problem = FSCK_WHITEOUT_ORPHAN;
	}
	if (fsck_object_find(object, problem, NULL))
		fsck_file_settle(walk, fsck_object_unlink(object));
	return false;
}

/* Says of the directory at hand that it has whiteouts by attribute: those who list it look then. */
static int fsck_xwhiteout_mark(struct fsck_walk *walk)
{
	const char *key = xattr_private_name(walk->fsck->target.ns, XATTR_OPAQUE);
	int r = sys_setxattr(walk->fd, key, "x", 1, 0);

	if (r == 0 && walk->count > 1)
		r = sys_setxattr(walk->fsck->upper_fd, key, "x", 1, 0);
	if (r == 0)
		fsck_walk_dir(walk)->is_marked = true;
	return r;
}

static void fsck_xwhiteout_check(struct fsck_walk *walk, struct fsck_object *object)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);

	if (!fsck_whiteout_hides(walk, object))
		return;
	if (!dir->is_marked && fsck_object_find(object, FSCK_WHITEOUT_UNLISTED, NULL)) {
		int r = fsck_object_hide(object);

		if (r == 0) {
			fsck_file_settle(walk, r);
			return;
		}
		/* Where such a device cannot be made, which is what the attribute is for. */
		fsck_file_settle(walk, fsck_xwhiteout_mark(walk));
	}
	dir->has_xwhiteouts = true;
}

/* ---- `.wh.` names ---- */

/* What the layer has under @name in the directory at hand. */
static mode_t fsck_name_type(const struct fsck_walk *walk, const char *name)
{
	struct statx st;

	return sys_stat(walk->fd, name, &st) < 0 ? 0 : st.stx_mode & S_IFMT;
}

static int fsck_name_make_opaque(struct fsck_walk *walk, const char *name)
{
	_cleanup_close_ int fd = sys_open(walk->fd, name, O_PATH | O_DIRECTORY, 0);

	return fd < 0 ? fd :
			sys_setxattr(fd, xattr_private_name(walk->fsck->target.ns, XATTR_OPAQUE),
				     "y", 1, 0);
}

/* Hides what the directory at hand merges under @name. */
static int fsck_name_hide(struct fsck_walk *walk, const char *name)
{
	struct fsck_below below = fsck_below_lookup(walk->fsck, &fsck_walk_dir(walk)->below, name);
	struct fsck_object hidden = { .fsck = walk->fsck, .dirfd = walk->fd, .name = name };
	bool shows = below.kind != FSCK_BELOW_NONE;
	int r = below.error;

	fsck_below_put(walk->fsck, &below);
	if (!shows || r < 0)
		return r;
	switch (fsck_name_type(walk, name)) {
	case 0:
		return fsck_object_hide(&hidden);
	case S_IFDIR:
		return fsck_name_make_opaque(walk, name);
	default:
		return 0;
	}
}

/*
 * An empty file: one with content is a file of somebody's. The root cannot be opaque, so what would
 * make it so is a name like others.
 */
static void fsck_whiteout_name_check(struct fsck_walk *walk, struct fsck_object *object)
{
	enum whiteout_name kind = whiteout_name_kind(object->name);
	bool hides_all = kind == WHITEOUT_NAME_OPAQUE && walk->count > 1;

	if ((kind != WHITEOUT_NAME_HIDES && !hides_all) ||
	    !whiteout_may_be_xattr(object->st.stx_mode, object->st.stx_size))
		return;
	if (!fsck_object_find(object, FSCK_WHITEOUT_NAME, NULL))
		return;
	int r = hides_all ? fsck_name_make_opaque(walk, ".") :
			    fsck_name_hide(walk, object->name + WHITEOUT_PREFIX_LENGTH);

	if (r == 0)
		r = fsck_object_unlink(object);
	fsck_file_settle(walk, r);
}

/* ---- any entry ---- */

void fsck_file_check(struct fsck_walk *walk, struct fsck_object *object)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);

	if (whiteout_is_device(object->st.stx_mode, sys_stat_rdev(&object->st))) {
		fsck_whiteout_hides(walk, object);
		return;
	}
	if (whiteout_may_be_xattr(object->st.stx_mode, object->st.stx_size) &&
	    fsck_object_has(object, XATTR_WHITEOUT)) {
		fsck_xwhiteout_check(walk, object);
		return;
	}
	fsck_index_note(walk->fsck, &object->st);
	fsck_attributes_check(object, false);
	if (fsck_origin_check(object))
		dir->must_be_impure = true;
	fsck_metacopy_check(walk, object);
	fsck_whiteout_name_check(walk, object);
}
