/* SPDX-License-Identifier: MIT */
/* Which way data goes: served from the daemon, or passed through by the kernel. */
#ifndef VENEER_DAEMON_DATAPATH_H
#define VENEER_DAEMON_DATAPATH_H

#include "base/strbuf.h"
#include "daemon/ops.h"
#include "daemon/options.h"

struct datapath {
	bool is_passthrough;
	const char *why; /* a sentence without its end */
	struct core_backing backing;
	struct fuse_transport *transport; /* once there is one */
};

/*
 * Decides for @core, and says so in @ops. Returns 0, or -EPERM or -EINVAL with a sentence for the
 * user in @why if what was asked for cannot be.
 */
int datapath_init(struct datapath *datapath, const struct options *options, struct core *core,
		  struct ops *ops, struct strbuf *why);
/* For fuse_session_config.passthrough_depth. */
unsigned int datapath_depth(const struct datapath *datapath, const struct core *core);

#endif
