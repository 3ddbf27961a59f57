/* SPDX-License-Identifier: MIT */
/* Within src/fuse: what a session is made of. */
#ifndef VENEER_FUSE_SESSION_H
#define VENEER_FUSE_SESSION_H

#include "fuse/fuse.h"
#include "fuse/inflight.h"
#include "fuse/stats.h"

enum session_state {
	SESSION_NEW, /* INIT has not been answered */
	SESSION_LIVE,
	SESSION_DESTROYED, /* the kernel said it is the end */
};

struct fuse_session {
	struct fuse_session_config config;
	uint32_t generation; /* of every node: another one in each mount; constant */
	_Atomic int state; /* enum session_state */
	/* Set before SESSION_LIVE is, constant afterwards. */
	_Atomic uint32_t minor; /* the older of both sides */
	_Atomic uint64_t flags; /* negotiated INIT flags */
	/* Set by a transport that can go over to io_uring: called once INIT is answered, with
	 * whether the kernel will. */
	void (*negotiated)(void *context, bool over_io_uring);
	void *negotiated_context;
	struct inflight inflight;
	struct stats stats;
};

/*
 * The answer to INIT: what this program wants of what the kernel offers. Sets minor and flags.
 * Returns 0, or -EPROTO if the kernel's protocol is too old.
 */
int init_negotiate(struct fuse_session *session, const struct fuse_init_in *in,
		   struct abi_init_out *out);

#endif
