/* SPDX-License-Identifier: MIT */
/*
 * The merge itself: directory by directory from the top, names in order, then
 * all directories once more from the bottom, since their times change with
 * what is put in them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "offline/apply_internal.h"
#include "offline/mutate.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* ---- file systems that are written to ---- */

int apply_touch(struct apply *apply, int fd)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	for (size_t i = 0; r == 0 && i < apply->touched_count; i++)
		if (apply->touched[i].dev == sys_stat_dev(&st))
			return 0;
	if (r < 0 || apply_grow(apply->touched, apply->touched_count) < 0)
		return r < 0 ? r : -ENOMEM;
	int copy = sys_dup(fd);

	if (copy < 0)
		return copy;
	apply->touched[apply->touched_count++] =
		(struct apply_touched){ .dev = sys_stat_dev(&st), .fd = copy };
	return 0;
}

int apply_sync(struct apply *apply)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < apply->touched_count; i++)
		r = mutate_syncfs(apply->touched[i].fd);
	return r < 0 ? apply_fail_path(apply, r, "sync", apply->dest) : 0;
}

/* ---- out of the way ---- */

/* Its owner may do everything with the directory @fd for now. */
static int apply_make_own(int fd)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0 || st.stx_uid != geteuid() || (st.stx_mode & 0700) == 0700)
		return r;
	return mutate_chmod(fd, (st.stx_mode & 07777) | 0700);
}

static int apply_stage_move(struct apply *apply, const struct apply_move *move)
{
	const char *stage_name, *name;
	_cleanup_close_ int stage_dir = apply_open_parent(apply->dest_fd, move->stage, &stage_name);
	_cleanup_close_ int dirfd = apply_open_parent(apply->dest_fd, move->source, &name);
	struct statx st;

	/* The source's directory may have been moved already, after this one. */
	int r = stage_dir < 0 ? stage_dir : sys_stat(stage_dir, stage_name, &st);

	if (r == 0 && !apply_is_moved(move, &st))
		return apply_fail(apply, -EEXIST,
				  "%s/%s is in the way, and is not what this commit puts there",
				  apply->dest, move->stage);
	if (r != -ENOENT)
		return r;
	/* Directories that are moved change in their times, and their own flags keep them here. */
	_cleanup_close_ int fd = dirfd < 0 ? dirfd : sys_open(dirfd, name, O_PATH, 0);

	r = fd < 0 ? fd : sys_stat(fd, "", &st);
	if (r < 0)
		return r;
	if (!apply_is_moved(move, &st))
		return apply_fail(apply, -ESTALE,
				  "%s/%s is to be renamed, but is another object than it was when "
				  "the commit was begun",
				  apply->dest, move->source);
	apply_attr_unprotect(fd);
	apply_attr_unprotect(dirfd);
	r = apply_touch(apply, stage_dir);
	/* A directory that moves has to be writable: its ".." changes. It gets its mode at the end. */
	if (r == 0 && move->is_dir && !apply->is_root_user)
		r = apply_make_own(fd);
	if (r < 0)
		return r;
	return move->is_copied || move->is_linked ?
		       mutate_link(dirfd, name, stage_dir, stage_name) :
		       mutate_rename(dirfd, name, stage_dir, stage_name, RENAME_NOREPLACE);
}

int apply_stage_moves(struct apply *apply)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < apply->move_count; i++) {
		r = apply_stage_move(apply, &apply->moves[i]);
		if (r < 0)
			apply_fail_path(apply, r, "move", apply->moves[i].source);
	}
	return r;
}

/* ---- directories ---- */

