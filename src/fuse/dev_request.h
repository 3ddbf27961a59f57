/* SPDX-License-Identifier: MIT */
/* Within the device's transport: open files of the device, and requests with their memory. */
#ifndef VENEER_FUSE_DEV_REQUEST_H
#define VENEER_FUSE_DEV_REQUEST_H

#include <linux/fuse.h>
#include <stdatomic.h>

#include "base/list.h"
#include "fuse/transport.h"

#define DEV_MESSAGE_MAX (TRANSPORT_HEADER_MAX + TRANSPORT_PAYLOAD_MAX)

/* One open file of the device; closed with the last request that came through it. */
struct dev_channel {
	atomic_uint refs;
	int fd;
};

/* A request and its memory: the message (or only its head), and behind that the scratch. */
struct dev_request {
	struct fuse_request base;
	struct dev_channel *channel;
	/* One for the thread that dispatches it, one for the answer that is due. */
	atomic_uint refs;
	char *memory; /* DEV_MESSAGE_MAX bytes */
	struct list link; /* while one thread hands it to another */
};

/* Takes over @fd; NULL, and @fd is still the caller's, when out of memory. */
struct dev_channel *dev_channel_new(int fd);
struct dev_channel *dev_channel_ref(struct dev_channel *channel);
void dev_channel_unref(struct dev_channel *channel);

/* NULL when out of memory. */
struct dev_request *dev_request_new(struct fuse_transport *transport);
struct dev_request *dev_request_free(struct dev_request *request);
/* A message of @size bytes was read into @memory through @channel: both references begin. */
void dev_request_fill(struct dev_request *request, struct dev_channel *channel, size_t size);
/* Gives up one. True if it was the last: the request is the caller's to use again or free. */
bool dev_request_put(struct dev_request *request);
/* The head of the message; all zero if there is none, which the session finds too. */
struct fuse_in_header dev_request_head(const struct dev_request *request);
/* Gives back the memory of past large messages; of a request that is not in use. */
void dev_request_trim(struct dev_request *request);

#endif
