/* SPDX-License-Identifier: MIT */
/*
 * Every mutation of the upper and of the work directory.
 *
 * Thin typed wrappers, so that one file is the place for tracing, for the
 * injection of faults, and for the argument that a crash between any two of
 * them leaves a valid layer (docs/crash.md lists them per operation).  All
 * return 0 or -errno.  No function here takes a lock.
 */
#ifndef VENEER_CORE_UPPER_H
#define VENEER_CORE_UPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "sys/copy.h"

/* Returns the new file's descriptor; O_CREAT | O_EXCL are added. */
int upper_create(int dirfd, const char *name, int flags, mode_t mode);
/* O_TMPFILE in @dirfd; returns the descriptor. -EOPNOTSUPP, -EISDIR: not to be had. */
int upper_tmpfile(int dirfd, int flags, mode_t mode);
int upper_mkdir(int dirfd, const char *name, mode_t mode);
int upper_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev);
int upper_symlink(const char *target, int dirfd, const char *name);
int upper_link(int olddirfd, const char *oldname, int newdirfd, const char *newname);
int upper_link_fd(int fd, int newdirfd, const char *newname);
int upper_unlink(int dirfd, const char *name);
int upper_rmdir(int dirfd, const char *name);
int upper_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
		 unsigned int flags);

int upper_chmod(int fd, mode_t mode);
int upper_chown(int fd, uid_t uid, gid_t gid);
int upper_utimens(int fd, const struct timespec times[2]);
int upper_truncate(int fd, uint64_t size);
int upper_fallocate(int fd, int mode, uint64_t offset, uint64_t length);
ssize_t upper_write(int fd, const void *buf, size_t size, uint64_t offset);
int upper_copy_data(const struct sys_copy *copy);
ssize_t upper_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size);
int upper_setxattr(int fd, const char *key, const void *value, size_t size, int flags);
int upper_removexattr(int fd, const char *key);
int upper_set_fsflags(int fd, unsigned int flags);
int upper_fsync(int fd, bool data_only);

/*
 * Starts counting mutations and honours VENEER_FAULT=N:WHAT from the environment: the N-th one
 * from here on fails with the errno WHAT names, or the process dies before ("kill") or right after
 * ("killafter") it. A copy of file data counts once per step. Does nothing in a build without
 * VENEER_FAULTS; with it VENEER_COMMIT=FILE, in the upper's file system, has its journal written
 * after each mutation since the process began, by an fsync of FILE.
 */
void upper_faults_arm(void);

#endif
