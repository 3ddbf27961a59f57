/* SPDX-License-Identifier: MIT */
/*
 * chattr and lsattr.  The kernel asks for the classic flags or for the newer
 * fsxattr form, whichever the caller used; both are the same flags here.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "base/util.h"
#include "daemon/ops.h"

static const struct {
	uint32_t xflag;
	unsigned int flag;
} ops_ioctl_flags[] = {
	{ FS_XFLAG_IMMUTABLE, FS_IMMUTABLE_FL },
	{ FS_XFLAG_APPEND, FS_APPEND_FL },
	{ FS_XFLAG_SYNC, FS_SYNC_FL },
	{ FS_XFLAG_NOATIME, FS_NOATIME_FL },
	{ FS_XFLAG_NODUMP, FS_NODUMP_FL },
	{ FS_XFLAG_DAX, FS_DAX_FL },
	{ FS_XFLAG_PROJINHERIT, FS_PROJINHERIT_FL },
};

static int ops_ioctl_get_flags(struct ops *ops, struct fuse_request *request)
{
	unsigned int flags;
	int r;

	if (request->args.in.ioctl.out_size < sizeof(flags))
		return -EINVAL;
	r = core_get_fsflags(ops->core, request->node, &flags);
	if (r < 0)
		return r;
	fuse_reply_ioctl(request, &flags, sizeof(flags));
	return 0;
}

static int ops_ioctl_change_flags(struct ops *ops, struct fuse_request *request, unsigned int flags)
{
	struct core_call call = ops_call(request, 0);
	int r = core_set_fsflags(ops->core, &call, request->node, flags);

	if (r < 0)
		return r;
	fuse_notify_attr(request); /* the kernel does not think of the change time */
	fuse_reply_ioctl(request, NULL, 0);
	return 0;
}

static int ops_ioctl_set_flags(struct ops *ops, struct fuse_request *request)
{
	unsigned int flags;

	if (request->args.data_size < sizeof(flags))
		return -EINVAL;
	memcpy(&flags, request->args.data, sizeof(flags));
	return ops_ioctl_change_flags(ops, request, flags);
}

static int ops_ioctl_get_fsxattr(struct ops *ops, struct fuse_request *request)
{
	struct fsxattr fsx = { 0 };
	unsigned int flags;
	int r;

	if (request->args.in.ioctl.out_size < sizeof(fsx))
		return -EINVAL;
	r = core_get_fsflags(ops->core, request->node, &flags);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(ops_ioctl_flags); i++)
		if (flags & ops_ioctl_flags[i].flag)
			fsx.fsx_xflags |= ops_ioctl_flags[i].xflag;
	fuse_reply_ioctl(request, &fsx, sizeof(fsx));
	return 0;
}

/* Flags that have no fsxattr form stay as they are; extent sizes and projects have none here. */
static int ops_ioctl_set_fsxattr(struct ops *ops, struct fuse_request *request)
{
	struct fsxattr fsx;
	unsigned int flags;
	uint32_t known = 0;
	int r;

	if (request->args.data_size < sizeof(fsx))
		return -EINVAL;
	memcpy(&fsx, request->args.data, sizeof(fsx));
	r = core_get_fsflags(ops->core, request->node, &flags);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(ops_ioctl_flags); i++) {
		known |= ops_ioctl_flags[i].xflag;
		flags &= ~ops_ioctl_flags[i].flag;
		if (fsx.fsx_xflags & ops_ioctl_flags[i].xflag)
			flags |= ops_ioctl_flags[i].flag;
	}
	if ((fsx.fsx_xflags & ~known) || fsx.fsx_extsize || fsx.fsx_cowextsize || fsx.fsx_projid)
		return -EOPNOTSUPP;
	return ops_ioctl_change_flags(ops, request, flags);
}

int ops_ioctl(void *context, struct fuse_request *request)
{
	struct ops *ops = context;

	switch (request->args.in.ioctl.cmd) {
	case FS_IOC_GETFLAGS:
		return ops_ioctl_get_flags(ops, request);
	case FS_IOC_SETFLAGS:
		return ops_ioctl_set_flags(ops, request);
	case FS_IOC_FSGETXATTR:
		return ops_ioctl_get_fsxattr(ops, request);
	case FS_IOC_FSSETXATTR:
		return ops_ioctl_set_fsxattr(ops, request);
	default:
		return -ENOTTY;
	}
}
