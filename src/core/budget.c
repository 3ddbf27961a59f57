/* SPDX-License-Identifier: MIT */
/* Rounds in which the kernel is asked to forget. */
#include "core/budget.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/util.h"
#include "core/internal.h"

/* Ids that are handed over at once; the kernel takes as many in one go. */
#define BUDGET_BATCH UINT64_C(512)
/* A round goes down to this part of the limit below it. */
#define BUDGET_ROOM 8
/*
 * After a round the next one is due when there are this part more nodes: the kernel may have kept
 * everything, and it would say the same again. But at least BUDGET_SLACK_MIN.
 */
#define BUDGET_SLACK 16
#define BUDGET_SLACK_MIN UINT64_C(16)
/* Once around clears the bits, so that the second time everything is found. */
#define BUDGET_TURNS 2

/* ---- when ---- */

static uint64_t budget_mark(const struct budget *budget, uint64_t count)
{
	uint64_t slack = MAX(count / BUDGET_SLACK, BUDGET_SLACK_MIN);

	return MAX(budget->config.max_nodes, count + slack);
}

void budget_note_more(struct budget *budget, uint64_t count)
{
	if (!budget->config.max_nodes ||
	    count <= atomic_load_explicit(&budget->mark, memory_order_relaxed))
		return;
	if (!atomic_load_explicit(&budget->is_due, memory_order_relaxed) &&
	    !atomic_exchange(&budget->is_due, true))
		budget->config.exceeded(budget->config.context);
}

/*
 * What the kernel forgets reaches us after the round that asked for it: the mark follows the
 * number down to the limit. Two threads may do so at once; then it lies a few nodes higher.
 */
void budget_note_less(struct budget *budget, uint64_t count)
{
	uint64_t mark = atomic_load_explicit(&budget->mark, memory_order_relaxed);

	if (!budget->config.max_nodes || mark == budget->config.max_nodes)
		return;
	if (budget_mark(budget, count) < mark)
		atomic_store_explicit(&budget->mark, budget_mark(budget, count),
				      memory_order_relaxed);
}

void core_set_budget(struct core *core, const struct core_budget *config)
{
	core->budget.config = *config;
	atomic_init(&core->budget.mark, config->max_nodes);
}

/* ---- which ---- */

struct budget_batch {
	const struct node *root;
	uint64_t ids[BUDGET_BATCH];
	unsigned int count, room; /* room: how many are wanted */
};

/*
 * One reference is the kernel's, all of whose count as one. Whatever else needs a node has another
 * one: a request under way, a directory's known children, an open directory.
 */
static bool budget_is_candidate(const struct node *node)
{
	uint32_t flags = atomic_load_explicit(&node->flags, memory_order_relaxed);

	return atomic_load_explicit(&node->refs, memory_order_relaxed) == 1 &&
	       !(flags & (NODE_ORPHAN | NODE_COPYING | NODE_WARMING));
}

static bool budget_visit(void *object, void *context)
{
	struct node *node = object;
	struct budget_batch *batch = context;

	if (batch->count == batch->room)
		return false;
	if (node_has(node, NODE_RECENT))
		node_clear(node, NODE_RECENT);
	else if (node != batch->root && budget_is_candidate(node))
		batch->ids[batch->count++] = node->id;
	return batch->count < batch->room;
}

/* Fills @batch. False: the hand has gone around @turns times in all, there is no more to be had. */
static bool budget_collect(struct core *core, struct budget_batch *batch, unsigned int *turns)
{
	while (batch->count < batch->room && *turns < BUDGET_TURNS) {
		if (!idtable_sweep(core->nodes.ids, &core->budget.hand, budget_visit, batch))
			(*turns)++;
	}
	return *turns < BUDGET_TURNS;
}

/* ---- a round ---- */

static int budget_round(struct core *core, core_prune_fn *prune, void *context)
{
	uint64_t count = idtable_count(core->nodes.ids), max = core->budget.config.max_nodes;
	uint64_t target = max - max / BUDGET_ROOM;
	uint64_t left = count > target ? count - target : 0;
	unsigned int turns = 0;
	bool go_on = true;
	int r = 0;

	while (r == 0 && go_on && left > 0) {
		struct budget_batch batch = {
			.root = core->root,
			.room = (unsigned int)MIN(left, BUDGET_BATCH),
		};

		go_on = budget_collect(core, &batch, &turns);
		left -= batch.count;
		if (batch.count > 0)
			r = prune(context, batch.ids, batch.count);
	}
	return r;
}

int core_prune(struct core *core, core_prune_fn *prune, void *context)
{
	struct budget *budget = &core->budget;
	int r = budget_round(core, prune, context);

	atomic_store(&budget->mark, budget_mark(budget, idtable_count(core->nodes.ids)));
	atomic_store(&budget->is_due, false);
	return r;
}

uint64_t core_node_count(const struct core *core)
{
	return idtable_count(core->nodes.ids);
}