/* What a layer with more below has to say of the directory @fd. */
static int apply_mark_dir(struct apply *apply, size_t index, int fd)
{
	const struct apply_dir *dir = &apply->dirs[index];
	const char *opaque_key = xattr_private_name(apply->ns, XATTR_OPAQUE);
	const char *redirect_key = xattr_private_name(apply->ns, XATTR_REDIRECT);
	_cleanup_free_ char *redirect = NULL;
	_cleanup_entry_ struct entry is = ENTRY_INIT;
	bool is_opaque;

	if (!apply->stays_layer || index == 0)
		return 0;
	int r = apply_mark(&apply->dirs[dir->parent].place, apply_basename(dir->path),
			   dir->place.below, &is_opaque, &redirect);

	if (r == 0)
		r = entry_read(fd, "", apply->ns, &is);
	/* First that nothing shows, then what shows. */
	if (r == 0 && is_opaque && is.opaque != OPAQUE_YES)
		r = mutate_setxattr(fd, opaque_key, "y", 1);
	if (r == 0 && redirect && (!is.redirect || strcmp(is.redirect, redirect) != 0))
		r = mutate_setxattr(fd, redirect_key, redirect, strlen(redirect));
	if (r == 0 && !redirect && (is.redirect || is.has_bad_redirect))
		r = mutate_removexattr(fd, redirect_key);
	if (r == 0 && !is_opaque && is.opaque == OPAQUE_YES)
		r = mutate_removexattr(fd, opaque_key);
	return r;
}

/* The attributes of the upper's directory for the destination's @to. */
static int apply_dress_dir(struct apply *apply, size_t index, int to, bool is_final)
{
	_cleanup_close_ int from =
		apply_open_at(apply->upper_fd, apply->dirs[index].path, O_PATH | O_DIRECTORY);
	_cleanup_entry_ struct entry up = ENTRY_INIT;
	struct statx low;
	int r = from < 0 ? from : entry_read(from, "", apply->ns, &up);

	if (r == 0)
		r = sys_stat(to, "", &low);
	if (r < 0)
		return r;
	entry_inherit_owner(&up, &low);
	/* One that is somebody else's can only have changed in what it holds. */
	if (up.owner.marks && !apply->is_root_user && low.stx_uid != geteuid())
		return 0;
	const struct apply_attr attr = {
		.apply = apply, .from = from, .to = to, .st = &up.st, .is_final = is_final
	};

	r = apply_attr_copy(&attr);
	if (r == 0)
		r = apply_mark_dir(apply, index, to);
	return r < 0 || !is_final ? r : apply_attr_times(to, &up.st);
}

