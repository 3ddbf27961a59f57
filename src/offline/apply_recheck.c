/* SPDX-License-Identifier: MIT */
/*
 * Whether others changed the destination since an unfinished run was planned:
 * what they made in the place of what is not merged yet was never looked at,
 * and would be lost.
 *
 * The run's own changes are told apart by what it never does: give an object
 * of others a new time of modification, or make one that is not like the
 * upper's. Change times say nothing here, for a file gets a new one whenever
 * another name of it comes or goes.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "format/whiteout.h"
#include "offline/apply_internal.h"
#include "sys/file.h"

static bool apply_is_after_plan(const struct apply *apply, const struct statx_timestamp *time)
{
	const struct timespec *planned = &apply->planned;

	return time->tv_sec != planned->tv_sec ? time->tv_sec > planned->tv_sec :
						 time->tv_nsec > planned->tv_nsec;
}

static bool apply_is_new(const struct apply *apply, const struct statx *st)
{
	if (st->stx_mask & STATX_BTIME && apply_is_after_plan(apply, &st->stx_btime))
		return true;
	/* A directory changes with its names, which are looked at one by one. */
	return !S_ISDIR(st->stx_mode) && apply_is_after_plan(apply, &st->stx_mtime);
}

/* True if it will be moved out of the way before anything is merged. */
static bool apply_will_move(const struct apply *apply, const struct statx *st)
{
	for (size_t i = 0; !apply->is_staged && i < apply->move_count; i++)
		if (apply_is_moved(&apply->moves[i], st))
			return true;
	return false;
}

/* A link or a copy of the upper's: the latter has its time, as exactly as the file system can. */
static bool apply_is_brought(const struct statx *up, const struct statx *low)
{
	if (up->stx_ino == low->stx_ino && sys_stat_dev(up) == sys_stat_dev(low))
		return true;
	return (up->stx_mode & S_IFMT) == (low->stx_mode & S_IFMT) &&
	       up->stx_size == low->stx_size && up->stx_mtime.tv_sec == low->stx_mtime.tv_sec;
}

/* ---- what is to go ---- */

struct apply_going {
	struct apply *apply;
	char **todo; /* directories; owned, as are they */
	size_t count;
};

/* 1: it is new. A directory is looked into later. Takes @path over. */
static int apply_look_at(struct apply_going *going, const struct statx *st, char *path)
{
	_cleanup_free_ char *owned = path;

	if (!owned)
		return -ENOMEM;
	if (apply_will_move(going->apply, st) ||
	    whiteout_is_device(st->stx_mode, sys_stat_rdev(st)))
		return 0;
	if (apply_is_new(going->apply, st))
		return 1;
	/* Removing ends at what is mounted, with an error. */
	if (!S_ISDIR(st->stx_mode) || sys_stat_is_mount_root(st))
		return 0;
	if (apply_grow(going->todo, going->count) < 0)
		return -ENOMEM;
	going->todo[going->count++] = ptr_take(owned);
	return 0;
}

static int apply_look_in(struct apply_going *going, const char *directory)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	_cleanup_close_ int fd = apply_open_dir(going->apply->dest_fd, directory);
	int r = fd < 0 ? fd : entry_names_read(fd, &names);
	struct statx st;

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		r = sys_stat(fd, names.names[i], &st);
		if (r == 0)
			r = apply_look_at(going, &st, apply_join(directory, names.names[i]));
	}
	return r;
}

/* 1: something new is in the tree @path of the destination. */
static int apply_has_new(struct apply *apply, const struct statx *st, const char *path)
{
	struct apply_going going = { .apply = apply };
	int r = apply_look_at(&going, st, strdup(path));

	/* The list grows while it is read. */
	for (size_t i = 0; r == 0 && i < going.count; i++)
		r = apply_look_in(&going, going.todo[i]);
	for (size_t i = 0; i < going.count; i++)
		free(going.todo[i]);
	free(going.todo);
	return r;
}

/* ---- names ---- */

struct apply_recheck {
	struct apply *apply;
	char **paths; /* where each directory is in the destination now; owned, as are they */
	size_t dir;
	int upper_fd, dest_fd; /* of that */
};

static int apply_recheck_object(const struct apply_recheck *check, const char *name,
				const struct statx *low, const char *shown)
{
	struct apply *apply = check->apply;
	_cleanup_entry_ struct entry up = ENTRY_INIT;
	int r = entry_read(check->upper_fd, name, apply->ns, &up);

	if (r < 0)
		return r;
	if (!up.is_whiteout && S_ISDIR(up.st.stx_mode) && S_ISDIR(low->stx_mode)) {
		size_t index = apply_find_dir(apply, shown);
		size_t move = index == APPLY_NONE ? APPLY_NONE : apply->dirs[index].move;

		/* Its names have their turn. */
		if (move == APPLY_NONE || apply_is_moved(&apply->moves[move], low))
			return 0;
	} else if (!up.is_whiteout && !S_ISDIR(up.st.stx_mode) && apply_is_brought(&up.st, low)) {
		return 0;
	}
	_cleanup_free_ char *path = apply_join(check->paths[check->dir], name);

	return path ? apply_has_new(apply, low, path) : -ENOMEM;
}

