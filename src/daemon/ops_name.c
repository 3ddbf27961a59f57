/* SPDX-License-Identifier: MIT */
/* Names in directories. */
#include <string.h>

#include "daemon/ops.h"

/* "." and ".." are what the kernel asks for when somebody opens a file handle. */
static int ops_name_find(struct ops *ops, struct fuse_request *request, struct core_entry *entry)
{
	const char *name = request->args.name;
	struct core_call call = ops_call(request, 0);

	if (strcmp(name, ".") == 0)
		return core_lookup_self(ops->core, request->node, entry);
	if (strcmp(name, "..") == 0)
		return core_lookup_parent(ops->core, request->node, entry);
	return core_lookup(ops->core, &call, request->node, name, entry);
}

int ops_name_lookup(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_entry entry;
	int r = ops_name_find(ops, request, &entry);

	if (r < 0)
		return r;
	if (entry.node && !S_ISDIR(entry.attr.stx_mode))
		readers_note_lookup(&ops->readers, request->pid, request->node);
	/* Node 0 tells the kernel to remember the absence. */
	fuse_reply_entry(request, entry.node, &entry.attr);
	return 0;
}

/* The end of every call that makes a name. */
static int ops_name_reply(struct fuse_request *request, int r, const struct core_entry *entry)
{
	if (r < 0)
		return r;
	fuse_reply_entry(request, entry->node, &entry->attr);
	return 0;
}

int ops_name_mknod(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_mknod_in *in = &request->args.in.mknod;
	struct core_call call = ops_call(request, in->umask);
	struct core_entry entry;
	int r = core_mknod(ops->core, &call, request->node, request->args.name, in->mode,
			   fuse_decode_dev(in->rdev), &entry);

	if (r == 0 && ops->is_openless &&
	    S_ISREG(in->mode)) /* it is kept open, as in ops_file_write() */
		idle_note(ops->idle, IDLE_WORTHWHILE);
	return ops_name_reply(request, r, &entry);
}

int ops_name_mkdir(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_mkdir_in *in = &request->args.in.mkdir;
	struct core_call call = ops_call(request, in->umask);
	struct core_entry entry;
	int r = core_mkdir(ops->core, &call, request->node, request->args.name,
			   (in->mode & ~(mode_t)S_IFMT) | S_IFDIR, &entry);

	return ops_name_reply(request, r, &entry);
}

int ops_name_symlink(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	struct core_entry entry;
	int r = core_symlink(ops->core, &call, request->node, request->args.name,
			     request->args.name2, &entry);

	return ops_name_reply(request, r, &entry);
}

int ops_name_link(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	struct core_entry entry;
	int r = core_link(ops->core, &call, request->args.in.link.oldnodeid, request->node,
			  request->args.name, &entry);

	return ops_name_reply(request, r, &entry);
}

int ops_name_unlink(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	int r = core_unlink(ops->core, &call, request->node, request->args.name);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

int ops_name_rmdir(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	int r = core_rmdir(ops->core, &call, request->node, request->args.name);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

static int ops_name_move(struct ops *ops, struct fuse_request *request, uint64_t new_parent,
			 unsigned int flags)
{
	struct core_call call = ops_call(request, 0);
	int r = core_rename(ops->core, &call, request->node, request->args.name, new_parent,
			    request->args.name2, flags);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

int ops_name_rename(void *context, struct fuse_request *request)
{
	return ops_name_move(context, request, request->args.in.rename.newdir, 0);
}

int ops_name_rename2(void *context, struct fuse_request *request)
{
	const struct fuse_rename2_in *in = &request->args.in.rename2;

	return ops_name_move(context, request, in->newdir, in->flags);
}
