/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes, by descriptor (also O_PATH) and by (directory, name).
 *
 * By name uses getxattrat(2) and listxattrat(2) where the kernel has them (Linux
 * 6.13), otherwise an O_PATH descriptor.  Symbolic links are never followed.
 */
#ifndef VENEER_SYS_XATTR_H
#define VENEER_SYS_XATTR_H

#include <stddef.h>
#include <sys/types.h>

/* Size of the value (with size 0: only that), or -ENODATA, -ERANGE, -EOPNOTSUPP, ... */
ssize_t sys_getxattr(int fd, const char *key, void *value, size_t size);
ssize_t sys_getxattr_at(int dirfd, const char *name, const char *key, void *value, size_t size);
int sys_setxattr(int fd, const char *key, const void *value, size_t size, int flags);
int sys_removexattr(int fd, const char *key);
/* Names, each NUL-terminated; returns their total size. */
ssize_t sys_listxattr(int fd, char *list, size_t size);

/*
 * The same with a buffer that is allocated to fit (and retried if the value grows meanwhile).
 * *@value is NUL-terminated for convenience and the caller's; returns the size without that NUL.
 */
ssize_t sys_getxattr_alloc(int fd, const char *key, char **value);
ssize_t sys_listxattr_alloc(int fd, char **list);
ssize_t sys_listxattr_alloc_at(int dirfd, const char *name, char **list);

#endif
