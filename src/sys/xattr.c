/* SPDX-License-Identifier: MIT */
/*
 * The f*xattr calls refuse O_PATH descriptors with EBADF.  Those go by
 * /proc/self/fd/N, whose magic link leads to the object itself, also when that
 * is a symbolic link.  The refused call costs next to nothing, so it is tried
 * first and nobody has to know what kind of descriptor he holds.
 */
#include "sys/xattr.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/file.h"

#ifndef SYS_getxattrat
#define SYS_getxattrat 464
#endif
#ifndef SYS_listxattrat
#define SYS_listxattrat 465
#endif

/* Most values fit: then one call instead of two. */
#define SYS_XATTR_GUESS 256

/* struct xattr_args of linux/xattr.h (6.13). */
struct sys_xattr_args {
	uint64_t value;
	uint32_t size;
	uint32_t flags;
};
_Static_assert(sizeof(struct sys_xattr_args) == 16, "kernel interface");

ssize_t sys_getxattr(int fd, const char *key, void *value, size_t size)
{
	char path[SYS_FD_PATH_MAX];
	ssize_t r = sys_retry(fgetxattr(fd, key, value, size));

	if (r == -EBADF)
		r = sys_retry(getxattr(sys_fd_path(fd, path), key, value, size));
	return r;
}

ssize_t sys_getxattr_at(int dirfd, const char *name, const char *key, void *value, size_t size)
{
	static sys_missing missing; /* getxattrat: Linux 6.13 */
	struct sys_xattr_args args = {
		.value = (uintptr_t)value,
		.size = (uint32_t)size,
	};
	_cleanup_close_ int fd = -1;

	if (!*name)
		return sys_getxattr(dirfd, key, value, size);
	if (!sys_is_missing(&missing)) {
		ssize_t r = sys_retry(syscall(SYS_getxattrat, dirfd, name, AT_SYMLINK_NOFOLLOW, key,
					      &args, sizeof(args)));

		if (r != -ENOSYS)
			return r;
		sys_set_missing(&missing);
	}
	fd = sys_open(dirfd, name, O_PATH, 0);
	return fd < 0 ? fd : sys_getxattr(fd, key, value, size);
}

int sys_setxattr(int fd, const char *key, const void *value, size_t size, int flags)
{
	char path[SYS_FD_PATH_MAX];
	long r = sys_retry(fsetxattr(fd, key, value, size, flags));

	if (r == -EBADF)
		r = sys_retry(setxattr(sys_fd_path(fd, path), key, value, size, flags));
	return (int)r;
}

int sys_removexattr(int fd, const char *key)
{
	char path[SYS_FD_PATH_MAX];
	long r = sys_retry(fremovexattr(fd, key));

	if (r == -EBADF)
		r = sys_retry(removexattr(sys_fd_path(fd, path), key));
	return (int)r;
}

ssize_t sys_listxattr(int fd, char *list, size_t size)
{
	char path[SYS_FD_PATH_MAX];
	ssize_t r = sys_retry(flistxattr(fd, list, size));

	if (r == -EBADF)
		r = sys_retry(listxattr(sys_fd_path(fd, path), list, size));
	return r;
}

static ssize_t sys_listxattr_at(int dirfd, const char *name, char *list, size_t size)
{
	static sys_missing missing; /* listxattrat: Linux 6.13 */
	_cleanup_close_ int fd = -1;

	if (!*name)
		return sys_listxattr(dirfd, list, size);
	if (!sys_is_missing(&missing)) {
		ssize_t r = sys_retry(
			syscall(SYS_listxattrat, dirfd, name, AT_SYMLINK_NOFOLLOW, list, size));

		if (r != -ENOSYS)
			return r;
		sys_set_missing(&missing);
	}
	fd = sys_open(dirfd, name, O_PATH, 0);
	return fd < 0 ? fd : sys_listxattr(fd, list, size);
}

/* The value of @key, or the list of names if @key is NULL. */
static ssize_t sys_xattr_read(int dirfd, const char *name, const char *key, char *buf, size_t size)
{
	return key ? sys_getxattr_at(dirfd, name, key, buf, size) :
		     sys_listxattr_at(dirfd, name, buf, size);
}

static ssize_t sys_xattr_read_alloc(int dirfd, const char *name, const char *key, char **out)
{
	size_t size = SYS_XATTR_GUESS;

	/* Someone may make the value grow between the question and the call: ask again. */
	for (;;) {
		_cleanup_free_ char *buf = malloc(size + 1);
		ssize_t r;

		if (!buf)
			return -ENOMEM;
		r = sys_xattr_read(dirfd, name, key, buf, size);
		if (r >= 0) {
			buf[r] = '\0';
			*out = ptr_take(buf);
			return r;
		}
		if (r != -ERANGE)
			return r;
		r = sys_xattr_read(dirfd, name, key, NULL, 0);
		if (r < 0)
			return r;
		/* A size of 0 would ask for the size again instead of the value. */
		size = r > 0 ? (size_t)r : 1;
	}
}

ssize_t sys_getxattr_alloc(int fd, const char *key, char **value)
{
	return sys_xattr_read_alloc(fd, "", key, value);
}

ssize_t sys_listxattr_alloc(int fd, char **list)
{
	return sys_xattr_read_alloc(fd, "", NULL, list);
}

ssize_t sys_listxattr_alloc_at(int dirfd, const char *name, char **list)
{
	return sys_xattr_read_alloc(dirfd, name, NULL, list);
}
