/* SPDX-License-Identifier: MIT */
#include "tools/import_merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "offline/entry.h"
#include "sys/file.h"
#include "sys/xattr.h"

struct import_merge {
	struct import_tree *tree;
	struct import_stage *stage;
	struct strbuf *why;
};

/* A directory of both layers. */
struct import_merge_dir {
	int from, to;
	const char *place;
	bool is_opaque; /* @to */
};

static int import_merge_result(const struct import_merge *merge, int r, const char *place)
{
	if (r < 0 && merge->why->length == 0)
		strbuf_append_format(merge->why, "%s: cannot be put on the layer: %s", place,
				     strerror(-r));
	return r;
}

static int import_merge_remove(const struct import_merge *merge, int dirfd, const char *name)
{
	int r = import_stage_remove(merge->stage, dirfd, name);

	return r == -ENOENT ? 0 : r;
}

static int import_merge_whiteout(const struct import_merge *merge,
				 const struct import_merge_dir *dir, const char *name)
{
	int r = import_merge_remove(merge, dir->to, name);

	if (r < 0)
		return r;
	if (dir->is_opaque)
		return sys_unlink(dir->from, name);
	r = sys_rename(dir->from, name, dir->to, name, 0);
	return r < 0 ? r : import_tree_mark_whiteouts(merge->tree, dir->to);
}

/* The names of a directory all at once: they are moved away afterwards. */
static int import_merge_names(int fd, struct entry_names *names)
{
	_cleanup_close_ int dirfd = sys_reopen(fd, O_RDONLY | O_DIRECTORY);

	return dirfd < 0 ? dirfd : entry_names_read(dirfd, names);
}

/* ---- a directory in place of something else ---- */

/* Below an opaque directory whiteouts have nothing to hide. */
static int import_merge_drop_whiteouts(const struct import_merge *merge, int fd)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = import_tree_drop_whiteouts(merge->tree, fd);

	if (r == 0)
		r = import_merge_names(fd, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_cleanup_close_ int sub = sys_open(fd, names.names[i], O_PATH | O_DIRECTORY, 0);

		if (sub >= 0)
			r = import_merge_drop_whiteouts(merge, sub);
	}
	return r;
}

/* The layer hid what lowers have there, and so does the directory that comes now. */
static int import_merge_cover(const struct import_merge *merge, const struct import_merge_dir *dir,
			      const char *name)
{
	_cleanup_close_ int fd = sys_open(dir->from, name, O_PATH | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : import_tree_set_opaque(merge->tree, fd);

	if (r == 0)
		r = import_merge_drop_whiteouts(merge, fd);
	if (r == 0)
		r = import_merge_remove(merge, dir->to, name);
	return r < 0 ? r : sys_rename(dir->from, name, dir->to, name, 0);
}

/* ---- a directory on a directory ---- */

/* The attributes of the one above are all that it has; what the format keeps there stays. */
static int import_merge_clear_xattrs(const struct import_merge *merge, int fd)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(fd, &list);
	int r = size < 0 && size != -EOPNOTSUPP ? (int)size : 0;

	for (ssize_t at = 0; r == 0 && at < size; at += (ssize_t)strlen(list + at) + 1) {
		const char *key = list + at;

		if (xattr_name_is_private(merge->tree->ns, key) ||
		    strcmp(key, "security.selinux") == 0)
			continue;
		r = sys_removexattr(fd, key);
		/* One goes with the other (an ACL with the mode), or is not ours to take. */
		if (r == -ENODATA || (r == -EPERM && !merge->tree->keeps_owners))
			r = 0;
	}
	return r;
}

static int import_merge_entry(const struct import_merge *merge, const struct import_merge_dir *dir,
			      const char *name);

static int import_merge_entries(const struct import_merge *merge,
				const struct import_merge_dir *dir)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = import_merge_names(dir->from, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = import_merge_entry(merge, dir, names.names[i]);
	return r;
}

/* Puts the content of @from into @to, which are both there. */
static int import_merge_content(const struct import_merge *merge, int from, int to,
				const char *place)
{
	const struct import_dir *record = import_dirs_find(&merge->tree->dirs, place);
	const struct import_merge_dir dir = {
		.from = from,
		.to = to,
		.place = place,
		.is_opaque = import_tree_is_opaque(merge->tree, to),
	};
	struct statx st;
	int r = sys_stat(to, "", &st);

	if (r == 0)
		r = import_merge_entries(merge, &dir);
	if (r < 0)
		return import_merge_result(merge, r, place);
	if (record && !record->is_implied)
		return import_merge_result(merge, import_merge_clear_xattrs(merge, to), place);
	/* Nothing was said of the directory itself: it stays as it is. */
	const struct timespec mtime = { st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec };

	import_dirs_forget(&merge->tree->dirs, place);
	return import_merge_result(merge, import_tree_touch(to, &mtime), place);
}

static int import_merge_dir(const struct import_merge *merge, const struct import_merge_dir *dir,
			    const char *name)
{
	_cleanup_close_ int from = sys_open(dir->from, name, O_PATH | O_DIRECTORY, 0);
	_cleanup_close_ int to = -1;
	_cleanup_free_ char *place = NULL;

	if (from < 0)
		return from;
	if (import_tree_is_opaque(merge->tree, from))
		return import_merge_cover(merge, dir, name);
	to = sys_open(dir->to, name, O_PATH | O_DIRECTORY, 0);
	if (to == -ENOENT)
		return sys_rename(dir->from, name, dir->to, name, 0);
	if (to == -ENOTDIR || to == -ELOOP)
		return import_merge_cover(merge, dir, name);
	if (to < 0)
		return to;
	if (asprintf(&place, "%s%s%s", dir->place, *dir->place ? "/" : "", name) < 0)
		return -ENOMEM;
	return import_merge_content(merge, from, to, place);
}

/* Anything that is no directory takes the place of what is there. */
static int import_merge_other(const struct import_merge *merge, const struct import_merge_dir *dir,
			      const char *name)
{
	int r = sys_rename(dir->from, name, dir->to, name, 0);

	if (r != -EISDIR)
		return r;
	r = import_merge_remove(merge, dir->to, name);
	return r < 0 ? r : sys_rename(dir->from, name, dir->to, name, 0);
}

static int import_merge_entry(const struct import_merge *merge, const struct import_merge_dir *dir,
			      const char *name)
{
	struct statx st;
	int r = sys_stat(dir->from, name, &st);

	if (r == 0 && import_tree_is_whiteout(merge->tree, dir->from, name))
		r = import_merge_whiteout(merge, dir, name);
	else if (r == 0 && S_ISDIR(st.stx_mode))
		r = import_merge_dir(merge, dir, name);
	else if (r == 0)
		r = import_merge_other(merge, dir, name);
	return import_merge_result(merge, r, name);
}

int import_merge(struct import_tree *tree, struct import_stage *stage, int onto, struct strbuf *why)
{
	const struct import_merge merge = { .tree = tree, .stage = stage, .why = why };
	int r = import_merge_content(&merge, stage->layer, onto, "");

	if (r == 0)
		tree->root = onto;
	return r;
}
