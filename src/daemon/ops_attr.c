/* SPDX-License-Identifier: MIT */
/* Attributes, symbolic links' targets, the file system's numbers. */
#include <errno.h>
#include <limits.h>

#include "daemon/ops.h"

int ops_attr_get(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct statx attr;
	int r = core_getattr(ops->core, request->node, &attr);

	if (r < 0)
		return r;
	fuse_reply_attr(request, &attr);
	return 0;
}

int ops_attr_statx(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct statx attr;
	int r = core_statx(ops->core, request->node, request->args.in.statx.sx_mask, &attr);

	if (r < 0)
		return r;
	fuse_reply_statx(request, &attr);
	return 0;
}

static struct timespec ops_attr_time(uint64_t seconds, uint32_t nanoseconds, bool is_now)
{
	return (struct timespec){
		.tv_sec = (time_t)seconds,
		.tv_nsec = is_now ? UTIME_NOW : (long)nanoseconds,
	};
}

/* FATTR_FH and FATTR_LOCKOWNER say who asks, which changes nothing; FATTR_CTIME comes with the
 * writeback cache only. */
static struct core_setattr ops_attr_changes(const struct fuse_setattr_in *in)
{
	static const struct {
		uint32_t from;
		unsigned int to;
	} bits[] = {
		{ FATTR_MODE, CORE_SET_MODE },
		{ FATTR_UID, CORE_SET_UID },
		{ FATTR_GID, CORE_SET_GID },
		{ FATTR_SIZE, CORE_SET_SIZE },
		{ FATTR_ATIME, CORE_SET_ATIME },
		{ FATTR_MTIME, CORE_SET_MTIME },
		{ FATTR_KILL_SUIDGID, CORE_SET_KILL_SUIDGID },
	};
	struct core_setattr set = {
		.mode = in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.size = in->size,
		.atime = ops_attr_time(in->atime, in->atimensec, in->valid & FATTR_ATIME_NOW),
		.mtime = ops_attr_time(in->mtime, in->mtimensec, in->valid & FATTR_MTIME_NOW),
	};

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (in->valid & bits[i].from)
			set.mask |= bits[i].to;
	return set;
}

int ops_attr_set(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	struct core_setattr set = ops_attr_changes(&request->args.in.setattr);
	struct statx attr;
	int r = core_setattr(ops->core, &call, request->node, &set, &attr);

	if (r < 0)
		return r;
	fuse_reply_attr(request, &attr);
	return 0;
}

int ops_attr_readlink(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	char *target = fuse_request_scratch(request, PATH_MAX);
	ssize_t size;

	if (!target)
		return -ENOMEM;
	size = core_readlink(ops->core, request->node, target, PATH_MAX);
	if (size < 0)
		return (int)size;
	fuse_reply_data(request, target, (size_t)size);
	return 0;
}

int ops_attr_statfs(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct statvfs st;
	int r = core_statfs(ops->core, &st);

	if (r < 0)
		return r;
	fuse_reply_statfs(request, &st);
	return 0;
}
