/* SPDX-License-Identifier: MIT */
#include "sys/file.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "sys/call.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int sys_empty_path(const char *name)
{
	return *name ? 0 : AT_EMPTY_PATH;
}

int sys_stat(int dirfd, const char *name, struct statx *st)
{
	return (int)sys_retry(statx(dirfd, name,
				    AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | sys_empty_path(name),
				    STATX_BASIC_STATS | STATX_BTIME, st));
}

int sys_stat_local(int dirfd, const char *name, unsigned int mask, struct statx *st)
{
	return (int)sys_retry(statx(dirfd, name,
				    AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC |
					    sys_empty_path(name),
				    mask, st));
}

bool sys_stat_is_mount_root(const struct statx *st)
{
	return st->stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

dev_t sys_stat_dev(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

dev_t sys_stat_rdev(const struct statx *st)
{
	return makedev(st->stx_rdev_major, st->stx_rdev_minor);
}

static int sys_openat2(int dirfd, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (unsigned int)flags,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	return sys_retry_fd(syscall(SYS_openat2, dirfd, name, &how, sizeof(how)));
}

/* A filter may answer EPERM for a call it does not know, so the errno of a real call tells
 * nothing: an open that cannot fail is tried once. */
static bool sys_has_openat2(void)
{
	enum {
		UNKNOWN,
		YES,
		NO
	};
	static _Atomic int has = UNKNOWN;
	int known = atomic_load_explicit(&has, memory_order_relaxed);

	if (known == UNKNOWN) {
		_cleanup_close_ int fd = sys_openat2(AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0);

		known = fd == -ENOSYS || fd == -EPERM ? NO : YES;
		atomic_store_explicit(&has, known, memory_order_relaxed);
	}
	return known == YES;
}

int sys_open(int dirfd, const char *name, int flags, mode_t mode)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;

	if (!*name)
		return sys_reopen(dirfd, flags);
	flags |= O_CLOEXEC | O_NOFOLLOW;
	/* openat2 refuses a mode that means nothing; openat ignores it. */
	mode = creates ? mode & 07777 : 0;
	if (sys_has_openat2())
		return sys_openat2(dirfd, name, flags, mode);
	if (strchr(name, '/') || strcmp(name, "..") == 0)
		return -EXDEV;
	return sys_retry_fd(openat(dirfd, name, flags, mode));
}

/* Length of the longest start of @path that one call takes and that ends before a slash. */
static size_t sys_path_piece(const char *path)
{
	size_t length = PATH_MAX - 1;

	while (length > 0 && path[length] != '/')
		length--;
	return length;
}

int sys_open_path(const char *path, int flags)
{
	_cleanup_close_ int dirfd = -1;

	while (strlen(path) >= PATH_MAX) {
		char piece[PATH_MAX];
		size_t length = sys_path_piece(path);
		int fd;

		if (length == 0)
			return -ENAMETOOLONG;
		memcpy(piece, path, length);
		piece[length] = '\0';
		fd = sys_retry_fd(openat(dirfd < 0 ? AT_FDCWD : dirfd, piece,
					 O_PATH | O_DIRECTORY | O_CLOEXEC));
		if (fd < 0)
			return fd;
		cleanup_close(&dirfd);
		dirfd = fd;
		path += length + strspn(path + length, "/");
	}
	if (!*path && dirfd >= 0)
		path = ".";
	return sys_retry_fd(openat(dirfd < 0 ? AT_FDCWD : dirfd, path, flags | O_CLOEXEC));
}

const char *sys_fd_path(int fd, char buf[SYS_FD_PATH_MAX])
{
	snprintf(buf, SYS_FD_PATH_MAX, "/proc/self/fd/%d", fd);
	return buf;
}

int sys_reopen(int fd, int flags)
{
	char path[SYS_FD_PATH_MAX];

	flags = (flags & ~O_NOFOLLOW) | O_CLOEXEC;
	/* A directory needs no /proc; O_TMPFILE includes O_DIRECTORY and wants a mode. */
	if (flags & O_DIRECTORY)
		return sys_retry_fd(openat(fd, ".", flags, 0600));
	return sys_retry_fd(open(sys_fd_path(fd, path), flags));
}

int sys_open_parent(int fd)
{
	return sys_retry_fd(openat(fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

void sys_keep_atime(int fd)
{
	(void)fcntl(fd, F_SETFL, O_NOATIME); /* for the owner and the privileged only */
}

int sys_dup(int fd)
{
	return sys_retry_fd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

bool sys_may_access(int dirfd, const char *name, int mode)
{
	long r = sys_retry(syscall(SYS_faccessat2, dirfd, name, mode,
				   AT_EACCESS | AT_SYMLINK_NOFOLLOW | sys_empty_path(name)));

	return r == 0 || r == -EROFS;
}

int sys_mkdir(int dirfd, const char *name, mode_t mode)
{
	return (int)sys_retry(mkdirat(dirfd, name, mode));
}

int sys_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	return (int)sys_retry(mknodat(dirfd, name, mode, rdev));
}

int sys_symlink(const char *target, int dirfd, const char *name)
{
	return (int)sys_retry(symlinkat(target, dirfd, name));
}

int sys_link(int olddirfd, const char *oldname, int newdirfd, const char *newname)
{
	return (int)sys_retry(
		linkat(olddirfd, oldname, newdirfd, newname, sys_empty_path(oldname)));
}

int sys_link_fd(int fd, int newdirfd, const char *newname)
{
	char path[SYS_FD_PATH_MAX];

	return (int)sys_retry(
		linkat(AT_FDCWD, sys_fd_path(fd, path), newdirfd, newname, AT_SYMLINK_FOLLOW));
}

int sys_unlink(int dirfd, const char *name)
{
	return (int)sys_retry(unlinkat(dirfd, name, 0));
}

int sys_rmdir(int dirfd, const char *name)
{
	return (int)sys_retry(unlinkat(dirfd, name, AT_REMOVEDIR));
}

int sys_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
	       unsigned int flags)
{
	return (int)sys_retry(renameat2(olddirfd, oldname, newdirfd, newname, flags));
}

ssize_t sys_readlink(int dirfd, const char *name, char *buf, size_t size)
{
	return sys_retry(readlinkat(dirfd, name, buf, size));
}

int sys_chmod(int fd, mode_t mode)
{
	static sys_missing missing; /* fchmodat2: Linux 6.6 */
	char path[SYS_FD_PATH_MAX];

	if (!sys_is_missing(&missing)) {
		long r = sys_retry(syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH));

		if (r != -ENOSYS)
			return (int)r;
		sys_set_missing(&missing);
	}
	return (int)sys_retry(chmod(sys_fd_path(fd, path), mode));
}

int sys_chown(int fd, uid_t uid, gid_t gid)
{
	return (int)sys_retry(fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

int sys_utimens(int fd, const struct timespec times[2])
{
	return (int)sys_retry(utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

int sys_truncate(int fd, off_t size)
{
	return (int)sys_retry(ftruncate(fd, size));
}

int sys_fallocate(int fd, int mode, off_t offset, off_t length)
{
	return (int)sys_retry(fallocate(fd, mode, offset, length));
}

off_t sys_seek(int fd, off_t offset, int whence)
{
	return sys_retry(lseek(fd, offset, whence));
}

int sys_fsync(int fd, bool data_only)
{
	return (int)sys_retry(data_only ? fdatasync(fd) : fsync(fd));
}

int sys_syncfs(int fd)
{
	return (int)sys_retry(syncfs(fd));
}

int sys_statvfs(int fd, struct statvfs *st)
{
	return (int)sys_retry(fstatvfs(fd, st));
}

int sys_fs_magic(int fd, long *magic)
{
	struct statfs st;
	int r = (int)sys_retry(fstatfs(fd, &st));

	if (r == 0)
		*magic = (long)st.f_type;
	return r;
}

ssize_t sys_pread(int fd, void *buf, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t r =
			sys_retry(pread(fd, (char *)buf + done, size - done, offset + (off_t)done));

		if (r < 0 && done == 0)
			return r;
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

ssize_t sys_pwrite(int fd, const void *buf, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t r = sys_retry(
			pwrite(fd, (const char *)buf + done, size - done, offset + (off_t)done));

		if (r < 0 && done == 0)
			return r;
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

/* The request's number says long, what the kernel reads and writes is an int. */
int sys_get_fsflags(int fd, unsigned int *flags)
{
	int value = 0;
	int r = (int)sys_retry(ioctl(fd, FS_IOC_GETFLAGS, &value));

	if (r == 0)
		*flags = (unsigned int)value;
	return r;
}

int sys_set_fsflags(int fd, unsigned int flags)
{
	int value = (int)flags;

	return (int)sys_retry(ioctl(fd, FS_IOC_SETFLAGS, &value));
}

int sys_flock_exclusive(int fd)
{
	return (int)sys_retry(flock(fd, LOCK_EX | LOCK_NB));
}

unsigned int sys_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = { .rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max };

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	return (unsigned int)MIN(limit.rlim_cur, (rlim_t)INT_MAX);
}

void sys_grow_fd_table(unsigned int count)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, count ? (int)count - 1 : 0);

	if (fd >= 0)
		close(fd);
}
