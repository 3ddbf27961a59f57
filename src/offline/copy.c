/* SPDX-License-Identifier: MIT */
#include "offline/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>

#include "base/cleanup.h"
#include "format/acl.h"
#include "offline/mutate.h"
#include "sys/copy.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* ---- the bare object ---- */

static int copy_make_symlink(const struct copy *copy, int dirfd, const char *name)
{
	char target[PATH_MAX];
	ssize_t size = sys_readlink(copy->from, "", target, sizeof(target) - 1);

	if (size < 0)
		return (int)size;
	target[size] = '\0';
	return mutate_symlink(target, dirfd, name);
}

static int copy_make_regular(const struct copy *copy, int dirfd, const char *name, int *fdp)
{
	_cleanup_close_ int fd = mutate_create(dirfd, name, O_RDWR, 0600);

	if (fd < 0)
		return fd;
	int r = copy_data(copy, fd);

	if (r < 0)
		mutate_unlink(dirfd, name);
	else
		*fdp = fd_take(&fd);
	return r;
}

int copy_make(const struct copy *copy, int dirfd, const char *name, int *fd)
{
	mode_t mode = copy->st->stx_mode;
	int r;

	if (S_ISREG(mode))
		return copy_make_regular(copy, dirfd, name, fd);
	if (S_ISDIR(mode))
		r = mutate_mkdir(dirfd, name, 0700);
	else if (S_ISLNK(mode))
		r = copy_make_symlink(copy, dirfd, name);
	else
		r = mutate_mknod(dirfd, name, (mode & S_IFMT) | 0600, sys_stat_rdev(copy->st));
	if (r < 0)
		return r;
	r = sys_open(dirfd, name, O_PATH | O_NOFOLLOW, 0);
	if (r >= 0)
		*fd = r;
	else if (S_ISDIR(mode))
		mutate_rmdir(dirfd, name);
	else
		mutate_unlink(dirfd, name);
	return r < 0 ? r : 0;
}

int copy_data(const struct copy *copy, int to)
{
	if (copy->no_data || copy->st->stx_size == 0)
		return copy->st->stx_size ? mutate_truncate(to, copy->st->stx_size) : 0;
	_cleanup_close_ int from = sys_reopen(copy->data >= 0 ? copy->data : copy->from, O_RDONLY);

	if (from < 0)
		return from;
	sys_keep_atime(from);
	const struct sys_copy data = {
		.from = from,
		.to = to,
		.size = copy->st->stx_size,
		.is_interrupted = copy->is_interrupted,
		.progress = copy->progress,
		.context = copy->context,
	};

	return mutate_copy_data(&data);
}

/* ---- what belongs to it ---- */

/* An attribute whose loss would change who may do what. */
static bool copy_must_have(const char *key)
{
	return !strncmp(key, "security.", strlen("security.")) || !strcmp(key, ACL_XATTR_ACCESS) ||
	       !strcmp(key, ACL_XATTR_DEFAULT);
}

static int copy_xattr(const struct copy *copy, const char *key, int to)
{
	_cleanup_free_ char *value = NULL;
	ssize_t size = sys_getxattr_alloc(copy->from, key, &value);
	int r = size < 0 ? (int)size : mutate_setxattr(to, key, value, (size_t)size);

	if (size == -ENODATA)
		return 0; /* a name that has no value to this reader */
	return r == -EOPNOTSUPP && !copy_must_have(key) ? 0 : r;
}

static int copy_xattrs(const struct copy *copy, int to)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(copy->from, &list);
	int r = 0;

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : (int)size;
	for (const char *key = list; r == 0 && key < list + size; key += strlen(key) + 1) {
		if (!copy->filter || copy->filter(copy->context, key))
			r = copy_xattr(copy, key, to);
	}
	return r;
}

/* Those of chattr(1) that keep nobody from changing the file; where there are such flags. */
static int copy_fsflags(const struct copy *copy, int to)
{
	const unsigned int copied = FS_SYNC_FL | FS_NOATIME_FL | FS_DIRSYNC_FL | FS_NODUMP_FL;
	unsigned int flags, own;

	if (!S_ISREG(copy->st->stx_mode) && !S_ISDIR(copy->st->stx_mode))
		return 0;
	_cleanup_close_ int from_fd = sys_reopen(copy->from, O_RDONLY | O_NONBLOCK);

	if (from_fd < 0 || sys_get_fsflags(from_fd, &flags) < 0 || !(flags & copied))
		return 0;
	_cleanup_close_ int to_fd = sys_reopen(to, O_RDONLY | O_NONBLOCK);

	if (to_fd < 0 || sys_get_fsflags(to_fd, &own) < 0)
		return 0;
	int r = mutate_set_fsflags(to_fd, own | (flags & copied));

	return r == -EOPNOTSUPP || r == -ENOTTY || r == -EPERM ? 0 : r;
}

int copy_attributes(const struct copy *copy, int to)
{
	const struct statx *st = copy->st;
	struct statx made;
	int r = sys_stat(to, "", &made);

	/* The owner first: a change of owner takes set-id bits and capabilities away. */
	if (r == 0 && (made.stx_uid != st->stx_uid || made.stx_gid != st->stx_gid))
		r = mutate_chown(to, st->stx_uid, st->stx_gid);
	if (r == 0)
		r = copy_xattrs(copy, to);
	if (r == 0)
		r = copy_fsflags(copy, to);
	if (r == 0 && !S_ISLNK(st->stx_mode))
		r = mutate_chmod(to, st->stx_mode & 07777);
	return r;
}

int copy_times(const struct statx *st, int to)
{
	const struct timespec times[2] = {
		{ st->stx_atime.tv_sec, st->stx_atime.tv_nsec },
		{ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec },
	};

	return mutate_utimens(to, times);
}

/* ---- removing ---- */

static int copy_remove_entry(const struct sys_dirent *entry, void *context)
{
	return copy_remove(*(const int *)context, entry->name);
}

/* A directory is emptied until nothing is left: removing may make a stream skip entries. */
static int copy_empty(int dirfd, const char *name)
{
	_cleanup_close_ int path = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

	if (path < 0)
		return path;
	/* Whoever may not override modes must be let in. */
	mutate_chmod(path, 0700);
	_cleanup_close_ int fd = sys_reopen(path, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : sys_dir_for_each(fd, copy_remove_entry, &fd);
}

int copy_remove(int dirfd, const char *name)
{
	int r = mutate_unlink(dirfd, name);

	if (r != -EISDIR && r != -EPERM)
		return r;
	do {
		r = copy_empty(dirfd, name);
		if (r == 0)
			r = mutate_rmdir(dirfd, name);
	} while (r == -ENOTEMPTY);
	return r;
}
