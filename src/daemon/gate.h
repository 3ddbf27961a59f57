/* SPDX-License-Identifier: MIT */
/*
 * The gate that every request goes through.  It is open but for moments in
 * which the layers change: then it lets nobody in, waits until those inside
 * have left, and keeps the requests that come meanwhile, without a thread for
 * each: whoever reads messages must go on, for FORGET and INTERRUPT.
 */
#ifndef VENEER_DAEMON_GATE_H
#define VENEER_DAEMON_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "base/lock.h"
#include "fuse/fuse.h"

/* Processors do not share a line, or seldom. */
#define GATE_STRIPES 16
/* Threads that deal with what was kept. */
#define GATE_RUNNERS 8

struct gate_stripe {
	_Alignas(64) atomic_uint inside;
};

struct gate {
	struct gate_stripe stripes[GATE_STRIPES];
	atomic_bool is_closed; /* changed with the lock held */
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	pthread_cond_t changed; /* opened, or somebody left, or a runner ended */
	struct list kept; /* requests that came while it was closed */
	struct list due; /* those that are to be handled now */
	unsigned int runners;
};

void gate_init(struct gate *gate);
/* Waits until what was kept is handled. */
void gate_deinit(struct gate *gate);

/* A number for gate_leave(), or -1: it is closed. Waits for nothing. */
int gate_try_enter(struct gate *gate);
/* The same; waits until it is open. */
int gate_enter(struct gate *gate);
/* The same for a request, which is kept instead of waiting: -1. */
int gate_enter_or_keep(struct gate *gate, struct fuse_request *request);
void gate_leave(struct gate *gate, int entered);

/*
 * Closes it and waits until nobody is inside. 0, or -EINTR, open again, once *@is_cancelled. One thread
 * at a time.
 */
int gate_close(struct gate *gate, const atomic_bool *is_cancelled);
/* While it is closed, now and then: answers those who have given up. */
void gate_tend(struct gate *gate);
/* What was kept is handled from now on, in threads of its own. */
void gate_open(struct gate *gate);

#endif
