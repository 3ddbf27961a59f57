/* SPDX-License-Identifier: MIT */
/*
 * Copy-ups under way, for whoever asks how far they are.
 *
 * A copying thread enters an item that lies on its own stack; asking never
 * makes it wait for more than a few instructions.
 */
#ifndef VENEER_CORE_PROGRESS_H
#define VENEER_CORE_PROGRESS_H

#include <stdint.h>
#include <time.h>

#include "base/list.h"
#include "base/lock.h"

struct core;
struct node;

struct progress {
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards running */
	struct list running; /* struct progress_item, oldest first */
	_Atomic uint64_t copyups, bytes; /* that succeeded, and the data they brought */
};

struct progress_item {
	struct list link;
	struct progress *progress; /* borrowed */
	struct node *node; /* borrowed: the copying thread has a reference */
	struct timespec started; /* CLOCK_MONOTONIC */
	_Atomic uint64_t done, size; /* bytes of data; size is 0 while there are none to copy */
	_Atomic int phase; /* enum core_copyup_phase */
};

void progress_init(struct progress *progress);
/* No copy-up may be under way (asserted). */
void progress_deinit(struct progress *progress);

/* From here until progress_leave() others see the copy-up of @node. */
void progress_enter(struct progress *progress, struct progress_item *item, struct node *node);
/* @size bytes of data will be copied. */
void progress_set_size(struct progress_item *item, uint64_t size);
/* So many of them are. Has the type of sys_copy.progress but for the context. */
void progress_set_done(struct progress_item *item, uint64_t done);
/* All data is copied: what is left is to bring it to the disk and to its name. */
void progress_set_finishing(struct progress_item *item);
/* @result: of the copy-up, 0 or -errno. */
void progress_leave(struct progress_item *item, int result);

#endif
