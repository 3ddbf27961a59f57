/* SPDX-License-Identifier: MIT */
#include "fuse/dev_request.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuse/decode.h"

struct dev_channel *dev_channel_new(int fd)
{
	struct dev_channel *channel = malloc(sizeof(*channel));

	if (!channel)
		return NULL;
	atomic_init(&channel->refs, 1);
	channel->fd = fd;
	return channel;
}

struct dev_channel *dev_channel_ref(struct dev_channel *channel)
{
	atomic_fetch_add_explicit(&channel->refs, 1, memory_order_relaxed);
	return channel;
}

void dev_channel_unref(struct dev_channel *channel)
{
	if (atomic_fetch_sub_explicit(&channel->refs, 1, memory_order_acq_rel) != 1)
		return;
	close(channel->fd);
	free(channel);
}

struct dev_request *dev_request_free(struct dev_request *request)
{
	if (!request)
		return NULL;
	munmap(request->memory, DEV_MESSAGE_MAX);
	free(request);
	return NULL;
}

struct dev_request *dev_request_new(struct fuse_transport *transport)
{
	struct dev_request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	/* Not from malloc: only the pages that messages really touch shall count. */
	request->memory = mmap(NULL, DEV_MESSAGE_MAX, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (request->memory == MAP_FAILED) {
		free(request);
		return NULL;
	}
	request->base.transport = transport;
	return request;
}

bool dev_request_put(struct dev_request *request)
{
	return atomic_fetch_sub_explicit(&request->refs, 1, memory_order_acq_rel) == 1;
}

void dev_request_trim(struct dev_request *request)
{
	madvise(request->memory + TRANSPORT_HEADER_MAX, TRANSPORT_PAYLOAD_MAX, MADV_DONTNEED);
}

void dev_request_fill(struct dev_request *request, struct dev_channel *channel, size_t size)
{
	/* Behind the head of the message is room for the reply, unless the message needs it. */
	bool is_short = size <= TRANSPORT_HEADER_MAX;

	request->base.message = request->memory;
	request->base.message_size = size;
	request->base.scratch = is_short ? request->memory + TRANSPORT_HEADER_MAX : NULL;
	request->base.scratch_size = is_short ? TRANSPORT_PAYLOAD_MAX : 0;
	request->channel = dev_channel_ref(channel);
	atomic_store_explicit(&request->refs, 2, memory_order_relaxed);
}

struct fuse_in_header dev_request_head(const struct dev_request *request)
{
	struct fuse_in_header head;

	if (decode_header(request->base.message, request->base.message_size, &head) < 0)
		head = (struct fuse_in_header){ 0 };
	return head;
}
