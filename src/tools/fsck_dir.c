/* SPDX-License-Identifier: MIT */
#include "tools/fsck_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/redirect.h"
#include "format/whiteout.h"
#include "tools/fsck_attributes.h"
#include "tools/fsck_claim.h"
#include "tools/fsck_object.h"
#include "tools/fsck_origin.h"

static const char *fsck_dir_name(const struct fsck_walk *walk)
{
	return walk->path.data + walk->dirs[walk->count - 1].path_length + 1;
}

/* ---- where it goes on below ---- */

/* What the lowers have under its own name, if that is a directory: nothing else is merged. */
static struct fsck_below fsck_dir_same_name(struct fsck_walk *walk)
{
	struct fsck_dir *parent = fsck_walk_parent(walk);
	struct fsck_below below =
		parent ? fsck_below_lookup(walk->fsck, &parent->below, fsck_dir_name(walk)) :
			 fsck_below_root(walk->fsck);

	if (below.kind != FSCK_BELOW_DIR && below.kind != FSCK_BELOW_UNKNOWN)
		fsck_below_put(walk->fsck, &below);
	return below;
}

/*
 * Takes a redirect that leads nowhere away. It kept what the lowers have under the directory's
 * present name out of it, and so must the directory after it.
 */
static int fsck_dir_drop_redirect(struct fsck_object *object, struct fsck_walk *walk)
{
	struct fsck_below below = fsck_dir_same_name(walk);
	int r = below.kind == FSCK_BELOW_NONE ? 0 : fsck_object_set(object, XATTR_OPAQUE, "y", 1);

	if (r == 0) {
		fsck_walk_dir(walk)->is_opaque = below.kind != FSCK_BELOW_NONE;
		r = fsck_object_drop(object, XATTR_REDIRECT);
	}
	fsck_below_put(walk->fsck, &below);
	return r;
}

/* It cannot be followed: nothing is below, once it is gone; else nobody knows. */
static void fsck_dir_reject_redirect(struct fsck_object *object, struct fsck_walk *walk,
				     enum fsck_problem problem, const char *value)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);
	int r = -EPERM;

	if (fsck_object_find(object, problem, value)) {
		r = fsck_dir_drop_redirect(object, walk);
		fsck_settle(object->fsck, r);
	}
	if (r < 0 && problem == FSCK_REDIRECT_MALFORMED)
		dir->below = (struct fsck_below){ .kind = FSCK_BELOW_UNKNOWN, .error = -EIO };
}

static int fsck_dir_follow(struct fsck_object *object, struct fsck_walk *walk, const char *value,
			   ssize_t size)
{
	struct fsck_dir *dir = fsck_walk_dir(walk), *parent = fsck_walk_parent(walk);

	if (size < 0 || !redirect_is_valid(value, (size_t)size)) {
		fsck_dir_reject_redirect(object, walk, FSCK_REDIRECT_MALFORMED,
					 size < 0 ? NULL : value);
		return 0;
	}
	dir->below = fsck_below_follow(walk->fsck, &parent->below, value);
	if (dir->below.kind == FSCK_BELOW_UNKNOWN)
		return 0;
	if (dir->below.kind != FSCK_BELOW_DIR) {
		fsck_below_put(walk->fsck, &dir->below);
		fsck_dir_reject_redirect(object, walk, FSCK_REDIRECT_MISSING, value);
		return 0;
	}
	dir->redirect = strdup(value);
	return dir->redirect ? fsck_claim_add(walk) : -ENOMEM;
}

static int fsck_dir_find_below(struct fsck_object *object, struct fsck_walk *walk)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);
	char value[FSCK_VALUE_MAX + 1];
	ssize_t size = fsck_object_get(object, XATTR_OPAQUE, value);
	enum opaque_value opaque = size < 0 ? OPAQUE_NONE : opaque_parse(value, (size_t)size);
	bool is_redirected = walk->count > 1 && fsck_object_has(object, XATTR_REDIRECT);

	dir->is_marked = opaque == OPAQUE_XWHITEOUTS;
	/* The root is merged whatever it says. */
	dir->is_opaque = opaque == OPAQUE_YES && walk->count > 1;
	if (!is_redirected) {
		if (!dir->is_opaque)
			dir->below = fsck_dir_same_name(walk);
		return 0;
	}
	size = fsck_object_get(object, XATTR_REDIRECT, value);
	if (!dir->is_opaque)
		return fsck_dir_follow(object, walk, value, size);
	if (fsck_object_find(object, FSCK_REDIRECT_OPAQUE, size < 0 ? NULL : value))
		fsck_settle(object->fsck, fsck_object_drop(object, XATTR_REDIRECT));
	return 0;
}

/* ---- in and out ---- */

/* The directory at hand as an object. */
static struct fsck_object fsck_dir_object(struct fsck_walk *walk)
{
	return (struct fsck_object){
		.fsck = walk->fsck,
		.dirfd = walk->fd,
		.name = "",
		.path = walk->path.data,
	};
}

static void fsck_dir_check_origin(struct fsck_object *object, struct fsck_walk *walk)
{
	struct fsck_dir *parent = fsck_walk_parent(walk);

	if (!parent)
		fsck_origin_check_root(object);
	else if (fsck_origin_check(object))
		parent->must_be_impure = true;
}

int fsck_dir_enter(struct fsck_walk *walk)
{
	_cleanup_fsck_object_ struct fsck_object object = fsck_dir_object(walk);
	int r = fsck_object_read(&object);

	if (r < 0) {
		fsck_report_fail(&walk->fsck->report, object.path, r);
		fsck_walk_dir(walk)->below =
			(struct fsck_below){ .kind = FSCK_BELOW_UNKNOWN, .error = r };
		return 0;
	}
	fsck_attributes_check(&object, walk->count == 1);
	fsck_dir_check_origin(&object, walk);
	fsck_walk_dir(walk)->is_impure = fsck_object_has(&object, XATTR_IMPURE);
	return fsck_dir_find_below(&object, walk);
}

/* Before an object of origin is in it; the kernel takes no other value. */
static void fsck_dir_check_impure(struct fsck_object *object, const struct fsck_dir *dir)
{
	if (!dir->must_be_impure || dir->is_impure)
		return;
	if (fsck_object_find(object, FSCK_IMPURE_MISSING, NULL))
		fsck_settle(object->fsck, fsck_object_set(object, XATTR_IMPURE, "y", 1));
}

/* The root's mark says that directories deeper down have one. */
static void fsck_dir_check_mark(struct fsck_object *object, struct fsck_walk *walk)
{
	const struct fsck_dir *dir = fsck_walk_dir(walk);

	walk->has_xwhiteouts |= dir->has_xwhiteouts;
	if (!dir->is_marked || dir->has_xwhiteouts || (walk->count == 1 && walk->has_xwhiteouts))
		return;
	if (fsck_object_find(object, FSCK_OPAQUE_UNUSED, NULL))
		fsck_settle(object->fsck, fsck_object_drop(object, XATTR_OPAQUE));
}

void fsck_dir_leave(struct fsck_walk *walk)
{
	struct fsck_object object = fsck_dir_object(walk);

	if (fsck_object_read(&object) == 0) {
		fsck_dir_check_impure(&object, fsck_walk_dir(walk));
		fsck_dir_check_mark(&object, walk);
	}
	fsck_object_deinit(&object);
}

void fsck_dir_touch(struct fsck_walk *walk)
{
	fsck_walk_dir(walk)->is_touched = true;
}