static int apply_make_dir(struct apply *apply, size_t index, int dirfd, const char *name)
{
	int r = mutate_mkdir(dirfd, apply->temp, 0700);
	_cleanup_close_ int fd = r < 0 ? r : sys_open(dirfd, apply->temp, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	r = apply_dress_dir(apply, index, fd, false);
	return r < 0 ? r : apply_publish(apply, dirfd, apply->temp, dirfd, name);
}

/* A directory that was moved out of the way comes to its place. */
static int apply_place_dir(struct apply *apply, const struct apply_move *move, int dirfd,
			   const char *name)
{
	const char *stage_name;
	_cleanup_close_ int stage_dir = apply_open_parent(apply->dest_fd, move->stage, &stage_name);
	struct statx st;
	int r = stage_dir < 0 ? stage_dir : sys_stat(stage_dir, stage_name, &st);

	if (r == -ENOENT)
		return apply_prove_moved(apply, move, dirfd, name); /* it has come */
	if (r < 0)
		return r;
	if (apply_is_moved(move, &st))
		return apply_publish(apply, stage_dir, stage_name, dirfd, name);
	/* What it was exchanged for, by a run that did not go on: if it is there. */
	r = apply_prove_moved(apply, move, dirfd, name);
	return r < 0 ? r : apply_remove_tree(apply, stage_dir, stage_name);
}

static int apply_bring_dir(struct apply *apply, size_t index, int dirfd, const char *name)
{
	const struct apply_dir *dir = &apply->dirs[index];
	struct statx st;

	if (dir->move != APPLY_NONE)
		return apply_place_dir(apply, &apply->moves[dir->move], dirfd, name);
	int r = sys_stat(dirfd, name, &st);

	if (r < 0 && r != -ENOENT)
		return r;
	return r == 0 && S_ISDIR(st.stx_mode) ? 0 : apply_make_dir(apply, index, dirfd, name);
}

/* ---- names ---- */

struct apply_walk {
	struct apply *apply;
	size_t dir;
	int upper_fd, dest_fd; /* of that directory */
	struct entry_names names; /* that the upper has in it */
};

static int apply_merge_whiteout(const struct apply_walk *walk, const char *name)
{
	struct apply *apply = walk->apply;
	const char *below = apply->dirs[walk->dir].place.below;

	if (below) {
		_cleanup_free_ char *path = apply_join(below, name);
		int r = path ? apply_below_has(apply, path) : -ENOMEM;

		if (r != 0)
			return r < 0 ? r : apply_publish_whiteout(apply, walk->dest_fd, name);
	}
	return apply_remove(apply, walk->dest_fd, name);
}

static int apply_merge_object(const struct apply_walk *walk, const char *name, const char *path)
{
	struct apply *apply = walk->apply;
	_cleanup_entry_ struct entry up = ENTRY_INIT;
	int r = entry_read(walk->upper_fd, name, apply->ns, &up);

	if (r < 0)
		return r;
	if (up.is_whiteout)
		return apply_merge_whiteout(walk, name);
	if (S_ISDIR(up.st.stx_mode)) {
		size_t index = apply_find_dir(apply, path);

		/* Somebody changed the upper since the plan was made. */
		return index == APPLY_NONE ? -ESTALE :
					     apply_bring_dir(apply, index, walk->dest_fd, name);
	}
	const struct apply_job job = {
		.fromfd = walk->upper_fd,
		.from = name,
		.dirfd = walk->dest_fd,
		.name = name,
		.path = path,
		.up = up,
	};

	return apply_file(apply, &job);
}

static int apply_merge_name(const struct apply_walk *walk, const char *name)
{
	struct apply *apply = walk->apply;
	_cleanup_free_ char *path = apply_join(apply->dirs[walk->dir].path, name);
	int r = path ? apply_merge_object(walk, name, path) : -ENOMEM;

	return r < 0 ? apply_fail_path(apply, r, "merge", path ? path : name) : 0;
}

/* What the upper does not have in a directory that shows nothing but its own. */
static int apply_purge(const struct apply_walk *walk)
{
	_cleanup_entry_names_ struct entry_names there = ENTRY_NAMES_INIT;
	int r = entry_names_read(walk->dest_fd, &there);

	for (size_t i = 0; r == 0 && i < there.count; i++) {
		/* No stage is in such a directory: a name that looks like one is somebody's. */
		if (entry_names_has(&walk->names, there.names[i]))
			continue;
		r = apply_remove(walk->apply, walk->dest_fd, there.names[i]);
	}
	return r;
}

/* Makes the directory one in which everything can be done. */
static int apply_prepare_dir(struct apply *apply, int fd)
{
	int r = apply_touch(apply, fd);

	apply_attr_unprotect(fd);
	if (r == 0)
		r = apply_remove_tree(apply, fd, apply->temp);
	return r < 0 || apply->is_root_user ? r : apply_make_own(fd);
}

/* A directory for reading; its owner may have kept himself out. */
static int apply_open_prepared(struct apply *apply, const char *path)
{
	int fd = apply_open_dir(apply->dest_fd, path);

	if (fd != -EACCES)
		return fd;
	_cleanup_close_ int closed = apply_open_at(apply->dest_fd, path, O_PATH | O_DIRECTORY);
	int r = closed < 0 ? closed : mutate_chmod(closed, 0700);

	return r < 0 ? r : apply_open_dir(apply->dest_fd, path);
}

/* Other file systems take part where they did when the run was planned, and nowhere else. */
static int apply_check_mount(struct apply *apply, const struct apply_dir *dir, int fd)
{
	_cleanup_free_ char *identity = NULL;
	struct statx st;
	int r = sys_stat(fd, "", &st);
	bool is_mount = r == 0 && sys_stat_is_mount_root(&st);

	if (r == 0 && is_mount)
		r = apply_identify(fd, &identity);
	if (r < 0 || (!identity && !dir->identity) ||
	    (identity && dir->identity && strcmp(identity, dir->identity) == 0))
		return r;
	return apply_fail(apply, -ESTALE,
			  "%s/%s is not what it was when the commit was begun (%s, now %s): mount "
			  "what was mounted there, and nothing else",
			  apply->dest, dir->path,
			  dir->identity ? dir->identity : "an ordinary directory",
			  identity ? identity : "an ordinary directory");
}

static int apply_merge_dir(struct apply *apply, size_t index)
{
	const struct apply_dir *dir = &apply->dirs[index];
	_cleanup_close_ int upper_fd = apply_open_dir(apply->upper_fd, dir->path);
	_cleanup_close_ int dest_fd = apply_open_prepared(apply, dir->path);
	struct apply_walk walk = {
		.apply = apply, .dir = index, .upper_fd = upper_fd, .dest_fd = dest_fd
	};
	int r = upper_fd < 0 ? upper_fd : dest_fd;

	/* The root was looked at when it was opened. */
	if (r >= 0)
		r = index > 0 ? apply_check_mount(apply, dir, dest_fd) : 0;
	if (r == 0)
		r = apply_prepare_dir(apply, dest_fd);
	if (r == 0)
		r = entry_names_read(upper_fd, &walk.names);
	for (size_t i = 0; r == 0 && i < walk.names.count; i++)
		r = apply_merge_name(&walk, walk.names.names[i]);
	if (r == 0 && !dir->place.source)
		r = apply_purge(&walk);
	entry_names_deinit(&walk.names);
	return r < 0 ? apply_fail_path(apply, r, "merge", dir->path) : 0;
}

/* ---- hard links that are only below ---- */

/* A directory before names were put into it. */
struct apply_was {
	mode_t mode;
	unsigned int flags; /* that protect it */
};

static int apply_note_was(int fd, struct apply_was *was)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	*was = (struct apply_was){ .mode = st.stx_mode };
	was->flags = (st.stx_attributes & STATX_ATTR_APPEND ? FS_APPEND_FL : 0) |
		     (st.stx_attributes & STATX_ATTR_IMMUTABLE ? FS_IMMUTABLE_FL : 0);
	return 0;
}

