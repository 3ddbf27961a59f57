/* SPDX-License-Identifier: MIT */
#include "fuse/giveway.h"

#include <linux/fuse.h>

#include "base/util.h"
#include "fuse/abi.h"
#include "sys/cpu.h"

/* From what wait on a thread looks, and what delay each request may have. */
#define GIVEWAY_LOOK_NS 1000000U
#define GIVEWAY_USUAL_NS 20000U
#define GIVEWAY_PAUSE_MIN_NS 1000000000ULL
#define GIVEWAY_PAUSE_MAX_NS (64 * GIVEWAY_PAUSE_MIN_NS)

void giveway_watch_begin(struct giveway_watch *watch)
{
	watch->delay = sys_cpu_delay_ns();
	watch->handled = 0;
}

bool giveway_watch_is_starved(struct giveway_watch *watch, uint64_t before, uint64_t now)
{
	uint64_t delay;
	bool is_starved;

	watch->handled++;
	if (now - before < GIVEWAY_LOOK_NS)
		return false;
	delay = sys_cpu_delay_ns();
	/* A little is usual: the caller runs on until it waits. */
	is_starved = delay - watch->delay > GIVEWAY_LOOK_NS / 2 + watch->handled * GIVEWAY_USUAL_NS;
	watch->delay = delay;
	watch->handled = 0;
	return is_starved;
}

bool giveway_pause_is_over(const struct giveway_pause *pause, uint64_t now)
{
	return now >= pause->end;
}

void giveway_pause_finish(struct giveway_pause *pause, uint64_t now)
{
	if (pause->began < pause->end)
		pause->began = now;
}

void giveway_pause_begin(struct giveway_pause *pause, uint64_t now)
{
	bool again = now - pause->began < pause->length;

	pause->length = again ? MIN(2 * pause->length, GIVEWAY_PAUSE_MAX_NS) : GIVEWAY_PAUSE_MIN_NS;
	pause->end = now + pause->length;
}

bool giveway_is_out_of_place(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_WRITE:
	case FUSE_SETATTR:
	case FUSE_LINK:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_IOCTL:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case ABI_COPY_FILE_RANGE_64:
		return true;
	default:
		return false;
	}
}
