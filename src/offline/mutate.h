/* SPDX-License-Identifier: MIT */
/*
 * Every change that a command makes to layers at rest.
 *
 * Thin wrappers as in core/upper.h, for the same reason: one file is the place
 * for the injection of faults, so that a command can be stopped at each single
 * change. All return 0 or -errno, and mean what their namesakes in sys do.
 */
#ifndef VENEER_OFFLINE_MUTATE_H
#define VENEER_OFFLINE_MUTATE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "sys/copy.h"

/* Returns the new file's descriptor; O_CREAT | O_EXCL are added. */
int mutate_create(int dirfd, const char *name, int flags, mode_t mode);
int mutate_mkdir(int dirfd, const char *name, mode_t mode);
int mutate_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev);
int mutate_symlink(const char *target, int dirfd, const char *name);
int mutate_link(int olddirfd, const char *oldname, int newdirfd, const char *newname);
int mutate_link_fd(int fd, int newdirfd, const char *newname);
int mutate_unlink(int dirfd, const char *name);
int mutate_rmdir(int dirfd, const char *name);
int mutate_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
		  unsigned int flags);
int mutate_chmod(int fd, mode_t mode);
int mutate_chown(int fd, uid_t uid, gid_t gid);
int mutate_utimens(int fd, const struct timespec times[2]);
int mutate_truncate(int fd, uint64_t size);
ssize_t mutate_write(int fd, const void *buf, size_t size, uint64_t offset);
int mutate_setxattr(int fd, const char *key, const void *value, size_t size);
int mutate_removexattr(int fd, const char *key);
int mutate_set_fsflags(int fd, unsigned int flags);
int mutate_fsync(int fd);
int mutate_syncfs(int fd);
int mutate_copy_data(const struct sys_copy *copy);

/* Starts counting changes for VENEER_FAULT (sys/fault.h); nothing in a build without VENEER_FAULTS. */
void mutate_faults_arm(void);

#endif
