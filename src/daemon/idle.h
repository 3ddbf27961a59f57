/* SPDX-License-Identifier: MIT */
/*
 * Memory goes back to the system once the daemon has been busy and is not any
 * more.  Nothing wakes up while there is nothing to give back.
 */
#ifndef VENEER_DAEMON_IDLE_H
#define VENEER_DAEMON_IDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/control.h"

/* How long no memory may have been noted before it is given back. */
#define IDLE_QUIET_MS 250
/* Below this it is not worth the main thread's waking up. */
#define IDLE_WORTHWHILE ((size_t)1 << 20)

struct idle {
	struct control *control; /* borrowed */
	atomic_size_t noted; /* bytes since the last time */
	atomic_bool is_posted;
	/* Of the main thread. */
	bool is_watching;
	size_t seen;
};

void idle_init(struct idle *idle, struct control *control);
/* @size bytes may be free now, or as much as IDLE_WORTHWHILE else to let go of. Any thread; cheap. */
void idle_note(struct idle *idle, size_t size);

/* Main thread: CONTROL_BUSY came. */
void idle_watch(struct idle *idle);
/* Main thread: for control_wait(). */
int idle_timeout_ms(const struct idle *idle);
/* Main thread, after a wait in which nothing came: true once it is time to give memory back. */
bool idle_is_quiet(struct idle *idle);

#endif