/* The directory that got the name: as it was, unless the upper has it, and it is not finished. */
static int apply_restore_parent(struct apply *apply, const struct apply_extra *extra, int dirfd,
				const struct apply_was *was)
{
	const struct timespec times[2] = { { 0, UTIME_OMIT }, extra->parent_mtime };
	_cleanup_free_ char *parent = apply_parent(extra->path);
	int r = parent ? mutate_utimens(dirfd, times) : -ENOMEM;
	struct statx st;

	if (r < 0 || apply_find_dir(apply, parent) != APPLY_NONE)
		return r;
	r = sys_stat(dirfd, "", &st);
	if (r == 0 && st.stx_mode != was->mode)
		r = mutate_chmod(dirfd, was->mode & 07777);
	return r < 0 || !was->flags ? r : apply_attr_protect(dirfd, was->flags);
}

static int apply_merge_extra(struct apply *apply, const struct apply_extra *extra)
{
	const char *name;
	_cleanup_close_ int dirfd = apply_open_parent(apply->dest_fd, extra->path, &name);
	struct apply_job job = {
		.fromfd = apply->index_fd,
		.from = extra->index_name,
		.dirfd = dirfd,
		.name = name,
		.path = extra->path,
	};
	struct apply_was was;
	int r = dirfd < 0 ? dirfd : apply_note_was(dirfd, &was);

	if (r == 0)
		r = apply_prepare_dir(apply, dirfd);
	if (r == 0)
		r = entry_read(job.fromfd, job.from, apply->ns, &job.up);
	/* The file without a name in the upper has one name, but is to get several. */
	if (r == 0 && job.up.st.stx_nlink == 1)
		job.up.st.stx_nlink = 2;
	if (r == 0)
		r = apply_file(apply, &job);
	entry_deinit(&job.up);
	if (r == 0)
		r = apply_restore_parent(apply, extra, dirfd, &was);
	return r < 0 ? apply_fail_path(apply, r, "link", extra->path) : 0;
}

/* ---- the end ---- */

static int apply_finish_dir(struct apply *apply, size_t index)
{
	const struct apply_dir *dir = &apply->dirs[index];
	_cleanup_close_ int fd = apply_open_at(apply->dest_fd, dir->path, O_PATH | O_DIRECTORY);
	_cleanup_close_ int from = apply_open_at(apply->upper_fd, dir->path, O_PATH | O_DIRECTORY);
	int r = fd < 0 ? fd : from < 0 ? from : apply_dress_dir(apply, index, fd, true);
	unsigned int flags = r == 0 ? apply_attr_protection(apply, from) : 0;

	if (flags)
		r = apply_attr_protect(fd, flags);
	return r < 0 ? apply_fail_path(apply, r, "set the attributes of", dir->path) : 0;
}

