/* SPDX-License-Identifier: MIT */
/*
 * Compiled a second time with VENEER_FAULTS for the fault loops of the tests;
 * without it mutate() is the call and nothing else.
 */
#include "offline/mutate.h"

#include <fcntl.h>

#include "sys/file.h"
#include "sys/xattr.h"

#ifdef VENEER_FAULTS

#include "sys/fault.h"

#define mutate(call) fault_mutate(call)

void mutate_faults_arm(void)
{
	fault_arm();
}

int mutate_copy_data(const struct sys_copy *copy)
{
	return mutate(fault_copy_data(copy));
}

#else

#define mutate(call) (call)

void mutate_faults_arm(void)
{
}

int mutate_copy_data(const struct sys_copy *copy)
{
	return sys_copy_data(copy);
}

#endif

int mutate_create(int dirfd, const char *name, int flags, mode_t mode)
{
	return mutate(sys_open(dirfd, name, flags | O_CREAT | O_EXCL, mode));
}

int mutate_mkdir(int dirfd, const char *name, mode_t mode)
{
	return mutate(sys_mkdir(dirfd, name, mode));
}

int mutate_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	return mutate(sys_mknod(dirfd, name, mode, rdev));
}

int mutate_symlink(const char *target, int dirfd, const char *name)
{
	return mutate(sys_symlink(target, dirfd, name));
}

int mutate_link(int olddirfd, const char *oldname, int newdirfd, const char *newname)
{
	return mutate(sys_link(olddirfd, oldname, newdirfd, newname));
}

int mutate_link_fd(int fd, int newdirfd, const char *newname)
{
	return mutate(sys_link_fd(fd, newdirfd, newname));
}

int mutate_unlink(int dirfd, const char *name)
{
	return mutate(sys_unlink(dirfd, name));
}

int mutate_rmdir(int dirfd, const char *name)
{
	return mutate(sys_rmdir(dirfd, name));
}

int mutate_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
		  unsigned int flags)
{
	return mutate(sys_rename(olddirfd, oldname, newdirfd, newname, flags));
}

int mutate_chmod(int fd, mode_t mode)
{
	return mutate(sys_chmod(fd, mode));
}

int mutate_chown(int fd, uid_t uid, gid_t gid)
{
	return mutate(sys_chown(fd, uid, gid));
}

int mutate_utimens(int fd, const struct timespec times[2])
{
	return mutate(sys_utimens(fd, times));
}

int mutate_truncate(int fd, uint64_t size)
{
	return mutate(sys_truncate(fd, (off_t)size));
}

ssize_t mutate_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	return mutate(sys_pwrite(fd, buf, size, (off_t)offset));
}

int mutate_setxattr(int fd, const char *key, const void *value, size_t size)
{
	return mutate(sys_setxattr(fd, key, value, size, 0));
}

int mutate_removexattr(int fd, const char *key)
{
	return mutate(sys_removexattr(fd, key));
}

int mutate_set_fsflags(int fd, unsigned int flags)
{
	return mutate(sys_set_fsflags(fd, flags));
}

int mutate_fsync(int fd)
{
	return mutate(sys_fsync(fd, false));
}

int mutate_syncfs(int fd)
{
	return mutate(sys_syncfs(fd));
}
