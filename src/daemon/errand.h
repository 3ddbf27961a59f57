/* SPDX-License-Identifier: MIT */
/*
 * Requests of the control socket that take as long as they take, each in a
 * thread of its own: which layers a path comes from, emptying the upper, and
 * standing still while someone else changes the layers.
 *
 * An errand belongs to its thread and to its client, whoever lets go last.  The
 * main thread is woken (CONTROL_ERRAND) when there is something to fetch.
 */
#ifndef VENEER_DAEMON_ERRAND_H
#define VENEER_DAEMON_ERRAND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/lock.h"
#include "base/strbuf.h"
#include "daemon/control.h"
#include "daemon/gate.h"
#include "daemon/mount.h"
#include "daemon/report.h"

/* What all have in common; borrowed but for the rest. */
struct errands {
	const struct report *report; /* and the union and its connection */
	const struct mount *mount;
	struct gate *gate;
	struct control *control;
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards what follows, and every errand */
	pthread_cond_t changed;
	unsigned int running; /* threads */
	bool is_claimed; /* one of them is changing the layers, or lets somebody */
};

struct errand;

void errands_init(struct errands *errands);
/* Waits until all have ended; every client has let go. */
void errands_deinit(struct errands *errands);

/*
 * Starts on the request @line, which is taken apart. NULL, with *@answer: nothing is to be waited
 * for.
 */
struct errand *errand_start(struct errands *errands, char *line, struct strbuf *answer);

enum errand_state {
	ERRAND_WORKS,
	ERRAND_HOLDS, /* has answered, and waits for errand_go_on() or errand_leave() */
	ERRAND_ENDS, /* has answered for the last time */
};

/* Where it is; what it has answered since is moved to the end of @answer. */
enum errand_state errand_fetch(struct errand *errand, struct strbuf *answer);
/* Of one that holds: an answer will come. */
void errand_go_on(struct errand *errand);
/* The client lets go: what can be left undone is. Returns NULL. */
struct errand *errand_leave(struct errand *errand);

#endif
