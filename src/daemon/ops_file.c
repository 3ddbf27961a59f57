/* SPDX-License-Identifier: MIT */
/*
 * Regular files.  The kernel gets no file handle: data belongs to the node,
 * whichever descriptor asks for it.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/util.h"
#include "daemon/ops.h"

/* What COPY_FILE_RANGE's 32-bit reply can tell, page aligned. */
#define OPS_COPY_MAX 0x7ffff000U

static int ops_file_store(void *transport, uint64_t node, uint64_t offset, const void *data,
			  size_t size)
{
	return fuse_notify_store(transport, node, offset, data, size);
}

/* How a file is open that core_open() or core_create() gave @backing. */
static struct fuse_opened ops_file_opened(const struct ops *ops, int backing)
{
	struct fuse_opened opened = { .flags = ops->open_flags, .backing = MAX(backing, 0) };

	/* Pages of before may be older than what was written past them. */
	if (backing == CORE_BACKING_BESIDE)
		opened.flags &= ~(uint32_t)FOPEN_KEEP_CACHE;
	return opened;
}

static void ops_file_close(struct ops *ops, uint64_t node, uint32_t flags)
{
	if ((flags & O_ACCMODE) == O_RDONLY)
		core_release(ops->core, node);
	else
		core_release_writer(ops->core, node);
}

int ops_file_open(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	struct core_call call = ops_call(request, 0);
	struct fuse_opened opened;
	int backing, r;

	/* The kernel asks no more, for any file: opening one is its own affair from now on. */
	if (ops->is_openless) {
		fuse_reply_unsupported(request);
		return 0;
	}
	r = core_open(ops->core, &call, request->node, (int)request->args.in.open.flags, &backing);
	if (r < 0)
		return r;
	opened = ops_file_opened(ops, backing);
	/* Without KEEP_CACHE the kernel would drop what is stored when it has the reply. */
	if (!opened.backing && (request->args.in.open.flags & O_ACCMODE) != O_RDONLY &&
	    opened.flags & FOPEN_KEEP_CACHE)
		core_warm(ops->core, request->node, ops_file_store, request->transport);
	if (fuse_reply_open(request, &opened) < 0)
		ops_file_close(ops, request->node, request->args.in.open.flags);
	return 0;
}

static void ops_file_reply_create(struct ops *ops, struct fuse_request *request,
				  const struct core_entry *entry, int backing)
{
	const struct fuse_opened opened = ops_file_opened(ops, backing);

	if (fuse_reply_create(request, entry->node, &entry->attr, &opened) < 0)
		ops_file_close(ops, entry->node, request->args.in.create.flags);
}

int ops_file_create(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_create_in *in = &request->args.in.create;
	struct core_call call = ops_call(request, in->umask);
	struct core_entry entry;
	int backing, r;

	/* It takes MKNOD instead, which leaves nothing to be released. */
	if (ops->is_openless) {
		fuse_reply_unsupported(request);
		return 0;
	}
	r = core_create(ops->core, &call, request->node, request->args.name, in->mode,
			(int)in->flags, &entry, &backing);
	/* The kernel thought the name was free. It looks again, then opens what it finds. */
	if (r == -EEXIST && !(in->flags & O_EXCL))
		return -ESTALE;
	if (r < 0)
		return r;
	ops_file_reply_create(ops, request, &entry, backing);
	return 0;
}

int ops_file_tmpfile(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_create_in *in = &request->args.in.create;
	struct core_call call = ops_call(request, in->umask);
	struct core_entry entry;
	int backing;
	int r = core_tmpfile(ops->core, &call, request->node, in->mode, (int)in->flags, &entry,
			     &backing);

	if (r < 0)
		return r;
	ops_file_reply_create(ops, request, &entry, backing);
	return 0;
}

int ops_file_release(void *context, struct fuse_request *request)
{
	struct ops *ops = context;

	ops_file_close(ops, request->node, request->args.in.release.flags);
	fuse_reply_error(request, 0);
	return 0;
}

int ops_file_read(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_read_in *in = &request->args.in.read;
	void *buf = fuse_request_scratch(request, in->size);
	ssize_t size;

	if (!buf)
		return -EINVAL;
	size = core_read(ops->core, request->node, buf, in->size, in->offset,
			 in->flags & O_NOATIME);
	if (size < 0)
		return (int)size;
	fuse_reply_data(request, buf, (size_t)size);
	idle_note(ops->idle, (size_t)size);
	return 0;
}

static unsigned int ops_file_write_flags(const struct fuse_write_in *in)
{
	/* Pages that the kernel writes back lie where they lie. */
	bool appends = in->flags & O_APPEND && !(in->write_flags & FUSE_WRITE_CACHE);

	return (in->write_flags & FUSE_WRITE_KILL_SUIDGID ? CORE_WRITE_KILL_SUIDGID : 0) |
	       (appends ? CORE_WRITE_APPEND : 0);
}

int ops_file_write(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_write_in *in = &request->args.in.write;
	struct core_call call = ops_call(request, 0);
	ssize_t size = core_write(ops->core, &call, request->node, request->args.data,
				  request->args.data_size, in->offset, ops_file_write_flags(in));

	if (size < 0)
		return (int)size;
	fuse_reply_written(request, (size_t)size);
	/* A descriptor for writing keeps the upper's file system from being made read-only, and who
	 * still has the file open may only be reading: it is closed in a quiet moment. */
	idle_note(ops->idle, MAX((size_t)size, IDLE_WORTHWHILE));
	return 0;
}

int ops_file_fsync(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	bool data_only = request->args.in.fsync.fsync_flags & FUSE_FSYNC_FDATASYNC;
	int r = core_fsync(ops->core, request->node, data_only);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

int ops_file_fallocate(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_fallocate_in *in = &request->args.in.fallocate;
	struct core_call call = ops_call(request, 0);
	int r = core_fallocate(ops->core, &call, request->node, (int)in->mode, in->offset,
			       in->length);

	if (r < 0)
		return r;
	fuse_reply_error(request, 0);
	return 0;
}

int ops_file_seek(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_lseek_in *in = &request->args.in.lseek;
	off_t offset = core_seek(ops->core, request->node, (off_t)in->offset, (int)in->whence);

	if (offset < 0)
		return (int)offset;
	fuse_reply_offset(request, (uint64_t)offset);
	return 0;
}

int ops_file_copy(void *context, struct fuse_request *request)
{
	struct ops *ops = context;
	const struct fuse_copy_file_range_in *in = &request->args.in.copy_file_range;
	struct core_call call = ops_call(request, 0);
	uint64_t length = in->len < OPS_COPY_MAX ? in->len : OPS_COPY_MAX;
	ssize_t size;

	if (in->flags)
		return -EINVAL;
	size = core_copy_range(ops->core, &call, request->node, in->off_in, in->nodeid_out,
			       in->off_out, (size_t)length);
	if (size < 0)
		return (int)size;
	fuse_notify_attr(request); /* the access time of what was read */
	if (request->opcode == ABI_COPY_FILE_RANGE_64)
		fuse_reply_copied(request, (uint64_t)size);
	else
		fuse_reply_written(request, (size_t)size);
	return 0;
}
