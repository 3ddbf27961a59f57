/* SPDX-License-Identifier: MIT */
/*
 * The directories that become layers.
 *
 * All paths are opened first, as the user sees them, and checked against each
 * other; only then do they become clones, from which no way leads up.
 */
#include "core/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sys/file.h"
#include "sys/mount.h"

/* Appends the sentence and returns the errno it explains. */
#define source_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- opening ---- */

void source_list_deinit(struct source_list *list)
{
	for (unsigned int i = 0; i < list->count; i++)
		cleanup_close(&list->items[i].fd);
	free(list->items);
}

static int source_identify(struct source *source)
{
	struct statx st;
	int r = sys_stat(source->fd, "", &st);

	if (r < 0)
		return r;
	source->dev = sys_stat_dev(&st);
	source->ino = st.stx_ino;
	return sys_mount_id(source->fd, &source->mount);
}

static int source_list_add(struct source_list *list, const char *option, const char *path,
			   struct strbuf *why)
{
	struct source *source = &list->items[list->count];

	*source = (struct source){ .option = option, .path = path };
	source->fd = sys_open_path(path, O_PATH | O_DIRECTORY);
	int r = source->fd < 0 ? source->fd : source_identify(source);

	list->count++; /* its descriptor is to be closed from here on */
	return r < 0 ? source_fail(why, r, "%s=%s: %s", option, path, strerror(-r)) : 0;
}

int source_list_open(struct source_list *list, const struct core_config *config, struct strbuf *why)
{
	int r = 0;

	list->items = calloc(config->lowers.count + 2, sizeof(*list->items));
	if (!list->items)
		return -ENOMEM;
	if (config->upperdir) {
		r = source_list_add(list, "upperdir", config->upperdir, why);
		if (r == 0)
			r = source_list_add(list, "workdir", config->workdir, why);
	}
	for (size_t i = 0; i < config->lowers.count && r == 0; i++) {
		const struct lowerdir *lower = &config->lowers.items[i];

		r = source_list_add(list, lower->data_only ? "datadir" : "lowerdir", lower->path,
				    why);
	}
	return r;
}

/* ---- checks ---- */

static bool source_is_same(const struct source *a, const struct source *b)
{
	return a->ino == b->ino && a->dev == b->dev;
}

/*
 * Steps to the parent directory within the mount; false at its root, or where the way up is
 * barred (then nothing above can be reached from below either).
 */
static bool source_go_up(struct source *at)
{
	char path[SYS_FD_PATH_MAX + 4];
	char fd_path[SYS_FD_PATH_MAX];
	struct source parent = *at;

	snprintf(path, sizeof(path), "%s/..", sys_fd_path(at->fd, fd_path));
	parent.fd = sys_open_path(path, O_PATH | O_DIRECTORY);
	if (parent.fd < 0)
		return false;
	if (source_identify(&parent) < 0 || parent.mount != at->mount ||
	    source_is_same(&parent, at)) {
		cleanup_close(&parent.fd);
		return false;
	}
	cleanup_close(&at->fd);
	*at = parent;
	return true;
}

/* The item of @list (other than number @self) that number @self is or lies in; NULL: none. */
static const struct source *source_list_find_above(const struct source_list *list,
						   unsigned int self, unsigned int count)
{
	struct source at = list->items[self];
	const struct source *found = NULL;

	at.fd = sys_reopen(at.fd, O_PATH | O_DIRECTORY);
	if (at.fd < 0)
		return NULL;
	do {
		for (unsigned int i = 0; i < count && !found; i++) {
			if (i != self && source_is_same(&at, &list->items[i]))
				found = &list->items[i];
		}
	} while (!found && source_go_up(&at));
	cleanup_close(&at.fd);
	return found;
}

static int source_check_upper(const struct source_list *list, struct strbuf *why)
{
	const struct source *upper = &list->items[0], *work = &list->items[1];

	if (upper->mount != work->mount)
		return source_fail(why, -EINVAL,
				   "workdir=%s and upperdir=%s must lie on the same mount",
				   work->path, upper->path);
	if (source_list_find_above(list, 0, 2) || source_list_find_above(list, 1, 2))
		return source_fail(
			why, -EINVAL,
			"workdir=%s and upperdir=%s must be separate: neither may be, or "
			"lie in, the other",
			work->path, upper->path);
	return 0;
}

/*
 * A lower may not be, or lie in, another layer.  The reverse for an upper (a new upper
 * somewhere below lowerdir=/) is allowed, as in the kernel; a lookup that meets it fails.
 */
