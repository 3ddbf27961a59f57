/* SPDX-License-Identifier: MIT */
#include "fuse/stats.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/decode.h"
#include "fuse/session.h"

#define STATS_STRIPES_MAX 16
/* Bucket i > 0 begins at 2^(STATS_SHIFT + i - 1) ns. */
#define STATS_SHIFT 10
#define STATS_NS_PER_S UINT64_C(1000000000)

int stats_init(struct stats *stats)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	stats->stripe_count = cpus < 1		       ? 1 :
			      cpus < STATS_STRIPES_MAX ? (unsigned int)cpus :
							 STATS_STRIPES_MAX;
	stats->stripes = calloc(stats->stripe_count, sizeof(*stats->stripes));
	return stats->stripes ? 0 : -ENOMEM;
}

void stats_deinit(struct stats *stats)
{
	free(stats->stripes);
	stats->stripes = NULL;
}

uint64_t stats_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * STATS_NS_PER_S + (uint64_t)now.tv_nsec;
}

static unsigned int stats_bucket(uint64_t ns)
{
	uint64_t units = ns >> STATS_SHIFT;
	unsigned int bucket = units ? 64 - (unsigned int)__builtin_clzll(units) : 0;

	return MIN(bucket, STATS_BUCKETS - 1U);
}

void stats_count(struct stats *stats, const struct fuse_request *request)
{
	/* Where it does not tell, -1, any stripe will do. */
	unsigned int stripe = (unsigned int)sched_getcpu() % stats->stripe_count;
	unsigned int which = request->opcode < ABI_OPCODE_COUNT ? request->opcode : 0;
	struct stats_opcode *opcode = &stats->stripes[stripe].opcodes[which];
	uint64_t ns = stats_now_ns() - request->started_ns;

	atomic_fetch_add_explicit(&opcode->buckets[stats_bucket(ns)], 1, memory_order_relaxed);
	if (request->moved)
		atomic_fetch_add_explicit(&opcode->bytes, request->moved, memory_order_relaxed);
}

/* ---- reading ---- */

/* The stripes' sums of one opcode. */
struct stats_sum {
	uint64_t buckets[STATS_BUCKETS];
	uint64_t count, bytes;
};

static struct stats_sum stats_add_up(const struct stats *stats, uint32_t opcode)
{
	struct stats_sum sum = { 0 };

	for (unsigned int i = 0; i < stats->stripe_count; i++) {
		const struct stats_opcode *from = &stats->stripes[i].opcodes[opcode];

		for (unsigned int j = 0; j < STATS_BUCKETS; j++) {
			uint64_t count =
				atomic_load_explicit(&from->buckets[j], memory_order_relaxed);

			sum.buckets[j] += count;
			sum.count += count;
		}
		sum.bytes += atomic_load_explicit(&from->bytes, memory_order_relaxed);
	}
	return sum;
}

/*
 * The latency that @percent of the requests did not exceed, taking those within a bucket to be
 * spread evenly.
 */
static uint64_t stats_percentile_ns(const struct stats_sum *sum, unsigned int percent)
{
	uint64_t rank = sum->count / 100 * percent + sum->count % 100 * percent / 100, below = 0;

	for (unsigned int i = 0; i < STATS_BUCKETS; i++) {
		uint64_t start = i ? UINT64_C(1) << (STATS_SHIFT + i - 1) : 0;
		uint64_t width = i ? start : UINT64_C(1) << STATS_SHIFT;

		if (rank < below + sum->buckets[i])
			return start + (uint64_t)((double)width * ((double)(rank - below) + 0.5) /
						  (double)sum->buckets[i]);
		below += sum->buckets[i];
	}
	return 0;
}

void fuse_session_stats(struct fuse_session *session,
			void (*visit)(void *context, const struct fuse_opcode_stats *stats),
			void *context)
{
	for (uint32_t i = 0; i < ABI_OPCODE_COUNT; i++) {
		struct stats_sum sum = stats_add_up(&session->stats, i);
		const struct fuse_opcode_stats stats = {
			.name = i ? decode_opcode_name(i) : "malformed",
			.count = sum.count,
			.bytes = sum.bytes,
			.p50_ns = stats_percentile_ns(&sum, 50),
			.p99_ns = stats_percentile_ns(&sum, 99),
		};

		if (stats.count > 0)
			visit(context, &stats);
	}
}
