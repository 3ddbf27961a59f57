/* SPDX-License-Identifier: MIT */
#include "fuse/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/util.h"
#include "fuse/transport.h"

struct loop_request {
	struct fuse_request base;
	char *message, *scratch;
};

struct loop_reply {
	struct list link;
	size_t size;
	char data[];
};

struct loop {
	struct fuse_transport base;
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	struct list replies; /* struct loop_reply, oldest first; owned */
	int refuse;
};

static struct loop *loop_of(struct fuse_transport *transport)
{
	return container_of(transport, struct loop, base);
}

static int loop_start(struct fuse_transport *transport)
{
	return 0;
}

static void loop_stop(struct fuse_transport *transport)
{
}

static int loop_get_device(struct fuse_transport *transport)
{
	return -ENODEV;
}

static void loop_trim(struct fuse_transport *transport)
{
}

static void loop_get_state(struct fuse_transport *transport, struct fuse_transport_state *state)
{
	*state = (struct fuse_transport_state){ .name = "loop" };
}

static struct loop_reply *loop_reply_new(const struct iovec *iov, int count)
{
	struct loop_reply *reply;
	size_t size = 0, at = 0;

	for (int i = 0; i < count; i++)
		size += iov[i].iov_len;
	reply = malloc(sizeof(*reply) + size);
	if (!reply)
		return NULL;
	reply->size = size;
	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > 0) /* an empty part may have no base */
			memcpy(reply->data + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	return reply;
}

static int loop_notify(struct fuse_transport *transport, const struct iovec *iov, int count)
{
	struct loop *loop = loop_of(transport);
	struct loop_reply *reply = loop_reply_new(iov, count);
	int r;

	if (!reply)
		return -ENOMEM;
	lock_mutex_lock(&loop->lock);
	r = loop->refuse;
	if (r == 0)
		list_add_tail(&loop->replies, &reply->link);
	lock_mutex_unlock(&loop->lock);
	if (r < 0)
		free(reply);
	return r;
}

static int loop_reply(struct fuse_transport *transport, struct fuse_request *request,
		      const struct iovec *iov, int count)
{
	return loop_notify(transport, iov, count);
}

static struct loop_request *loop_request_free(struct loop_request *request)
{
	free(request->message);
	free(request->scratch);
	free(request);
	return NULL;
}

static void loop_release(struct fuse_transport *transport, struct fuse_request *request)
{
	loop_request_free(container_of(request, struct loop_request, base));
}

static struct fuse_transport *loop_free(struct fuse_transport *transport)
{
	struct loop *loop = loop_of(transport);

	while (loop_take(transport, NULL, 0))
		;
	lock_mutex_deinit(&loop->lock);
	free(loop);
	return NULL;
}

static const struct fuse_transport_ops loop_ops = {
	.start = loop_start,
	.stop = loop_stop,
	.reply = loop_reply,
	.release = loop_release,
	.notify = loop_notify,
	.get_device = loop_get_device,
	.trim = loop_trim,
	.get_state = loop_get_state,
	.free = loop_free,
};

struct fuse_transport *loop_new(struct fuse_session *session)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->base.ops = &loop_ops;
	loop->base.session = session;
	lock_mutex_init(&loop->lock, LOCK_RANK_LEAF);
	list_init(&loop->replies);
	return &loop->base;
}

int loop_send(struct fuse_transport *transport, const void *message, size_t size)
{
	struct loop_request *request = calloc(1, sizeof(*request));

	if (!request)
		return -ENOMEM;
	/* Not a byte more, so that a sanitizer sees every read beyond the message. */
	request->message = malloc(MAX(size, (size_t)1));
	request->scratch = malloc(TRANSPORT_PAYLOAD_MAX);
	if (!request->message || !request->scratch) {
		loop_request_free(request);
		return -ENOMEM;
	}
	if (size)
		memcpy(request->message, message, size);
	request->base.transport = transport;
	request->base.message = request->message;
	request->base.message_size = size;
	request->base.scratch = request->scratch;
	request->base.scratch_size = TRANSPORT_PAYLOAD_MAX;
	session_receive(transport->session, &request->base);
	return 0;
}

size_t loop_take(struct fuse_transport *transport, void *buf, size_t size)
{
	struct loop *loop = loop_of(transport);
	_cleanup_free_ struct loop_reply *reply = NULL;

	lock_mutex_lock(&loop->lock);
	if (!list_is_empty(&loop->replies)) {
		reply = list_entry(loop->replies.next, struct loop_reply, link);
		list_remove(&reply->link);
	}
	lock_mutex_unlock(&loop->lock);
	if (!reply)
		return 0;
	if (size)
		memcpy(buf, reply->data, MIN(size, reply->size));
	return reply->size;
}

void loop_refuse(struct fuse_transport *transport, int error)
{
	struct loop *loop = loop_of(transport);

	lock_mutex_lock(&loop->lock);
	loop->refuse = error;
	lock_mutex_unlock(&loop->lock);
}
