/* SPDX-License-Identifier: MIT */
/* File handles and file system identity: name_to_handle_at(2), FS_IOC_GETFSUUID. */
#ifndef VENEER_SYS_HANDLE_H
#define VENEER_SYS_HANDLE_H

#include <stdint.h>

#define SYS_HANDLE_MAX 128

struct sys_handle {
	int type; /* exportfs fid type */
	unsigned int size;
	unsigned char bytes[SYS_HANDLE_MAX];
};

/* Handle of @name in @dirfd ("" for @dirfd itself). -EOPNOTSUPP: the fs has none. */
int sys_handle_get(int dirfd, const char *name, struct sys_handle *handle);
/* Of the object of @fd, with further flags of name_to_handle_at(2). */
int sys_handle_get_with(int fd, int flags, struct sys_handle *handle);
/*
 * Opens the object of @handle on the file system @mountfd lies on (O_PATH). Needs
 * CAP_DAC_READ_SEARCH in the initial user namespace (else -EPERM); -ESTALE: gone.
 */
int sys_handle_open(int mountfd, const struct sys_handle *handle, int flags);

/* The file system's UUID: ioctl FS_IOC_GETFSUUID (6.9), else EXT4_IOC_GETFSUUID; -ENODATA: none.
 * @fd must not be O_PATH. */
int sys_fs_uuid(int fd, uint8_t uuid[16]);

#endif
