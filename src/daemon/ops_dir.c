/* SPDX-License-Identifier: MIT */
/* Listing directories. */
#include "daemon/ops.h"

int ops_dir_open(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct fuse_opened opened = { 0 };
	enum core_dircache cache;
	int r = core_opendir(ops->core, request->node, &opened.handle, &cache);

	if (r < 0)
		return r;
	if (ops->caches_dirs && cache != CORE_DIRCACHE_NONE)
		opened.flags = FOPEN_CACHE_DIR;
	if (ops->caches_dirs && cache == CORE_DIRCACHE_KEEP)
		opened.flags |= FOPEN_KEEP_CACHE;
	if (fuse_reply_open(request, &opened) < 0)
		core_releasedir(ops->core, opened.handle);
	return 0;
}

static bool ops_dir_emit(void *context, const struct core_dirent *dirent)
{
	struct fuse_dirbuf *buf = context;
	const struct fuse_dirbuf_entry entry = {
		.name = dirent->name,
		.name_length = dirent->name_length,
		.ino = dirent->ino,
		.offset = dirent->offset,
		.type = dirent->type,
		.node = buf->plus ? dirent->entry.node : 0,
		.attr = &dirent->entry.attr,
	};

	return fuse_dirbuf_add(buf, &entry);
}

int ops_dir_read(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_read_in *in = &request->args.in.read;
	struct core_call call = ops_call(request, 0);
	struct fuse_dirbuf buf;
	int r = fuse_dirbuf_init(&buf, request);

	if (r < 0)
		return r;
	r = core_readdir(ops->core, &call, in->fh, in->offset, buf.plus, ops_dir_emit, &buf);
	/* What was packed before the failure carries references already: it goes out, and the
	 * kernel meets the error when it asks for the rest. */
	if (r < 0 && !buf.used)
		return r;
	fuse_reply_dirbuf(&buf);
	return 0;
}

int ops_dir_release(void *context, struct fuse_request *request)
{
	struct ops *ops = context;

	core_releasedir(ops->core, request->args.in.release.fh);
	fuse_reply_error(request, 0);
	return 0;
}

int ops_dir_fsync(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	bool data_only = request->args.in.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC;
	int r = core_fsyncdir(ops->core, request->node, data_only);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}
