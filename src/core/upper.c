/* SPDX-License-Identifier: MIT */
/*
 * Every mutation of the upper and of the work directory.
 *
 * Compiled a second time with VENEER_FAULTS for the fault loops of the tests;
 * without it upper_mutate() is the call and nothing else.
 */
#include "core/upper.h"

#include <fcntl.h>

#include "sys/file.h"
#include "sys/xattr.h"

#ifdef VENEER_FAULTS

#include "sys/fault.h"

#define upper_mutate(call) fault_mutate(call)

void upper_faults_arm(void)
{
	fault_arm();
}

int upper_copy_data(const struct sys_copy *copy)
{
	return upper_mutate(fault_copy_data(copy));
}

#else

#define upper_mutate(call) (call)

void upper_faults_arm(void)
{
}

int upper_copy_data(const struct sys_copy *copy)
{
	return sys_copy_data(copy);
}

#endif

int upper_create(int dirfd, const char *name, int flags, mode_t mode)
{
	return upper_mutate(sys_open(dirfd, name, flags | O_CREAT | O_EXCL, mode));
}

int upper_tmpfile(int dirfd, int flags, mode_t mode)
{
	return upper_mutate(sys_open(dirfd, ".", flags | O_TMPFILE, mode));
}

int upper_mkdir(int dirfd, const char *name, mode_t mode)
{
	return upper_mutate(sys_mkdir(dirfd, name, mode));
}

int upper_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	return upper_mutate(sys_mknod(dirfd, name, mode, rdev));
}

int upper_symlink(const char *target, int dirfd, const char *name)
{
	return upper_mutate(sys_symlink(target, dirfd, name));
}

int upper_link(int olddirfd, const char *oldname, int newdirfd, const char *newname)
{
	return upper_mutate(sys_link(olddirfd, oldname, newdirfd, newname));
}

int upper_link_fd(int fd, int newdirfd, const char *newname)
{
	return upper_mutate(sys_link_fd(fd, newdirfd, newname));
}

int upper_unlink(int dirfd, const char *name)
{
	return upper_mutate(sys_unlink(dirfd, name));
}

int upper_rmdir(int dirfd, const char *name)
{
	return upper_mutate(sys_rmdir(dirfd, name));
}

int upper_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
		 unsigned int flags)
{
	return upper_mutate(sys_rename(olddirfd, oldname, newdirfd, newname, flags));
}

int upper_chmod(int fd, mode_t mode)
{
	return upper_mutate(sys_chmod(fd, mode));
}

int upper_chown(int fd, uid_t uid, gid_t gid)
{
	return upper_mutate(sys_chown(fd, uid, gid));
}

int upper_utimens(int fd, const struct timespec times[2])
{
	return upper_mutate(sys_utimens(fd, times));
}

int upper_truncate(int fd, uint64_t size)
{
	return upper_mutate(sys_truncate(fd, (off_t)size));
}

int upper_fallocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	return upper_mutate(sys_fallocate(fd, mode, (off_t)offset, (off_t)length));
}

ssize_t upper_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	return upper_mutate(sys_pwrite(fd, buf, size, (off_t)offset));
}

ssize_t upper_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size)
{
	return upper_mutate(sys_copy_range(from, from_offset, to, to_offset, size));
}

int upper_setxattr(int fd, const char *key, const void *value, size_t size, int flags)
{
	return upper_mutate(sys_setxattr(fd, key, value, size, flags));
}

int upper_removexattr(int fd, const char *key)
{
	return upper_mutate(sys_removexattr(fd, key));
}

int upper_set_fsflags(int fd, unsigned int flags)
{
	return upper_mutate(sys_set_fsflags(fd, flags));
}

int upper_fsync(int fd, bool data_only)
{
	return upper_mutate(sys_fsync(fd, data_only));
}