/* Files that were linked have their names twice now; all else has gone from its stage. */
static int apply_drop_stage(struct apply *apply, const struct apply_move *move)
{
	const char *name;
	_cleanup_close_ int dirfd = apply_open_parent(apply->dest_fd, move->stage, &name);
	struct statx st;
	int r = dirfd < 0 ? dirfd : sys_stat(dirfd, name, &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if ((!move->is_copied && !move->is_linked) || !apply_is_moved(move, &st))
		return apply_fail(apply, -ESTALE,
				  "%s/%s was not brought to its place, or is not this commit's",
				  apply->dest, move->stage);
	return apply_remove_tree(apply, dirfd, name);
}

static int apply_drop_stages(struct apply *apply)
{
	int r = 0;

	/* That of a copy tells whether there is one. */
	if (apply->move_count > 0 && !apply->is_merged) {
		r = apply_sync(apply);
		if (r == 0)
			r = apply_journal_mark(apply, APPLY_MARK_MERGED);
	}
	for (size_t i = 0; r == 0 && i < apply->move_count; i++) {
		r = apply_drop_stage(apply, &apply->moves[i]);
		if (r < 0)
			apply_fail_path(apply, r, "remove", apply->moves[i].stage);
	}
	return r;
}

static int apply_protect_files(struct apply *apply)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < apply->protected_count; i++) {
		const struct apply_protected *file = &apply->protected[i];
		_cleanup_close_ int fd = apply_open_at(apply->dest_fd, file->path, O_PATH);

		r = fd < 0 ? fd : apply_attr_protect(fd, file->flags);
		if (r < 0)
			apply_fail_path(apply, r, "protect", file->path);
	}
	return r;
}

int apply_merge(struct apply *apply)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < apply->dir_count; i++)
		r = apply_merge_dir(apply, i);
	for (size_t i = 0; r == 0 && i < apply->extra_count; i++)
		r = apply_merge_extra(apply, &apply->extras[i]);
	if (r == 0)
		r = apply_drop_stages(apply);
	if (r == 0)
		r = apply_protect_files(apply);
	for (size_t i = apply->dir_count; r == 0 && i > 0; i--)
		r = apply_finish_dir(apply, i - 1);
	return r;
}

/* ---- the upper ---- */

struct apply_emptying {
	struct apply *apply;
	int fd;
	bool is_progress;
};

static int apply_empty_one(const struct sys_dirent *entry, void *context)
{
	struct apply_emptying *emptying = context;

	emptying->is_progress = true;
	return apply_remove_tree(emptying->apply, emptying->fd, entry->name);
}

/* All that is in the directory @fd. */
static int apply_empty(struct apply *apply, int fd)
{
	struct apply_emptying emptying = { .apply = apply, .fd = fd };
	int r = 0;

	do {
		emptying.is_progress = false;
		r = sys_dir_for_each(fd, apply_empty_one, &emptying);
	} while (r == 0 && emptying.is_progress);
	return r;
}

static int apply_empty_work(struct apply *apply, const char *name)
{
	_cleanup_close_ int fd = apply_open_work(apply->work_fd, name, false);

	return fd == -ENOENT ? 0 : fd < 0 ? fd : apply_empty(apply, fd);
}

/* The directory of the upper shows the time that the union's root had. */
static int apply_restore_root(struct apply *apply)
{
	struct statx st;
	const char *impure = xattr_private_name(apply->ns, XATTR_IMPURE);
	int r = mutate_removexattr(apply->upper_fd, impure);

	if (r == -ENODATA || r == -EOPNOTSUPP)
		r = 0;
	if (r == 0)
		r = sys_stat(apply->dest_fd, "", &st);
	return r < 0 ? r : apply_attr_times(apply->upper_fd, &st);
}

int apply_empty_upper(struct apply *apply)
{
	int r = apply_empty(apply, apply->upper_fd);

	if (r == 0)
		r = apply_empty_work(apply, "index");
	if (r == 0)
		r = apply_empty_work(apply, "origin");
	if (r == 0)
		r = apply_restore_root(apply);
	if (r == 0)
		r = mutate_syncfs(apply->upper_fd);
	return r < 0 ? apply_fail_path(apply, r, "empty", apply->config->target->upper) : 0;
}
