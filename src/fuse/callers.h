/* SPDX-License-Identifier: MIT */
/*
 * Who asks, as the heads of requests have it: one caller, and from which processor, or several in
 * turn. A guess from the last few milliseconds, for those who choose where a thread runs.
 */
#ifndef VENEER_FUSE_CALLERS_H
#define VENEER_FUSE_CALLERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CALLERS_MAX 8

/* Instead of a processor. */
enum {
	CALLERS_SEVERAL = -1,
	CALLERS_NO_NEWS = -2,
};

/* A thread that asked. */
struct caller {
	uint32_t thread; /* 0: none */
	int fd; /* to ask where it runs; < 0: not open */
	uint64_t asked, located; /* ns */
};

struct callers {
	/* Held for a few instructions and a short system call. Nobody waits for it: who finds it
	 * taken knows nothing new, for its holder may be a thread that hardly gets to run. */
	atomic_flag is_taken;
	struct caller list[CALLERS_MAX]; /* last asked first */
	uint64_t several_until, located; /* ns */
	unsigned int streak; /* requests of the first in a row */
};

void callers_init(struct callers *callers);
void callers_deinit(struct callers *callers);
/*
 * @thread (0: not known) asks at @now. Returns the processor that it, alone of late, runs on;
 * CALLERS_SEVERAL; or CALLERS_NO_NEWS, which is most often so.
 */
int callers_note(struct callers *callers, uint32_t thread, uint64_t now);

#endif
