/* SPDX-License-Identifier: MIT */
#include "daemon/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "sys/creds.h"
#include "sys/file.h"
#include "sys/mount.h"

#define MOUNT_TYPE "fuse"
#define MOUNT_NAME "veneer"

/* How fusermount3 wants to be told. */
static const struct {
	unsigned long flag;
	const char *set, *clear;
} mount_flag_names[] = {
	{ MS_RDONLY, "ro", "rw" },	 { MS_NOSUID, "nosuid", NULL },
	{ MS_NODEV, "nodev", NULL },	 { MS_NOEXEC, "noexec", NULL },
	{ MS_NOATIME, "noatime", NULL }, { MS_NODIRATIME, "nodiratime", NULL },
};

static const char *mount_subtype(const struct options *options)
{
	return options->subtype ? options->subtype : MOUNT_NAME;
}

/* Whether users other than the mounter get in: root's file systems are for all. */
static bool mount_allows_other(const struct options *options, bool is_privileged)
{
	return options->allow_other || options->allow_root || is_privileged;
}

static const char *mount_device_remedy(int error)
{
	switch (error) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return " (is the module fuse loaded? A container must be given the device)";
	case EACCES:
		return " (root can let everybody use it: chmod 666 /dev/fuse)";
	case EPERM:
		return " (this container must be given the device)";
	default:
		return "";
	}
}

static int mount_open_device(struct mount *mount, struct strbuf *why)
{
	int r;

	mount->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (mount->fd >= 0)
		return 0;
	r = -errno;
	strbuf_append_format(why, "/dev/fuse: %s%s", strerror(-r), mount_device_remedy(-r));
	return r;
}

static int mount_direct(struct mount *mount, const struct options *options, const char *source,
			int *fd, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf type = STRBUF_INIT, data = STRBUF_INIT;
	int r;

	strbuf_append_format(&type, MOUNT_TYPE ".%s", mount_subtype(options));
	strbuf_append_format(&data, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions",
			     mount->fd, mount->root_mode & S_IFMT, geteuid(), getegid());
	if (mount_allows_other(options, true))
		strbuf_append_string(&data, ",allow_other");
	if (options->security.length)
		strbuf_append(&data, options->security.data, options->security.length);
	if (type.failed || data.failed)
		return -ENOMEM;
	r = sys_mount(source, mount->target, type.data, options->mount_flags, data.data);
	if (r < 0)
		strbuf_append_format(why, "mounting at %s: %s", mount->target, strerror(-r));
	else
		*fd = fd_take(&mount->fd);
	return r;
}

/* As part of a list of options. */
static void mount_append_escaped(struct strbuf *buf, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			strbuf_append(buf, "\\", 1);
		strbuf_append(buf, text, 1);
	}
}

static int mount_by_helper(const struct mount *mount, const struct options *options,
			   const char *source, int *fd, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;

	strbuf_append_string(&text, "fsname=");
	mount_append_escaped(&text, source);
	strbuf_append_string(&text, ",subtype=");
	mount_append_escaped(&text, mount_subtype(options));
	strbuf_append_string(&text, ",default_permissions");
	if (mount_allows_other(options, false))
		strbuf_append_string(&text, ",allow_other");
	for (size_t i = 0; i < ARRAY_SIZE(mount_flag_names); i++) {
		bool is_set = options->mount_flags & mount_flag_names[i].flag;
		const char *name = is_set ? mount_flag_names[i].set : mount_flag_names[i].clear;

		if (name)
			strbuf_append_format(&text, ",%s", name);
	}
	if (text.failed)
		return -ENOMEM;
	return fusermount_attach(mount->target, text.data, fd, why);
}

/* An absolute path that names the mount point also after chdir(2). */
static int mount_resolve(struct mount *mount, const char *mountpoint, struct strbuf *why)
{
	_cleanup_close_ int fd = -1;
	struct statx st;
	int r;

	mount->target = realpath(mountpoint, NULL);
	r = mount->target ? 0 : -errno;
	if (r == 0)
		r = fd = sys_open_path(mount->target, O_PATH | O_CLOEXEC);
	if (r >= 0)
		r = sys_stat(fd, "", &st);
	if (r == 0 && !S_ISDIR(st.stx_mode))
		r = -ENOTDIR;
	if (r == 0)
		mount->root_mode = st.stx_mode;
	else
		strbuf_append_format(why, "mount point %s: %s%s", mountpoint, strerror(-r),
				     r == -ENOTCONN ? " (a dead mount is there; unmount it first)" :
						      "");
	return r;
}

int mount_prepare(struct mount *mount, const char *mountpoint, struct strbuf *why)
{
	int r;

	*mount = MOUNT_INIT;
	mount->by_helper = !sys_creds_has_cap(CAP_SYS_ADMIN);
	r = mount_resolve(mount, mountpoint, why);
	return r < 0 || mount->by_helper ? r : mount_open_device(mount, why);
}

int mount_attach(struct mount *mount, const struct options *options, const char *source, int *fd,
		 struct strbuf *why)
{
	int r;

	if (options->fsname)
		source = options->fsname;
	if (!source)
		source = MOUNT_NAME;
	if (mount->by_helper)
		r = mount_by_helper(mount, options, source, fd, why);
	else
		r = mount_direct(mount, options, source, fd, why);
	mount->is_mounted = r == 0;
	return r;
}

/* What is mounted at the target now; 0 if that cannot be told. */
static unsigned long long mount_id_at_target(const struct mount *mount)
{
	_cleanup_close_ int fd = sys_open_path(mount->target, O_PATH | O_CLOEXEC);
	unsigned long long id = 0;

	if (fd < 0 || sys_mount_id(fd, &id) < 0)
		return 0;
	return id;
}

void mount_remember(struct mount *mount)
{
	_cleanup_close_ int fd = sys_open_path(mount->target, O_PATH | O_CLOEXEC);

	if (fd < 0 || sys_mount_id(fd, &mount->id) < 0 || sys_mount_dev(fd, &mount->dev) < 0)
		mount->id = 0;
}

int mount_detach(struct mount *mount, bool detach)
{
	unsigned long long id;
	int r;

	if (!mount->is_mounted)
		return 0;
	id = mount->id ? mount_id_at_target(mount) : 0;
	if (id && id != mount->id)
		return -EBUSY;
	r = mount->by_helper ? fusermount_detach(mount->target, detach) :
			       sys_unmount(mount->target, detach);
	/* EINVAL: it is not mounted (any more). */
	if (r == 0 || r == -EINVAL)
		mount->is_mounted = false;
	return mount->is_mounted ? r : 0;
}

void mount_sync(const struct mount *mount)
{
	_cleanup_close_ int fd = sys_open_path(mount->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		sys_syncfs(fd);
}

void mount_deinit(struct mount *mount)
{
	free(mount->target);
	cleanup_close(&mount->fd);
	*mount = MOUNT_INIT;
}
