/* SPDX-License-Identifier: MIT */
#include "daemon/pruner.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "daemon/idle.h"

/* The first minor of the protocol with FUSE_NOTIFY_PRUNE. */
#define PRUNER_MINOR_MIN 45
/* How long after a round it is quiet enough for another look. */
#define PRUNER_AGAIN_MS IDLE_QUIET_MS

static void pruner_exceeded(void *context)
{
	const struct pruner *pruner = context;

	control_post(pruner->control, CONTROL_CROWDED);
}

static int pruner_ask(void *context, const uint64_t *ids, unsigned int count)
{
	const struct pruner *pruner = context;

	return fuse_notify_prune(pruner->transport, ids, count);
}

void pruner_init(struct pruner *pruner, struct core *core, struct control *control,
		 unsigned int max_nodes)
{
	const struct core_budget budget = {
		.max_nodes = max_nodes,
		.exceeded = pruner_exceeded,
		.context = pruner,
	};

	pruner->core = core;
	pruner->max_nodes = max_nodes;
	pruner->control = control;
	core_set_budget(core, &budget);
}

static void pruner_round(struct pruner *pruner)
{
	int r = core_prune(pruner->core, pruner_ask, pruner);

	/* -ENOENT, -ENODEV: it is being unmounted. */
	if (r < 0 && r != -ENOENT && r != -ENODEV)
		log_warning_limited("max_nodes: %s", strerror(-r));
}

void pruner_run(struct pruner *pruner)
{
	/*
	 * An older kernel can only be told that a name is not what it was, which also takes it
	 * from who has it open, and what is mounted on it away. There the number is not limited;
	 * and as this round never ends, nobody is woken for it again.
	 */
	if (fuse_session_minor(pruner->session) < PRUNER_MINOR_MIN) {
		log_info("max_nodes: no effect before Linux 6.18");
		return;
	}
	pruner_round(pruner);
	pruner->is_again_due = true;
}

/*
 * What was in use in the last round may not be any more, and nobody tells: as long as there are too
 * many, and their number changes, there is something to be had.
 */
void pruner_run_again(struct pruner *pruner)
{
	if (!pruner->is_again_due)
		return;
	uint64_t count = core_node_count(pruner->core);

	pruner->is_again_due = count > pruner->max_nodes && count != pruner->last_count;
	pruner->last_count = count;
	if (pruner->is_again_due)
		pruner_round(pruner);
}

int pruner_timeout_ms(const struct pruner *pruner)
{
	return pruner->is_again_due ? PRUNER_AGAIN_MS : -1;
}
