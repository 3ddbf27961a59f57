/* SPDX-License-Identifier: MIT */
/*
 * Keeps the number of nodes within max_nodes: asks the kernel to forget, in
 * the main thread, which handles no requests.
 */
#ifndef VENEER_DAEMON_PRUNER_H
#define VENEER_DAEMON_PRUNER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "daemon/control.h"
#include "fuse/fuse.h"

struct pruner {
	struct core *core; /* borrowed, as are the others */
	struct control *control;
	struct fuse_session *session;
	struct fuse_transport *transport; /* set before it is started */
	bool is_again_due; /* of the main thread, as is the next */
	uint64_t max_nodes;
	uint64_t last_count; /* nodes before the last round */
};

/* Before the first request; 0 @max_nodes: without limit. */
void pruner_init(struct pruner *pruner, struct core *core, struct control *control,
		 unsigned int max_nodes);
/* Main thread: CONTROL_CROWDED came. */
void pruner_run(struct pruner *pruner);
/*
 * Once more, a moment later: the kernel knows nothing yet of what the answers told that were on
 * their way, and keeps what somebody is about to let go of. And again, while that achieves something.
 */
void pruner_run_again(struct pruner *pruner);
/* Main thread: for control_wait(), until pruner_run_again(). */
int pruner_timeout_ms(const struct pruner *pruner);

#endif