static int apply_recheck_name(const struct apply_recheck *check, const char *name)
{
	struct apply *apply = check->apply;
	_cleanup_free_ char *shown = apply_join(apply->dirs[check->dir].path, name);
	struct statx low;
	int r = shown ? sys_stat(check->dest_fd, name, &low) : -ENOMEM;

	if (r == 0)
		r = apply_recheck_object(check, name, &low, shown);
	if (r > 0)
		apply_complain(apply, shown, "was changed below since the commit was begun");
	return r == -ENOENT ? 0 : r < 0 ? r : 0;
}

/* What the upper does not have goes from a directory that shows nothing but its own. */
static int apply_recheck_others(const struct apply_recheck *check, const struct entry_names *upper)
{
	struct apply *apply = check->apply;
	_cleanup_entry_names_ struct entry_names there = ENTRY_NAMES_INIT;
	int r = entry_names_read(check->dest_fd, &there);

	for (size_t i = 0; r == 0 && i < there.count; i++) {
		const char *name = there.names[i];
		struct statx st;

		if (strcmp(name, apply->temp) == 0 || entry_names_has(upper, name))
			continue;
		_cleanup_free_ char *path = apply_join(check->paths[check->dir], name);
		_cleanup_free_ char *shown = apply_join(apply->dirs[check->dir].path, name);

		r = path && shown ? sys_stat(check->dest_fd, name, &st) : -ENOMEM;
		if (r == 0)
			r = apply_has_new(apply, &st, path);
		if (r > 0)
			apply_complain(apply, shown, "was made below since the commit was begun");
		r = MIN(r, 0);
	}
	return r;
}

/* ---- directories ---- */

static bool apply_is_at(struct apply *apply, const struct apply_move *move, const char *path)
{
	const char *name;
	_cleanup_close_ int dirfd = apply_open_parent(apply->dest_fd, path, &name);
	struct statx st;

	return dirfd >= 0 && sys_stat(dirfd, name, &st) == 0 && apply_is_moved(move, &st);
}

/* One that moves is where it was, or under its stage, or in its place. The caller's; NULL: no memory. */
static char *apply_locate(const struct apply_recheck *check)
{
	struct apply *apply = check->apply;
	const struct apply_dir *dir = &apply->dirs[check->dir];
	const struct apply_move *move = dir->move == APPLY_NONE ? NULL : &apply->moves[dir->move];

	if (check->dir == 0)
		return strdup("");
	if (move && apply_is_at(apply, move, move->stage))
		return strdup(move->stage);
	if (move && !apply->is_staged && apply_is_at(apply, move, move->source))
		return strdup(move->source);
	return apply_join(check->paths[dir->parent], apply_basename(dir->path));
}

static int apply_recheck_dir(struct apply_recheck *check)
{
	struct apply *apply = check->apply;
	const struct apply_dir *dir = &apply->dirs[check->dir];
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	_cleanup_close_ int upper_fd = apply_open_dir(apply->upper_fd, dir->path);
	_cleanup_close_ int dest_fd = apply_open_dir(apply->dest_fd, check->paths[check->dir]);
	struct statx st;
	int r = upper_fd < 0 ? upper_fd : 0;

	/* It is still to be made; and a file in its place was complained of. */
	if (r == 0 && (dest_fd == -ENOENT || dest_fd == -ENOTDIR || dest_fd == -ELOOP))
		return 0;
	if (r == 0)
		r = dest_fd < 0 ? dest_fd : sys_stat(dest_fd, "", &st);
	if (r == 0)
		r = entry_names_read(upper_fd, &names);
	check->upper_fd = upper_fd;
	check->dest_fd = dest_fd;
	/* What is in the place of a new directory now may be one that moves away. */
	bool is_own = r == 0 && (dir->move != APPLY_NONE || !apply_will_move(apply, &st) ||
				 dir->place.source);

	for (size_t i = 0; r == 0 && is_own && i < names.count; i++)
		r = apply_recheck_name(check, names.names[i]);
	if (r == 0 && is_own && !dir->place.source)
		r = apply_recheck_others(check, &names);
	return r < 0 ? apply_fail_path(apply, r, "look at", dir->path) : 0;
}

int apply_recheck(struct apply *apply)
{
	struct apply_recheck check = { .apply = apply };
	int r = 0;

	check.paths = calloc(apply->dir_count + 1, sizeof(*check.paths));
	if (!check.paths)
		return -ENOMEM;
	for (; r == 0 && check.dir < apply->dir_count; check.dir++) {
		check.paths[check.dir] = apply_locate(&check);
		r = check.paths[check.dir] ? apply_recheck_dir(&check) : -ENOMEM;
	}
	for (size_t i = 0; i < apply->dir_count; i++)
		free(check.paths[i]);
	free(check.paths);
	return r;
}
