/* SPDX-License-Identifier: MIT */
/*
 * Within the device's transport: its threads, who of them waits for messages, and where.
 *
 * There are two crews. Common workers run wherever the scheduler likes, and are as many as there
 * are requests at work. Near workers give way (giveway.h) and are pinned to the processor, "home",
 * of the only caller there is of late: a round trip then wakes nobody on another processor. With
 * several callers, on busy processors, and for what takes long, common workers serve.
 *
 * All wait in one queue of the kernel, which wakes whoever waits longest. So workers of one crew
 * wait while those of the other are parked: asleep until they are called.
 */
#ifndef VENEER_FUSE_DEV_CREW_H
#define VENEER_FUSE_DEV_CREW_H

#include <pthread.h>

#include "base/list.h"
#include "base/lock.h"
#include "fuse/callers.h"
#include "fuse/dev_request.h"
#include "fuse/giveway.h"

enum dev_crew_kind {
	DEV_COMMON,
	DEV_NEAR,
	DEV_CREWS,
};

/* Instead of a processor, where there is no home. */
#define DEV_NO_HOME (-1)

/* Counts change with the lock held. */
struct dev_crew {
	pthread_cond_t called;
	atomic_uint threads;
	atomic_uint parked; /* asleep and not called */
	unsigned int calls; /* of those who were, and have not noticed */
};

struct dev {
	struct fuse_transport base;
	struct dev_channel *channel; /* the mount's own */
	unsigned int max_threads, max_idle, max_clones;
	void (*ended)(void *context, int error);
	void *context;
	bool may_gather, may_return; /* near workers are of use; from giving way */
	unsigned int cpu_count;
	bool *is_ours; /* for each processor: we may run there */

	/* Workers in read(2), on the way there, or called. Who takes a message and leaves none
	 * calls one, and who finds none does not park. So there is always one that waits or is
	 * about to, unless all threads that may be are at work.
	 * Near workers start none. So while one of them may wait a common one is parked, about
	 * to park, or waits too: then who takes a message sees to it that another parks. */
	atomic_uint waiting;
	atomic_int home; /* processor, or DEV_NO_HOME; changed with the lock held */
	_Atomic uint64_t no_home_until; /* ns */
	/* When a thread last took what somebody waits for, or before; ns. */
	_Atomic uint64_t asked_at;
	atomic_bool stopping, cannot_clone;
	struct callers callers;

	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	pthread_cond_t thread_ended;
	struct list workers;
	struct dev_crew crews[DEV_CREWS];
	unsigned int threads;
	unsigned int trims; /* how often parked workers were told to end */
	bool spare_comes; /* a common worker that was started parked is on its way */
	struct list handed; /* requests from near workers to common ones */
	atomic_bool has_handed;
	struct giveway_pause pause;
	bool has_ended;
};

/* One thread; made by whoever starts it. */
struct dev_worker {
	struct list link;
	struct dev *dev;
	enum dev_crew_kind kind;
	pthread_t thread;
	int pinned; /* to this processor, or DEV_NO_HOME; its own */
	bool starts_parked;
	struct dev_channel *channel;
	struct dev_request *request;
	atomic_bool is_reading; /* only then a kick is of any use */
	atomic_bool must_trim;
	unsigned int aborts; /* how often in a row read(2) said so */
	bool is_counted; /* as waiting already, though it has an answer to write */
	bool is_dismissed; /* it is to end, and counted nowhere any more */
	struct giveway_watch watch;
};

void dev_crews_init(struct dev *dev);
void dev_crews_deinit(struct dev *dev);
/* Starts a common worker. 0 or -EAGAIN. */
int dev_crews_start(struct dev *dev);
/* Ends all threads, and waits until they did. */
void dev_crews_stop(struct dev *dev);
/* In a quiet moment: memory goes back, and threads end, with their stacks and what the allocator
 * keeps for each. */
void dev_crews_trim(struct dev *dev);

/* In dev_worker.c: what a worker's thread does. */
void *dev_worker_main(void *worker);
/* @request's answer is about to be written: if it is the calling worker's, that waits again. */
void dev_worker_answers(const struct dev_request *request);

/* Enters and leaves the list of workers. */
void dev_crew_join(struct dev_worker *worker);
void dev_crew_quit(struct dev_worker *worker);
/*
 * One more worker waits, if there is one to be had: a common one, parked or, if @caller may start
 * threads, new (threads inherit how they are scheduled, so near workers start none); else a near
 * one.
 */
bool dev_crew_call(const struct dev_worker *caller);
/* The same for a near worker; only where there is a home. */
bool dev_crew_call_near(const struct dev_worker *caller);
/* Starts a common worker that parks, unless there is one, or one comes. */
void dev_crew_start_spare(struct dev *dev);
/* The worker took a message: there shall be a common one to call. */
void dev_crew_keep_spare(struct dev_worker *worker);
/* Counts the worker in if it shall wait. */
bool dev_crew_count(struct dev_worker *worker);
/* After a request: true if the worker shall wait for the next, false if its thread shall end. */
bool dev_crew_stay(struct dev_worker *worker);
/* Sleeps until called, or not at all if nobody waits: true. False: its thread shall end. */
bool dev_crew_park(struct dev_worker *worker);
/* In a quiet moment, instead of waiting further: true if the worker's thread shall end, as all do
 * but one that waits, and one common worker that is parked. */
bool dev_crew_dismiss(struct dev_worker *worker);
/* Gives the near worker's request to a common one. False: none has time. */
bool dev_crew_hand_over(struct dev_worker *worker);
/* What was handed over, or NULL. */
struct dev_request *dev_crew_take_handed(struct dev *dev);

/* ---- in dev_home.c: where near workers run ---- */

static inline bool dev_has_home(struct dev *dev)
{
	return atomic_load(&dev->home) != DEV_NO_HOME;
}

/* Before it waits a near worker goes home. Without a lock: on a busy processor it hardly runs. */
void dev_crew_go_home(struct dev_worker *worker);
/* All callers are on @cpu, says @worker, which took a message at @now. */
void dev_crew_gather(struct dev_worker *worker, unsigned int cpu, uint64_t now);
/* They are not; and no home again until @until. */
void dev_crew_scatter(struct dev *dev, uint64_t until);
/* Others keep near workers from running. */
void dev_crew_pause(struct dev *dev, uint64_t now);

#endif
