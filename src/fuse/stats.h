/* SPDX-License-Identifier: MIT */
/*
 * How many requests of each kind there were and how long they took: counters
 * that are always on.  A thread counts in its processor's stripe with relaxed
 * atomics, so nobody waits and no cache line wanders.
 */
#ifndef VENEER_FUSE_STATS_H
#define VENEER_FUSE_STATS_H

#include "fuse/fuse.h"

/* Of latency: below 1024 ns, then a power of two each; the last is 17 s and more. */
#define STATS_BUCKETS 26

struct stats_opcode {
	_Atomic uint64_t buckets[STATS_BUCKETS];
	_Atomic uint64_t bytes; /* read or written */
};

struct stats_stripe {
	struct stats_opcode opcodes[ABI_OPCODE_COUNT]; /* 0: messages that make no sense */
};

struct stats {
	unsigned int stripe_count;
	struct stats_stripe *stripes; /* owned */
};

/* 0 or -ENOMEM. */
int stats_init(struct stats *stats);
void stats_deinit(struct stats *stats);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t stats_now_ns(void);
/* The request, begun at request->started_ns, is answered, or needs no answer. */
void stats_count(struct stats *stats, const struct fuse_request *request);

#endif
