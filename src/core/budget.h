/* SPDX-License-Identifier: MIT */
/*
 * How many nodes there may be.  A node lives as long as the kernel remembers
 * it, and the kernel forgets under memory pressure only, of which it sees none
 * while the memory is ours.  So above a number of nodes it is asked to forget
 * some: those that nobody has asked for longest, by the clock algorithm, a
 * hand over the table of ids and a bit in each node (NODE_RECENT).
 *
 * Asking is a hint.  The kernel keeps what it uses (open files, working
 * directories, mount points), and what it gives up comes back as FORGET, which
 * is how nodes go in any case: nothing here frees one.
 */
#ifndef VENEER_CORE_BUDGET_H
#define VENEER_CORE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/idtable.h"
#include "core/core.h"

struct node;

struct budget {
	struct core_budget config; /* constant; max_nodes 0: there is no limit */
	_Atomic uint64_t mark; /* a round is due when there are more nodes than this */
	_Atomic bool is_due; /* exceeded() was called, and the round has not ended */
	struct idtable_hand hand; /* of the one thread that calls core_prune() */
};

/* After a node came, and after one went: there are @count now. */
void budget_note_more(struct budget *budget, uint64_t count);
void budget_note_less(struct budget *budget, uint64_t count);

#endif
