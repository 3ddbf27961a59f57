/* SPDX-License-Identifier: MIT */
/* The one file that answers requests. */
#include "fuse/reply.h"

#include <errno.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/decode.h"
#include "fuse/encode.h"
#include "fuse/session.h"
#include "fuse/transport.h"

/* After this the request's memory is the transport's again. */
static void reply_end(struct fuse_request *request)
{
	struct fuse_transport *transport = request->transport;

	stats_count(&request->session->stats, request);
	transport->ops->release(transport, request);
}

/* Sends a reply of at most two pieces; the request stays, for the caller to reply_end(). */
static int reply_send(struct fuse_request *request, int error, const void *data, size_t size,
		      const void *more, size_t more_size)
{
	struct fuse_transport *transport = request->transport;
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + size + more_size),
		.error = encode_error(error),
		.unique = request->unique,
	};
	struct iovec iov[3] = {
		{ &header, sizeof(header) },
		{ (void *)data, size },
		{ (void *)more, more_size },
	};
	int r;

	/* Before the kernel may think of this number as done with. */
	inflight_remove(&request->session->inflight, request);
	r = transport->ops->reply(transport, request, iov, more_size ? 3 : size ? 2 : 1);
	log_debug("%llu %s node %llu: %d, %zu bytes%s", (unsigned long long)request->unique,
		  decode_opcode_name(request->opcode), (unsigned long long)request->node, error,
		  size + more_size, r < 0 ? " (not taken)" : "");
	return r;
}

static int reply_with(struct fuse_request *request, const void *data, size_t size)
{
	int r = reply_send(request, 0, data, size, NULL, 0);

	reply_end(request);
	return r;
}

/* As reply_with(), for replies that give the kernel a reference on @node. */
static int reply_with_node(struct fuse_request *request, uint64_t node, const void *data,
			   size_t size, const void *more, size_t more_size)
{
	const struct fuse_session_config *config = &request->session->config;
	int r = reply_send(request, 0, data, size, more, more_size);

	if (r < 0 && node)
		config->handlers->forget(config->context, node, 1);
	reply_end(request);
	return r;
}

void reply_nothing(struct fuse_request *request)
{
	reply_end(request);
}

int reply_errno(struct fuse_request *request, int error)
{
	int r = reply_send(request, error, NULL, 0, NULL, 0);

	reply_end(request);
	return r;
}

int fuse_reply_error(struct fuse_request *request, int error)
{
	/* A layer's missing system call is no reason to never ask again. */
	return reply_errno(request, error == -ENOSYS ? -EOPNOTSUPP : error);
}

int fuse_reply_unsupported(struct fuse_request *request)
{
	return reply_errno(request, -ENOSYS);
}

int fuse_reply_data(struct fuse_request *request, const void *data, size_t size)
{
	if (request->opcode == FUSE_READ)
		request->moved = size;
	return reply_with(request, data, size);
}

int fuse_reply_entry(struct fuse_request *request, uint64_t node, const struct statx *attr)
{
	struct fuse_entry_out out;

	encode_entry_out(node, attr, request->session->config.valid, request->session->generation,
			 &out);
	return reply_with_node(request, node, &out, sizeof(out), NULL, 0);
}

int fuse_reply_attr(struct fuse_request *request, const struct statx *attr)
{
	struct fuse_attr_out out;

	encode_attr_out(attr, request->session->config.valid, &out);
	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_statx(struct fuse_request *request, const struct statx *attr)
{
	struct fuse_statx_out out;

	encode_statx_out(attr, request->session->config.valid, &out);
	return reply_with(request, &out, sizeof(out));
}

static struct abi_open_out reply_opened(const struct fuse_opened *opened)
{
	/* With a backing the kernel has no pages of its own, and refuses flags about them. */
	const uint32_t of_cache = FOPEN_KEEP_CACHE | FOPEN_DIRECT_IO;

	return (struct abi_open_out){
		.fh = opened->handle,
		.open_flags = opened->backing ? (opened->flags & ~of_cache) | FOPEN_PASSTHROUGH :
						opened->flags,
		.backing_id = opened->backing,
	};
}

int fuse_reply_open(struct fuse_request *request, const struct fuse_opened *opened)
{
	struct abi_open_out out = reply_opened(opened);

	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_create(struct fuse_request *request, uint64_t node, const struct statx *attr,
		      const struct fuse_opened *opened)
{
	struct abi_open_out open = reply_opened(opened);
	struct fuse_entry_out out;

	encode_entry_out(node, attr, request->session->config.valid, request->session->generation,
			 &out);
	return reply_with_node(request, node, &out, sizeof(out), &open, sizeof(open));
}

int fuse_reply_written(struct fuse_request *request, size_t size)
{
	struct fuse_write_out out = { .size = (uint32_t)size };

	request->moved = size;
	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_copied(struct fuse_request *request, uint64_t size)
{
	struct fuse_copy_file_range_out out = { .bytes_copied = size };

	request->moved = size;
	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_xattr_size(struct fuse_request *request, size_t size)
{
	struct fuse_getxattr_out out = { .size = (uint32_t)size };

	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_offset(struct fuse_request *request, uint64_t offset)
{
	struct fuse_lseek_out out = { .offset = offset };

	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_statfs(struct fuse_request *request, const struct statvfs *st)
{
	struct fuse_statfs_out out;

	encode_statfs_out(st, &out);
	return reply_with(request, &out, sizeof(out));
}

int fuse_reply_ioctl(struct fuse_request *request, const void *data, size_t size)
{
	struct fuse_ioctl_out out = { .result = 0 };
	int r = reply_send(request, 0, &out, sizeof(out), data, size);

	reply_end(request);
	return r;
}

int fuse_dirbuf_init(struct fuse_dirbuf *buf, struct fuse_request *request)
{
	size_t size = request->args.in.read.size;
	char *data = fuse_request_scratch(request, size);

	if (!data)
		return -EINVAL;
	*buf = (struct fuse_dirbuf){
		.request = request,
		.data = data,
		.size = size,
		.plus = request->opcode == FUSE_READDIRPLUS,
	};
	return 0;
}

bool fuse_dirbuf_add(struct fuse_dirbuf *buf, const struct fuse_dirbuf_entry *entry)
{
	const struct fuse_session *session = buf->request->session;
	size_t room = buf->size - buf->used;
	size_t used;

	if (buf->plus)
		used = encode_direntplus(entry, session->config.valid, session->generation,
					 buf->data + buf->used, room);
	else
		used = encode_dirent(entry, buf->data + buf->used, room);
	if (used > room)
		return false;
	buf->used += used;
	return true;
}

int fuse_reply_dirbuf(struct fuse_dirbuf *buf)
{
	struct fuse_request *request = buf->request;
	const struct fuse_session_config *config = &request->session->config;
	int r = reply_send(request, 0, buf->data, buf->used, NULL, 0);

	if (r < 0 && buf->plus)
		encode_direntplus_nodes(buf->data, buf->used, config->handlers->forget,
					config->context);
	reply_end(request);
	return r;
}
