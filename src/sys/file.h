/* SPDX-License-Identifier: MIT */
/*
 * Files by (directory descriptor, one name), never following a symbolic link.
 *
 * All functions return 0 (or the value described) or -errno.  Interrupted
 * calls are retried.  "By name" means @name is a single component, or "" for
 * the object @dirfd itself refers to (which may be an O_PATH descriptor).
 */
#ifndef VENEER_SYS_FILE_H
#define VENEER_SYS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

/* What every caller asks of statx: STATX_BASIC_STATS | STATX_BTIME. */
int sys_stat(int dirfd, const char *name, struct statx *st);
/*
 * What the kernel knows by itself. sys_stat() asks the file system, which, for a mount of this
 * very process, never ends if the process is killed meanwhile.
 */
int sys_stat_local(int dirfd, const char *name, unsigned int mask, struct statx *st);
/* True if something is mounted there: @st is of the root of a mount (told since Linux 5.8). */
bool sys_stat_is_mount_root(const struct statx *st);
/* dev_t of st, in the kernel's 64-bit makedev form. */
dev_t sys_stat_dev(const struct statx *st);
dev_t sys_stat_rdev(const struct statx *st);

/*
 * Opens @name with openat2(2): O_CLOEXEC | O_NOFOLLOW are added, RESOLVE_BENEATH and
 * RESOLVE_NO_SYMLINKS hold.  Falls back to openat(2) where openat2 is missing or filtered.
 * Name "" is sys_reopen().  Returns the descriptor.
 */
int sys_open(int dirfd, const char *name, int flags, mode_t mode);
/* Opens a path of any length as the user wrote it (symbolic links followed). */
int sys_open_path(const char *path, int flags);
/* Opens the object behind the O_PATH descriptor @fd anew (through /proc/self/fd), with @flags. */
int sys_reopen(int fd, int flags);
/*
 * The directory above the directory @fd, for reading. It may have become another one, which the
 * caller must be able to tell.
 */
int sys_open_parent(int fd);
/* What is read through @fd from now on leaves the access time alone, if we may have it so. */
void sys_keep_atime(int fd);
/* Another descriptor of the same open file; close-on-exec. */
int sys_dup(int fd);
/* "/proc/self/fd/N" for calls that take only a path and must reach an O_PATH descriptor. */
#define SYS_FD_PATH_MAX 32
const char *sys_fd_path(int fd, char buf[SYS_FD_PATH_MAX]);

int sys_mkdir(int dirfd, const char *name, mode_t mode);
int sys_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev);
int sys_symlink(const char *target, int dirfd, const char *name);
/* Hard link; @olddirfd with oldname "" links the object of a descriptor (needs rights, else -ENOENT). */
int sys_link(int olddirfd, const char *oldname, int newdirfd, const char *newname);
/* Links an O_TMPFILE (or any open) file through /proc/self/fd, which needs no capability. */
int sys_link_fd(int fd, int newdirfd, const char *newname);
int sys_unlink(int dirfd, const char *name);
int sys_rmdir(int dirfd, const char *name);
int sys_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
	       unsigned int flags);
/* Target of the symbolic link; not NUL-terminated; returns its length, at most @size. */
ssize_t sys_readlink(int dirfd, const char *name, char *buf, size_t size);

/* True if this process may: R_OK, W_OK, X_OK. A mount that is read-only does not count. */
bool sys_may_access(int dirfd, const char *name, int mode);

/* Attribute changes of the object of @fd, which may be O_PATH (also of a symbolic link for chown
 * and utimens). */
int sys_chmod(int fd, mode_t mode);
int sys_chown(int fd, uid_t uid, gid_t gid);
int sys_utimens(int fd, const struct timespec times[2]);
/* @fd must be open for writing. */
int sys_truncate(int fd, off_t size);
int sys_fallocate(int fd, int mode, off_t offset, off_t length);
/* Like lseek(2); returns the offset. */
off_t sys_seek(int fd, off_t offset, int whence);
/* @data_only: fdatasync. */
int sys_fsync(int fd, bool data_only);
int sys_syncfs(int fd);
int sys_statvfs(int fd, struct statvfs *st);
/* f_type of statfs(2). */
int sys_fs_magic(int fd, long *magic);

/* Whole-range positional I/O: returns bytes moved (short only at end of file), or -errno if
 * nothing was moved. */
ssize_t sys_pread(int fd, void *buf, size_t size, off_t offset);
ssize_t sys_pwrite(int fd, const void *buf, size_t size, off_t offset);

/* FS_IOC_GETFLAGS / SETFLAGS; @fd must not be O_PATH. -ENOTTY or -EOPNOTSUPP: the fs has none. */
int sys_get_fsflags(int fd, unsigned int *flags);
int sys_set_fsflags(int fd, unsigned int flags);

/* Exclusive flock(2) without waiting; -EWOULDBLOCK when another holds it. */
int sys_flock_exclusive(int fd);

/* Raises the soft descriptor limit to the hard one; returns the limit now in force. */
unsigned int sys_raise_nofile(void);
/*
 * Makes the process' table of descriptors large enough for @count at once, before there are threads:
 * the kernel doubles a table that threads share only after a grace period (expand_fdtable() in
 * fs/file.c), in which whoever opens a file waits for some 10 ms.
 */
void sys_grow_fd_table(unsigned int count);

#endif
