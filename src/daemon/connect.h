/* SPDX-License-Identifier: MIT */
/* How requests come: the choice between the transports. */
#ifndef VENEER_DAEMON_CONNECT_H
#define VENEER_DAEMON_CONNECT_H

#include "base/strbuf.h"
#include "daemon/options.h"
#include "fuse/fuse.h"

/*
 * Before mounting: makes sure that io_uring can be had if it was asked for, and enables it in the
 * kernel where that takes root only. Returns 0, or -ENOTSUP with a sentence for the user in @why.
 */
int connect_check(const struct options *options, struct strbuf *why);

/* A transport, and why it was chosen, as a sentence without its end. */
struct connect {
	struct fuse_transport *transport;
	const char *why;
};

/* The transport for @options; takes @config->fd over in any case. As fuse_dev_new(). */
int connect_new(const struct options *options, struct fuse_session *session,
		const struct fuse_dev_config *config, struct connect *connect);

#endif
