/* SPDX-License-Identifier: MIT */
/* Listing directories. */
#include <dirent.h>

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

/* One answer being packed. */
struct ops_dir_answer {
	struct fuse_dirbuf buf;
	const struct readers_plan *plan;
	unsigned int count, plain_files;
};

static bool ops_dir_emit(void *context, const struct core_dirent *dirent)
{
	struct ops_dir_answer *answer = context;
	const struct fuse_dirbuf_entry entry = {
		.name = dirent->name,
		.name_length = dirent->name_length,
		.ino = dirent->ino,
		.offset = dirent->offset,
		.type = dirent->type,
		.node = dirent->entry.node,
		.attr = &dirent->entry.attr,
	};

	if (answer->plan->max && answer->count == answer->plan->max)
		return false;
	if (!fuse_dirbuf_add(&answer->buf, &entry))
		return false;
	answer->count++;
	answer->plain_files += !entry.node && entry.type != DT_DIR;
	return true;
}

int ops_dir_read(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_read_in *in = &request->args.in.read;
	struct core_call call = ops_call(request, 0);
	struct readers_plan plan = { 0 };
	struct ops_dir_answer answer = { .plan = &plan };
	int r = fuse_dirbuf_init(&answer.buf, request);

	if (r < 0)
		return r;
	if (answer.buf.plus)
		readers_plan(&ops->readers, request->pid, request->node, in->offset == 0, &plan);
	const struct core_dirread read = {
		.handle = in->fh,
		.offset = in->offset,
		.lookup = plan.lookup,
		.plain = plan.plain,
	};

	r = core_readdir(ops->core, &call, &read, ops_dir_emit, &answer);
	/* What was packed before the failure carries references already: it goes out, and the
	 * kernel meets the error when it asks for the rest. */
	if (r < 0 && !answer.buf.used)
		return r;
	if (answer.buf.plus && answer.plain_files)
		readers_note_trial(&ops->readers, request->pid);
	fuse_reply_dirbuf(&answer.buf);
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
