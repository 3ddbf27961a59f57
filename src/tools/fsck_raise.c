/* SPDX-License-Identifier: MIT */
#include "tools/fsck_raise.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "offline/view.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define FSCK_RAISED "#fsck-dir"

/* The names of its attributes, the caller's; the format's own are not among them. */
static ssize_t fsck_raise_list(struct core *view, uint64_t node, char **list)
{
	ssize_t size = core_listxattr(view, &view_call, node, NULL, 0);

	*list = size > 0 ? malloc((size_t)size) : NULL;
	if (size <= 0)
		return size == -EOPNOTSUPP ? 0 : size;
	return *list ? core_listxattr(view, &view_call, node, *list, (size_t)size) : -ENOMEM;
}

static int fsck_raise_attribute(struct core *view, uint64_t node, const char *key, int fd)
{
	ssize_t size = core_getxattr(view, node, key, NULL, 0);
	_cleanup_free_ char *value = size > 0 ? malloc((size_t)size) : NULL;

	if (size > 0)
		size = value ? core_getxattr(view, node, key, value, (size_t)size) : -ENOMEM;
	return size < 0 ? (int)size : sys_setxattr(fd, key, value, (size_t)size, 0);
}

static int fsck_raise_attributes(struct core *view, uint64_t node, int fd)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = fsck_raise_list(view, node, &list);
	int r = size < 0 ? (int)size : 0;

	for (const char *at = list; r == 0 && at < list + size; at += strlen(at) + 1)
		r = fsck_raise_attribute(view, node, at, fd);
	return r;
}

/* The owner before the mode, which a change of owner takes bits from; the times last. */
static int fsck_raise_dress(struct core *view, uint64_t node, int fd)
{
	struct statx st;
	int r = core_getattr(view, node, &st);
	const struct timespec times[2] = {
		{ st.stx_atime.tv_sec, st.stx_atime.tv_nsec },
		{ st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec },
	};

	if (r == 0)
		r = sys_chown(fd, st.stx_uid, st.stx_gid);
	if (r == 0)
		r = fsck_raise_attributes(view, node, fd);
	if (r == 0)
		r = sys_chmod(fd, st.stx_mode & 07777);
	return r < 0 ? r : sys_utimens(fd, times);
}

int fsck_raise(const struct fsck_object *object, const struct fsck_below *below)
{
	int work = object->fsck->work_fd;

	if (work < 0)
		return -EXDEV;
	sys_rmdir(work, FSCK_RAISED); /* of a run that was cut off */
	int r = sys_mkdir(work, FSCK_RAISED, 0700);
	_cleanup_close_ int fd = r < 0 ? r : sys_open(work, FSCK_RAISED, O_RDONLY | O_DIRECTORY, 0);

	r = fd < 0 ? fd : fsck_raise_dress(object->fsck->below, below->node, fd);
	if (r == 0)
		r = sys_fsync(fd, false);
	if (r == 0)
		r = sys_rename(work, FSCK_RAISED, object->dirfd, object->name, RENAME_NOREPLACE);
	if (r < 0)
		sys_rmdir(work, FSCK_RAISED);
	return r;
}
