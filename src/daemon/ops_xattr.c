/* SPDX-License-Identifier: MIT */
/* Extended attributes. */
#include <errno.h>

#include "daemon/ops.h"

/* Answers a value or a list: its size, if the caller asked with size 0, or the bytes. */
static int ops_xattr_reply(struct fuse_request *request, const void *data, ssize_t size)
{
	if (size < 0)
		return (int)size;
	if (!request->args.in.getxattr.size)
		fuse_reply_xattr_size(request, (size_t)size);
	else
		fuse_reply_data(request, data, (size_t)size);
	return 0;
}

int ops_xattr_get(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	size_t room = request->args.in.getxattr.size;
	void *value = fuse_request_scratch(request, room);

	if (!value)
		return -E2BIG;
	return ops_xattr_reply(request, value,
			       core_getxattr(ops->core, request->node, request->args.name, value,
					     room));
}

int ops_xattr_list(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	size_t room = request->args.in.getxattr.size;
	void *list = fuse_request_scratch(request, room);
	struct core_call call = ops_call(request, 0);

	if (!list)
		return -E2BIG;
	return ops_xattr_reply(request, list,
			       core_listxattr(ops->core, &call, request->node, list, room));
}

int ops_xattr_set(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_setxattr_in *in = &request->args.in.setxattr;
	struct core_call call = ops_call(request, 0);
	int r = core_setxattr(ops->core, &call, request->node, request->args.name,
			      request->args.data, request->args.data_size, (int)in->flags,
			      in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

int ops_xattr_remove(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	int r = core_removexattr(ops->core, &call, request->node, request->args.name);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}
