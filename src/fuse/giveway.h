/* SPDX-License-Identifier: MIT */
/*
 * Threads that give way to those they serve: under SCHED_IDLE, as a rule.
 *
 * A caller who is woken while the thread that served him still runs is taken for crowded, and
 * moved to a processor that sleeps: waking that one costs more than the whole request. The
 * scheduler counts a processor as idle if only threads under SCHED_IDLE run on it, and leaves the
 * caller there.
 *
 * Where processors are busy such a thread would hardly get to run. It would not know, but for a
 * long wait, after which it looks; then there is a pause in which nobody gives way.
 */
#ifndef VENEER_FUSE_GIVEWAY_H
#define VENEER_FUSE_GIVEWAY_H

#include <stdbool.h>
#include <stdint.h>

/* One thread's look at how long others kept it from running; its own. */
struct giveway_watch {
	uint64_t delay; /* ns, when it was read last */
	uint64_t handled; /* requests since */
};

/* When not to give way; the pauses get longer. All zero in the beginning. */
struct giveway_pause {
	uint64_t began; /* to give way */
	uint64_t length, end; /* of the pause; ns, as stats_now_ns() */
};

/* The calling thread gives way from now on. */
void giveway_watch_begin(struct giveway_watch *watch);
/* After a wait for a request, from @before to @now. True: others need the processor. */
bool giveway_watch_is_starved(struct giveway_watch *watch, uint64_t before, uint64_t now);

bool giveway_pause_is_over(const struct giveway_pause *pause, uint64_t now);
/* Somebody gives way: the first to do so after the last pause, perhaps. */
void giveway_pause_finish(struct giveway_pause *pause, uint64_t now);
/* A second; twice the last one if giving way went well for a shorter time than that. */
void giveway_pause_begin(struct giveway_pause *pause, uint64_t now);

/* Requests that may take long, for copying or for waiting on a disk: nobody gives way meanwhile. */
bool giveway_is_out_of_place(uint32_t opcode);

#endif
