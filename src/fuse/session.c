/* SPDX-License-Identifier: MIT */
/*
 * A connection's state, and what becomes of each message.
 *
 * Invariant: every message that has a reply is answered exactly once, whatever
 * it holds; here, or by the handler that took it.
 */
#include "fuse/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "fuse/decode.h"
#include "fuse/reply.h"
#include "fuse/transport.h"

struct fuse_session *fuse_session_new(const struct fuse_session_config *config)
{
	struct fuse_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	if (stats_init(&session->stats) < 0) {
		free(session);
		return NULL;
	}
	session->config = *config;
	session->generation = (uint32_t)hash_u64(FUSE_ROOT_ID, 0); /* the key is random */
	inflight_init(&session->inflight);
	return session;
}

struct fuse_session *fuse_session_free(struct fuse_session *session)
{
	if (!session)
		return NULL;
	inflight_deinit(&session->inflight);
	stats_deinit(&session->stats);
	free(session);
	return NULL;
}

unsigned int fuse_session_inflight(struct fuse_session *session)
{
	return inflight_count(&session->inflight);
}

unsigned int fuse_session_minor(const struct fuse_session *session)
{
	return session->minor;
}

void session_enter_thread(struct fuse_session *session)
{
	if (session->config.thread_start)
		session->config.thread_start(session->config.context);
}

bool fuse_request_is_interrupted(void *request)
{
	return atomic_load_explicit(&((struct fuse_request *)request)->interrupted,
				    memory_order_relaxed);
}

void *fuse_request_scratch(struct fuse_request *request, size_t size)
{
	return size <= request->scratch_size ? request->scratch : NULL;
}

static void session_init(struct fuse_session *session, struct fuse_request *request)
{
	const struct fuse_init_in *in = &request->args.in.init;
	bool is_final = in->major <= FUSE_KERNEL_VERSION;
	struct abi_init_out out;
	int r;

	if (atomic_load(&session->state) != SESSION_NEW) {
		reply_errno(request, -EIO);
		return;
	}
	r = init_negotiate(session, in, &out);
	if (r < 0) {
		reply_errno(request, r);
	} else {
		/* The kernel lets other requests loose with the answer. */
		if (is_final)
			atomic_store(&session->state, SESSION_LIVE);
		r = fuse_reply_data(request, &out, sizeof(out));
	}
	if (session->negotiated && is_final)
		session->negotiated(session->negotiated_context,
				    r == 0 && (session->flags & FUSE_OVER_IO_URING));
	if (session->config.ready && (is_final || r < 0))
		session->config.ready(session->config.context, r);
}

static void session_forget_batch(struct fuse_session *session, const struct fuse_args *args)
{
	const char *at = args->data;

	for (uint32_t i = 0; i < args->in.batch_forget.count; i++) {
		struct fuse_forget_one one;

		memcpy(&one, at + i * sizeof(one), sizeof(one));
		session->config.handlers->forget(session->config.context, one.nodeid, one.nlookup);
	}
}

/* Messages that are not for a handler. False if @request is for one. */
static bool session_handle_own(struct fuse_session *session, struct fuse_request *request)
{
	const struct fuse_args *args = &request->args;

	switch (request->opcode) {
	case FUSE_FORGET:
		session->config.handlers->forget(session->config.context, request->node,
						 args->in.forget.nlookup);
		reply_nothing(request);
		return true;
	case FUSE_BATCH_FORGET:
		session_forget_batch(session, args);
		reply_nothing(request);
		return true;
	case FUSE_INTERRUPT:
		inflight_interrupt(&session->inflight, args->in.interrupt.unique);
		reply_nothing(request);
		return true;
	case FUSE_NOTIFY_REPLY: /* nothing was asked for */
		reply_nothing(request);
		return true;
	case FUSE_INIT:
		session_init(session, request);
		return true;
	case FUSE_DESTROY:
		atomic_store(&session->state, SESSION_DESTROYED);
		reply_errno(request, 0);
		return true;
	default:
		return false;
	}
}

/*
 * With only_owner others are refused what takes a path or opens something; what they could
 * only have from someone else's open file is let through, or closing it would fail.
 */
static bool session_may_ask(const struct fuse_session *session, const struct fuse_request *request)
{
	if (!session->config.only_owner || request->uid == 0 ||
	    request->uid == session->config.owner)
		return true;
	switch (request->opcode) {
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_LSEEK:
		return true;
	default:
		return false;
	}
}

void fuse_request_handle(struct fuse_request *request)
{
	const struct fuse_session_config *config = &request->session->config;
	const struct fuse_handlers *handlers = config->handlers;
	int entered = handlers->enter ? handlers->enter(config->context, request) : 0;

	if (entered < 0)
		return;
	int r = handlers->by_opcode[request->opcode](config->context, request);

	if (r < 0)
		fuse_reply_error(request, r);
	if (handlers->leave)
		handlers->leave(config->context, entered);
}

static void session_dispatch(struct fuse_session *session, struct fuse_request *request)
{
	fuse_handler *handler = session->config.handlers->by_opcode[request->opcode];

	if (atomic_load_explicit(&session->state, memory_order_acquire) != SESSION_LIVE) {
		reply_errno(request, -EIO);
		return;
	}
	if (!handler) {
		reply_errno(request, -ENOSYS);
		return;
	}
	if (!session_may_ask(session, request)) {
		reply_errno(request, -EACCES);
		return;
	}
	inflight_add(&session->inflight, request);
	fuse_request_handle(request);
}

/* A message that makes no sense. The kernel sends none such: worth a line, not more. */
static void session_reject(struct fuse_request *request, uint32_t opcode, int error)
{
	if (error != -ENOSYS)
		log_warning_limited("malformed %s message of %zu bytes", decode_opcode_name(opcode),
				    request->message_size);
	if (decode_is_brief(opcode) || opcode == FUSE_NOTIFY_REPLY)
		reply_nothing(request);
	else
		reply_errno(request, error);
}

void session_receive(struct fuse_session *session, struct fuse_request *request)
{
	struct fuse_in_header header;
	int r;

	request->session = session;
	request->opcode = 0;
	request->moved = 0;
	request->started_ns = stats_now_ns();
	list_init(&request->inflight);
	atomic_store_explicit(&request->interrupted, false, memory_order_relaxed);
	if (decode_header(request->message, request->message_size, &header) < 0) {
		log_warning_limited("message of %zu bytes", request->message_size);
		reply_nothing(request);
		return;
	}
	request->unique = header.unique;
	request->node = header.nodeid;
	request->opcode = header.opcode;
	request->uid = header.uid;
	request->gid = header.gid;
	request->pid = (pid_t)header.pid;
	r = decode_args(&header, request->message, request->message_size,
			session->flags & FUSE_SETXATTR_EXT, &request->args);
	if (r < 0)
		session_reject(request, header.opcode, r);
	else if (!session_handle_own(session, request))
		session_dispatch(session, request);
}
