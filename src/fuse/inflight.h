/* SPDX-License-Identifier: MIT */
/*
 * The requests that handlers hold, so that an INTERRUPT finds its target.
 *
 * Any thread may read an INTERRUPT, also one that overtakes the thread with
 * the request itself: such an early one is remembered for a while. (Asking
 * the kernel to send it again with -EAGAIN works only through the very
 * descriptor the request was read from.)
 */
#ifndef VENEER_FUSE_INFLIGHT_H
#define VENEER_FUSE_INFLIGHT_H

#include "base/lock.h"
#include "fuse/fuse.h"

#define INFLIGHT_STRIPES 16
/* Early interrupts remembered per stripe; the oldest goes first. */
#define INFLIGHT_EARLY 8

struct inflight_stripe {
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	struct list requests;
	uint64_t early[INFLIGHT_EARLY];
	unsigned int next_early;
	unsigned int count;
};

struct inflight {
	struct inflight_stripe stripes[INFLIGHT_STRIPES];
};

void inflight_init(struct inflight *table);
/* The table must be empty (asserted). */
void inflight_deinit(struct inflight *table);
void inflight_add(struct inflight *table, struct fuse_request *request);
/* Also of requests that were never added. */
void inflight_remove(struct inflight *table, struct fuse_request *request);
void inflight_interrupt(struct inflight *table, uint64_t unique);
unsigned int inflight_count(struct inflight *table);

#endif