static int source_check_overlap(const struct source_list *list, unsigned int first_lower,
				struct strbuf *why)
{
	for (unsigned int i = first_lower; i < list->count; i++) {
		const struct source *self = &list->items[i];
		const struct source *other = source_list_find_above(list, i, list->count);

		if (other)
			return source_fail(why, -ELOOP, "%s=%s overlaps with %s=%s", self->option,
					   self->path, other->option, other->path);
	}
	return 0;
}

int source_list_check(const struct source_list *list, bool has_upper, struct strbuf *why)
{
	int r = has_upper ? source_check_upper(list, why) : 0;

	return r < 0 ? r : source_check_overlap(list, has_upper ? 2 : 0, why);
}

/* ---- private clones ---- */

/* The path of @source as it is now, from this process's root. */
static int source_find_path(const struct source *source, char path[PATH_MAX])
{
	char fd_path[SYS_FD_PATH_MAX];
	ssize_t size = sys_readlink(AT_FDCWD, sys_fd_path(source->fd, fd_path), path, PATH_MAX);

	if (size < 0)
		return (int)size;
	if (size == PATH_MAX || path[0] != '/')
		return -ENAMETOOLONG;
	path[size] = '\0';
	return 0;
}

/* Length of the path of the directory that both lie in, without a slash at its end. */
static size_t source_common_length(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] == b[i] && a[i]; i++)
		common = a[i] == '/' ? i : common;
	return common;
}

/* Opens @path, which starts with a slash, below @rootfd, and makes sure that it is @source. */
static int source_open_below(const struct source *source, int rootfd, char *path)
{
	struct source found = { .fd = sys_reopen(rootfd, O_PATH | O_DIRECTORY) };

	for (char *name; found.fd >= 0 && (name = strsep(&path, "/"));) {
		if (!*name)
			continue;
		int fd = sys_open(found.fd, name, O_PATH | O_DIRECTORY, 0);

		cleanup_close(&found.fd);
		found.fd = fd;
	}
	if (found.fd < 0)
		return found.fd;
	int r = source_identify(&found);

	if (r == 0 && !source_is_same(&found, source))
		r = -ESTALE;
	if (r < 0)
		cleanup_close(&found.fd);
	return r < 0 ? r : found.fd;
}

/*
 * No rename goes from one mount to another, so upper and work directory need to be in the same
 * clone: that of the nearest directory above both. Any failure is one to clone, and no more.
 */
static int source_clone_upper(struct source *upper, struct source *work, bool read_only)
{
	char upper_path[PATH_MAX], work_path[PATH_MAX], common_path[PATH_MAX];
	int r = source_find_path(upper, upper_path);

	if (r == 0)
		r = source_find_path(work, work_path);
	if (r < 0)
		return r;
	size_t length = source_common_length(upper_path, work_path);

	snprintf(common_path, sizeof(common_path), "%.*s/", (int)length, upper_path);
	_cleanup_close_ int fd = sys_open_path(common_path, O_PATH | O_DIRECTORY);

	struct source common = { .fd = fd };

	r = fd < 0 ? fd : source_identify(&common);
	if (r == 0 && common.mount != upper->mount)
		r = -EXDEV;
	_cleanup_close_ int clone =
		r < 0 ? r : sys_mount_clone(fd, read_only ? SYS_CLONE_READ_ONLY : 0);

	if (clone < 0)
		return clone;
	_cleanup_close_ int upper_fd = source_open_below(upper, clone, upper_path + length);
	_cleanup_close_ int work_fd = source_open_below(work, clone, work_path + length);

	if (upper_fd < 0 || work_fd < 0)
		return upper_fd < 0 ? upper_fd : work_fd;
	cleanup_close(&upper->fd);
	cleanup_close(&work->fd);
	upper->is_private = work->is_private = true;
	upper->fd = fd_take(&upper_fd);
	work->fd = fd_take(&work_fd);
	return 0;
}

void source_list_clone(struct source_list *list, bool has_upper, bool read_only, bool cross_mounts)
{
	/* In a user namespace mounts of its parent must not be uncovered: all or nothing. */
	const unsigned int flags = SYS_CLONE_READ_ONLY |
				   (cross_mounts ? SYS_CLONE_BELOW : SYS_CLONE_LOCKED_BELOW);

	if (has_upper)
		source_clone_upper(&list->items[0], &list->items[1], read_only);
	for (unsigned int i = has_upper ? 2 : 0; i < list->count; i++) {
		int fd = sys_mount_clone(list->items[i].fd, flags);

		if (fd < 0)
			continue;
		cleanup_close(&list->items[i].fd);
		list->items[i].fd = fd;
		list->items[i].is_private = true;
	}
}
