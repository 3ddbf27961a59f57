/* SPDX-License-Identifier: MIT */
#include "sys/mount.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/file.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif

/* struct mount_attr of linux/mount.h (5.12), whose header clashes with sys/mount.h. */
struct sys_mount_attr {
	uint64_t set, clear;
	uint64_t propagation;
	uint64_t userns_fd;
};
_Static_assert(sizeof(struct sys_mount_attr) == 32, "kernel interface");

/* @recursive: AT_RECURSIVE or 0. */
static int sys_mount_clone_tree(int dirfd, bool read_only, unsigned int recursive)
{
	struct sys_mount_attr attr = {
		/* Whatever comes into a file's place, no device is opened through a layer. */
		.set = MOUNT_ATTR_NODEV | (read_only ? MOUNT_ATTR_RDONLY : 0),
		/* A clone of a shared mount would take part in later mounts below the original. */
		.propagation = MS_PRIVATE,
	};
	_cleanup_close_ int fd = -1;
	long r;

	fd = (int)sys_retry(
		syscall(SYS_open_tree, dirfd, "",
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive));
	if (fd < 0)
		return fd;
	r = sys_retry(
		syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)));
	return r < 0 ? (int)r : fd_take(&fd);
}

int sys_mount_clone(int dirfd, unsigned int flags)
{
	bool read_only = flags & SYS_CLONE_READ_ONLY;
	int r = sys_mount_clone_tree(dirfd, read_only, flags & SYS_CLONE_BELOW ? AT_RECURSIVE : 0);

	return r == -EINVAL && flags & SYS_CLONE_LOCKED_BELOW ?
		       sys_mount_clone_tree(dirfd, read_only, AT_RECURSIVE) :
		       r;
}

int sys_mount_dev(int fd, dev_t *dev)
{
	struct statx st;
	int r = sys_stat_local(fd, "", 0, &st);

	if (r == 0)
		*dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	return r;
}

int sys_mount_id(int fd, unsigned long long *id)
{
	struct statx st;
	int r = sys_stat_local(fd, "", STATX_MNT_ID, &st);

	if (r < 0)
		return r;
	if (!(st.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP;
	*id = st.stx_mnt_id;
	return 0;
}

int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
	      const char *options)
{
	return (int)sys_retry(mount(source, target, type, flags, options));
}

int sys_mount_read_only(const char *path)
{
	struct sys_mount_attr attr = { .set = MOUNT_ATTR_RDONLY };

	return (int)sys_retry(syscall(SYS_mount_setattr, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &attr,
				      sizeof(attr)));
}

int sys_mount_move(int fd, const char *target)
{
	return (int)sys_retry(
		syscall(SYS_move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH));
}

int sys_unmount(const char *target, bool detach)
{
	/* Never through a symbolic link someone put where the mount point was. */
	return (int)sys_retry(umount2(target, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0)));
}
