/* SPDX-License-Identifier: MIT */
#include "sys/fanotify.h"

#include <fcntl.h>
#include <string.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include "sys/call.h"
#include "sys/file.h"

/* Since Linux 6.5: a handle of any file system, also of one that cannot open it. */
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif

#define WATCH_NAMES (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define WATCH_MASK (WATCH_NAMES | FAN_ATTRIB | FAN_MODIFY | FAN_ONDIR | FAN_EVENT_ON_CHILD)

int sys_watch_new(void)
{
	return (int)sys_retry(
		fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK,
			      O_RDONLY | O_CLOEXEC));
}

static int watch_mark(int watch, unsigned int flags, int dirfd)
{
	char path[SYS_FD_PATH_MAX];

	return (int)sys_retry(fanotify_mark(watch, flags | FAN_MARK_ONLYDIR, WATCH_MASK, AT_FDCWD,
					    sys_fd_path(dirfd, path)));
}

int sys_watch_add(int watch, int dirfd)
{
	return watch_mark(watch, FAN_MARK_ADD, dirfd);
}

int sys_watch_remove(int watch, int dirfd)
{
	return watch_mark(watch, FAN_MARK_REMOVE, dirfd);
}

int sys_watch_handle(int dirfd, struct sys_handle *handle)
{
	int r = sys_handle_get_with(dirfd, AT_HANDLE_FID, handle);

	return r == -EINVAL ? sys_handle_get(dirfd, "", handle) : r;
}

int sys_watch_read(int watch, void *buf, size_t size)
{
	int r = (int)sys_retry(read(watch, buf, size));

	return r == -EAGAIN ? 0 : r;
}

static unsigned int watch_kinds(uint64_t mask)
{
	return (mask & WATCH_NAMES ? SYS_WATCH_NAME : 0) |
	       (mask & FAN_ATTRIB ? SYS_WATCH_ATTRIBUTES : 0) |
	       (mask & FAN_MODIFY ? SYS_WATCH_DATA : 0) |
	       (mask & FAN_Q_OVERFLOW ? SYS_WATCH_LOST : 0);
}

/* The directory and name of an event whose further information is @size bytes at @info. */
static void watch_parse_info(const unsigned char *info, size_t size, struct sys_watch_event *event)
{
	struct fanotify_event_info_fid fid;
	struct file_handle handle;
	const size_t handle_at = sizeof(fid), bytes_at = handle_at + sizeof(handle);

	if (size < bytes_at)
		return;
	memcpy(&fid, info, sizeof(fid));
	memcpy(&handle, info + handle_at, sizeof(handle));
	if (fid.hdr.len > size || fid.hdr.len < bytes_at ||
	    handle.handle_bytes > fid.hdr.len - bytes_at)
		return;
	if (fid.hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME)
		return;
	const unsigned char *name = info + bytes_at + handle.handle_bytes;

	if (!memchr(name, '\0', fid.hdr.len - bytes_at - handle.handle_bytes))
		return;
	event->handle_type = handle.handle_type;
	event->handle_size = handle.handle_bytes;
	event->handle = info + bytes_at;
	event->name = (const char *)name;
}

bool sys_watch_next(const void *buf, size_t size, size_t *at, struct sys_watch_event *event)
{
	struct fanotify_event_metadata meta;

	if (size - *at < sizeof(meta))
		return false;
	const unsigned char *from = (const unsigned char *)buf + *at;

	memcpy(&meta, from, sizeof(meta));
	if (meta.vers != FANOTIFY_METADATA_VERSION || meta.event_len < meta.metadata_len ||
	    meta.event_len > size - *at)
		return false;
	*at += meta.event_len;
	*event = (struct sys_watch_event){
		.kinds = watch_kinds(meta.mask),
		.is_own = meta.pid == getpid(),
	};
	watch_parse_info(from + meta.metadata_len, meta.event_len - meta.metadata_len, event);
	return true;
}
