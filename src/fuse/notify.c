/* SPDX-License-Identifier: MIT */
/* Messages to the kernel that nobody asked for: unique 0, the code in `error`. */
#include <errno.h>
#include <string.h>

#include "fuse/abi.h"
#include "fuse/transport.h"

static int notify_send(struct fuse_transport *transport, int code, const void *data, size_t size,
		       const char *name)
{
	/* The kernel wants the NUL as well, but does not count it in namelen. */
	size_t name_size = name ? strlen(name) + 1 : 0;
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + size + name_size),
		.error = code,
	};
	struct iovec iov[3] = {
		{ &header, sizeof(header) },
		{ (void *)data, size },
		{ (void *)name, name_size },
	};

	return transport->ops->notify(transport, iov, name ? 3 : 2);
}

static int notify_entry(struct fuse_transport *transport, uint64_t parent, const char *name,
			uint32_t flags)
{
	struct fuse_notify_inval_entry_out out = {
		.parent = parent,
		.namelen = (uint32_t)strlen(name),
		.flags = flags,
	};

	return notify_send(transport, FUSE_NOTIFY_INVAL_ENTRY, &out, sizeof(out), name);
}

int fuse_notify_entry(struct fuse_transport *transport, uint64_t parent, const char *name)
{
	return notify_entry(transport, parent, name, 0);
}

int fuse_notify_expire(struct fuse_transport *transport, uint64_t parent, const char *name)
{
	return notify_entry(transport, parent, name, FUSE_EXPIRE_ONLY);
}

int fuse_notify_inode(struct fuse_transport *transport, uint64_t node, int64_t offset,
		      int64_t length)
{
	struct fuse_notify_inval_inode_out out = { .ino = node, .off = offset, .len = length };

	return notify_send(transport, FUSE_NOTIFY_INVAL_INODE, &out, sizeof(out), NULL);
}

int fuse_notify_store(struct fuse_transport *transport, uint64_t node, uint64_t offset,
		      const void *data, size_t size)
{
	struct fuse_notify_store_out out = { .nodeid = node,
					     .offset = offset,
					     .size = (uint32_t)size };
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + sizeof(out) + size),
		.error = FUSE_NOTIFY_STORE,
	};
	const struct iovec iov[3] = {
		{ &header, sizeof(header) },
		{ &out, sizeof(out) },
		{ (void *)data, size },
	};

	return transport->ops->notify(transport, iov, 3);
}

int fuse_notify_prune(struct fuse_transport *transport, const uint64_t *nodes, unsigned int count)
{
	struct fuse_notify_prune_out out = { .count = count };
	const size_t size = count * sizeof(*nodes);
	struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + sizeof(out) + size),
		.error = ABI_NOTIFY_PRUNE,
	};
	const struct iovec iov[3] = {
		{ &header, sizeof(header) },
		{ &out, sizeof(out) },
		{ (void *)nodes, size },
	};

	return transport->ops->notify(transport, iov, 3);
}

int fuse_notify_attr(struct fuse_request *request)
{
	return fuse_notify_inode(request->transport, request->node, -1, 0);
}
