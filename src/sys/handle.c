/* SPDX-License-Identifier: MIT */
#include "sys/handle.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/file.h"

_Static_assert(SYS_HANDLE_MAX == MAX_HANDLE_SZ, "kernel interface");

/* struct fsuuid2 and FS_IOC_GETFSUUID of linux/fs.h (6.9), under names of our own. */
struct sys_fsuuid2 {
	uint8_t length;
	uint8_t uuid[16];
};
_Static_assert(sizeof(struct sys_fsuuid2) == 17, "kernel interface");
#define SYS_IOC_GETFSUUID _IOR(0x15, 0, struct sys_fsuuid2)

/* struct fsuuid of fs/ext4/ext4.h (5.19); the request counts the header without the uuid. */
struct sys_ext4_uuid {
	uint32_t length;
	uint32_t flags;
	uint8_t uuid[16];
};
_Static_assert(sizeof(struct sys_ext4_uuid) == 24, "kernel interface");
#define SYS_EXT4_IOC_GETFSUUID _IOC(_IOC_READ, 'f', 44, 8)

union sys_handle_buffer {
	struct file_handle handle;
	unsigned char bytes[sizeof(struct file_handle) + SYS_HANDLE_MAX];
};

static int handle_get(int dirfd, const char *name, int flags, struct sys_handle *handle)
{
	union sys_handle_buffer buf = { .handle.handle_bytes = SYS_HANDLE_MAX };
	int mount_id, r;

	r = (int)sys_retry(name_to_handle_at(dirfd, name, &buf.handle, &mount_id,
					     flags | (*name ? 0 : AT_EMPTY_PATH)));
	if (r < 0)
		return r;
	if (buf.handle.handle_bytes > SYS_HANDLE_MAX)
		return -EIO;
	handle->type = buf.handle.handle_type;
	handle->size = buf.handle.handle_bytes;
	memcpy(handle->bytes, buf.handle.f_handle, handle->size);
	return 0;
}

int sys_handle_get(int dirfd, const char *name, struct sys_handle *handle)
{
	return handle_get(dirfd, name, 0, handle);
}

int sys_handle_get_with(int fd, int flags, struct sys_handle *handle)
{
	return handle_get(fd, "", flags, handle);
}

int sys_handle_open(int mountfd, const struct sys_handle *handle, int flags)
{
	union sys_handle_buffer buf = { .handle.handle_bytes = handle->size,
					.handle.handle_type = handle->type };
	_cleanup_close_ int dirfd = -1;
	int r;

	if (handle->size > SYS_HANDLE_MAX)
		return -EINVAL;
	memcpy(buf.handle.f_handle, handle->bytes, handle->size);
	flags |= O_CLOEXEC;
	r = sys_retry_fd(open_by_handle_at(mountfd, &buf.handle, flags));
	if (r != -EBADF)
		return r;
	/* The call does not take an O_PATH descriptor. */
	dirfd = sys_reopen(mountfd, O_RDONLY | O_DIRECTORY);
	return dirfd < 0 ? dirfd : sys_retry_fd(open_by_handle_at(dirfd, &buf.handle, flags));
}

int sys_fs_uuid(int fd, uint8_t uuid[16])
{
	struct sys_fsuuid2 fs = { 0 };
	struct sys_ext4_uuid ext4 = { .length = sizeof(ext4.uuid) };
	struct btrfs_ioctl_fs_info_args btrfs = { 0 };

	if (sys_retry(ioctl(fd, SYS_IOC_GETFSUUID, &fs)) == 0) {
		if (fs.length != sizeof(fs.uuid))
			return -ENODATA;
		memcpy(uuid, fs.uuid, sizeof(fs.uuid));
		return 0;
	}
	if (sys_retry(ioctl(fd, SYS_EXT4_IOC_GETFSUUID, &ext4)) == 0) {
		memcpy(uuid, ext4.uuid, sizeof(ext4.uuid));
		return 0;
	}
	/* btrfs tells its UUID by no other call, and kernel overlayfs writes it as any other. */
	if (sys_retry(ioctl(fd, BTRFS_IOC_FS_INFO, &btrfs)) == 0) {
		memcpy(uuid, btrfs.fsid, sizeof(btrfs.fsid));
		return 0;
	}
	return -ENODATA;
}
