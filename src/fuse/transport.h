/* SPDX-License-Identifier: MIT */
/* What a transport is to the session, and the session to a transport. */
#ifndef VENEER_FUSE_TRANSPORT_H
#define VENEER_FUSE_TRANSPORT_H

#include <sys/uio.h>

#include "fuse/fuse.h"

/* Payload of the largest WRITE, READ or READDIR: 1 MiB, what max_pages allows by default. */
#define TRANSPORT_PAYLOAD_MAX (1U << 20)
/* Room for everything else in a message: headers, and names of SYMLINK at their longest. */
#define TRANSPORT_HEADER_MAX (3U * 4096)

struct fuse_transport_ops {
	int (*start)(struct fuse_transport *transport);
	void (*stop)(struct fuse_transport *transport);
	/* Sends a reply; any thread. A transport that learns the outcome later returns 0. */
	int (*reply)(struct fuse_transport *transport, struct fuse_request *request,
		     const struct iovec *iov, int count);
	/* The request needs its memory no more; the transport may use it for the next. */
	void (*release)(struct fuse_transport *transport, struct fuse_request *request);
	int (*notify)(struct fuse_transport *transport, const struct iovec *iov, int count);
	/* The connection's /dev/fuse, or -ENODEV. */
	int (*get_device)(struct fuse_transport *transport);
	void (*trim)(struct fuse_transport *transport);
	void (*get_state)(struct fuse_transport *transport, struct fuse_transport_state *state);
	struct fuse_transport *(*free)(struct fuse_transport *transport);
};

struct fuse_transport {
	const struct fuse_transport_ops *ops;
	struct fuse_session *session;
};

/*
 * Handles the message that @request carries (message, message_size, scratch, scratch_size and
 * transport are set by the transport). When this returns the request may be released already,
 * or still be held by a handler.
 */
void session_receive(struct fuse_session *session, struct fuse_request *request);
/* Runs the thread_start callback. */
void session_enter_thread(struct fuse_session *session);

#endif
