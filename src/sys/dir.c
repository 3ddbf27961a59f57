/* SPDX-License-Identifier: MIT */
#include "sys/dir.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/file.h"

#define SYS_DIR_BUFFER_SIZE 32768

int sys_getdents(int fd, void *buf, size_t size)
{
	return (int)sys_retry(getdents64(fd, buf, size));
}

int sys_dirent_next(const void *buf, size_t size, size_t *position, struct sys_dirent *entry)
{
	const size_t header = offsetof(struct dirent64, d_name);
	const struct dirent64 *raw = (const void *)((const char *)buf + *position);
	size_t left = size - *position;
	size_t length;

	if (left == 0)
		return 0;
	if (left <= header || raw->d_reclen <= header || raw->d_reclen > left)
		return -EIO;
	length = strnlen(raw->d_name, raw->d_reclen - header);
	if (length == 0 || length == raw->d_reclen - header)
		return -EIO;
	entry->ino = raw->d_ino;
	entry->offset = (uint64_t)raw->d_off;
	entry->type = raw->d_type;
	entry->name = raw->d_name;
	entry->name_length = (uint16_t)length;
	*position += raw->d_reclen;
	return 1;
}

static bool sys_dirent_is_dot(const struct sys_dirent *entry)
{
	return strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0;
}

static int sys_dir_visit(const void *buf, size_t size,
			 int (*visit)(const struct sys_dirent *entry, void *context), void *context)
{
	struct sys_dirent entry;
	size_t position = 0;
	int r;

	while ((r = sys_dirent_next(buf, size, &position, &entry)) > 0) {
		if (sys_dirent_is_dot(&entry))
			continue;
		r = visit(&entry, context);
		if (r != 0)
			return r;
	}
	return r;
}

int sys_dir_for_each(int fd, int (*visit)(const struct sys_dirent *entry, void *context),
		     void *context)
{
	_cleanup_free_ void *buf = malloc(SYS_DIR_BUFFER_SIZE);
	int r;

	if (!buf)
		return -ENOMEM;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((r = sys_getdents(fd, buf, SYS_DIR_BUFFER_SIZE)) > 0) {
		r = sys_dir_visit(buf, (size_t)r, visit, context);
		if (r != 0)
			return r;
	}
	return r;
}

/* ---- what names are ---- */

/* Of XFS, whose headers are not the kernel's (XFS_IOC_FSGEOMETRY_V1): only the flags are of interest. */
struct xfs_geometry {
	uint8_t before[92];
	uint32_t flags;
	uint8_t after[16];
};
#define XFS_GEOMETRY _IOR('X', 100, struct xfs_geometry)
#define XFS_GEOMETRY_IGNORES_CASE (1U << 12)

_Static_assert(sizeof(struct xfs_geometry) == 112, "the kernel's");

static bool sys_xfs_ignores_case(int fd)
{
	struct xfs_geometry geometry = { .flags = 0 };

	return sys_retry(ioctl(fd, XFS_GEOMETRY, &geometry)) < 0 ||
	       geometry.flags & XFS_GEOMETRY_IGNORES_CASE;
}

/* Where file systems have it, it is a directory's own affair; @if_untold where they do not tell. */
static bool sys_dir_ignores_case(int fd, bool if_untold)
{
	unsigned int flags = 0;

	return sys_get_fsflags(fd, &flags) < 0 ? if_untold : flags & FS_CASEFOLD_FL;
}

/* Until it has its key, it lists its names encoded; and the key may come at any time. */
static bool sys_dir_is_encrypted(int fd)
{
	struct statx st;

	return sys_stat_local(fd, "", STATX_TYPE, &st) < 0 ||
	       st.stx_attributes & STATX_ATTR_ENCRYPTED;
}

bool sys_dir_lists_all(int fd, long magic)
{
	if (sys_dir_is_encrypted(fd))
		return false;
	switch (magic) {
	case BTRFS_SUPER_MAGIC:
	case EROFS_SUPER_MAGIC_V1:
	case RAMFS_MAGIC:
	case SQUASHFS_MAGIC:
		return true;
	case EXT4_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
		return !sys_dir_ignores_case(fd, true);
	case OVERLAYFS_SUPER_MAGIC: /* has the flags of what lies below it, if that has any */
	case TMPFS_MAGIC: /* did not have flags before it could ignore case */
		return !sys_dir_ignores_case(fd, false);
	case XFS_SUPER_MAGIC:
		return !sys_xfs_ignores_case(fd);
	default:
		return false;
	}
}
