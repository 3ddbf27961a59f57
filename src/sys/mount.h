/* SPDX-License-Identifier: MIT */
/* The mount API: private clones of layers, and mounting and unmounting a FUSE connection. */
#ifndef VENEER_SYS_MOUNT_H
#define VENEER_SYS_MOUNT_H

#include <stdbool.h>
#include <sys/types.h>

enum sys_clone {
	/* Nobody can write through it, not even this process; atime is not updated either. */
	SYS_CLONE_READ_ONLY = 1 << 0,
	/* Instead of -EINVAL: with all that is mounted below now. */
	SYS_CLONE_LOCKED_BELOW = 1 << 1,
	/* With all that is mounted below now; read-only applies to it as well. */
	SYS_CLONE_BELOW = 1 << 2,
};

/*
 * A detached clone of the mount that holds directory @dirfd, rooted at it. What is mounted over it,
 * or (without SYS_CLONE_BELOW) below, is not seen.
 * Returns an O_PATH descriptor; -EPERM: not allowed here (no CAP_SYS_ADMIN); -EINVAL: a user
 * namespace that may not look behind what is mounted below.
 */
int sys_mount_clone(int dirfd, unsigned int flags);

/* Device number of the file system that @fd lies on; the file system is not asked. */
int sys_mount_dev(int fd, dev_t *dev);
/* Id of the mount that @fd lies on (statx STATX_MNT_ID); the file system is not asked. */
int sys_mount_id(int fd, unsigned long long *id);

/* mount(2) of type @type ("fuse.veneer") at @target with MS_* @flags. */
int sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
	      const char *options);
/* Makes the mount at @path read-only, the mounts below it not. */
int sys_mount_read_only(const char *path);
/* A detached mount @fd (sys_mount_clone) is seen at @target from now on. */
int sys_mount_move(int fd, const char *target);
/* umount2(2); @detach: lazily. */
int sys_unmount(const char *target, bool detach);

#endif
