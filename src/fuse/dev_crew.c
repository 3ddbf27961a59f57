/* SPDX-License-Identifier: MIT */
#include "fuse/dev_crew.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/thread.h"
#include "sys/cpu.h"

/* One waits while the other writes its answer. */
#define DEV_NEAR_MAX 2
/* From what number on threads are enough for two crews. */
#define DEV_GATHER_THREADS_MIN 4

/* Where this process may run. Without memory for that it gathers nowhere. */
static void dev_crews_find_processors(struct dev *dev)
{
	dev->cpu_count = sys_cpu_possible();
	dev->is_ours = calloc(dev->cpu_count, sizeof(*dev->is_ours));
	if (!dev->is_ours)
		dev->cpu_count = 0;
	for (unsigned int i = 0; i < dev->cpu_count; i++)
		dev->is_ours[i] = sys_cpu_is_ours(i);
	dev->may_gather = dev->cpu_count > 1 && dev->max_threads >= DEV_GATHER_THREADS_MIN &&
			  sys_cpu_delay_ns() != UINT64_MAX && sys_cpu_knows_threads();
	dev->may_return = sys_cpu_may_idle();
}

void dev_crews_init(struct dev *dev)
{
	lock_mutex_init(&dev->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&dev->thread_ended, NULL);
	for (unsigned int i = 0; i < DEV_CREWS; i++)
		pthread_cond_init(&dev->crews[i].called, NULL);
	list_init(&dev->workers);
	list_init(&dev->handed);
	callers_init(&dev->callers);
	atomic_init(&dev->home, DEV_NO_HOME);
	dev_crews_find_processors(dev);
}

void dev_crews_deinit(struct dev *dev)
{
	assert(dev->threads == 0 && list_is_empty(&dev->handed));
	callers_deinit(&dev->callers);
	for (unsigned int i = 0; i < DEV_CREWS; i++)
		pthread_cond_destroy(&dev->crews[i].called);
	pthread_cond_destroy(&dev->thread_ended);
	lock_mutex_deinit(&dev->lock);
	free(dev->is_ours);
}

/* Near workers may wait. That begins in dev_crew_set_home(), with the lock held. */
static bool dev_crew_is_near_up(struct dev *dev)
{
	struct dev_crew *crew = &dev->crews[DEV_NEAR];

	return dev_has_home(dev) || atomic_load(&crew->threads) != atomic_load(&crew->parked);
}

/* ---- threads come and go ---- */

static bool dev_crew_call_parked_locked(struct dev *dev, enum dev_crew_kind kind)
{
	struct dev_crew *crew = &dev->crews[kind];

	if (crew->parked == 0)
		return false;
	crew->parked--;
	crew->calls++;
	atomic_fetch_add(&dev->waiting, 1);
	pthread_cond_signal(&crew->called);
	return true;
}

/* Where no thread can be started: any that sleeps is better than none. */
static bool dev_crew_call_any(struct dev *dev)
{
	bool is_called;

	lock_mutex_lock(&dev->lock);
	is_called = atomic_load(&dev->waiting) == 0 &&
		    (dev_crew_call_parked_locked(dev, DEV_COMMON) ||
		     dev_crew_call_parked_locked(dev, DEV_NEAR));
	lock_mutex_unlock(&dev->lock);
	return is_called;
}

static bool dev_crew_may_grow_locked(struct dev *dev, enum dev_crew_kind kind)
{
	return dev->threads < dev->max_threads && !dev->has_ended && !atomic_load(&dev->stopping) &&
	       (kind == DEV_COMMON ||
		(dev_has_home(dev) && dev->crews[kind].threads < DEV_NEAR_MAX));
}

static void dev_crew_uncount_thread_locked(struct dev *dev, enum dev_crew_kind kind,
					   bool is_dismissed)
{
	dev->threads--;
	if (!is_dismissed)
		dev->crews[kind].threads--;
	pthread_cond_broadcast(&dev->thread_ended);
}

/* 0, -EBUSY (there are enough), -ENOMEM or -EAGAIN. Unless it starts parked it counts as waiting
 * from now on, so that nobody starts another for the same reason. */
static int dev_crew_spawn(struct dev *dev, enum dev_crew_kind kind, bool starts_parked)
{
	struct dev_worker *worker;
	bool may;
	int r;

	lock_mutex_lock(&dev->lock);
	may = dev_crew_may_grow_locked(dev, kind);
	if (may) {
		dev->threads++;
		dev->crews[kind].threads++;
	}
	lock_mutex_unlock(&dev->lock);
	if (!may)
		return -EBUSY;
	worker = calloc(1, sizeof(*worker));
	if (worker)
		*worker = (struct dev_worker){ .dev = dev,
					       .kind = kind,
					       .pinned = DEV_NO_HOME,
					       .starts_parked = starts_parked };
	if (!starts_parked)
		atomic_fetch_add(&dev->waiting, 1);
	r = worker ? thread_create(dev_worker_main, worker) : -ENOMEM;
	if (r == 0)
		return 0;
	log_warning_limited("cannot start another thread: %s", strerror(-r));
	free(worker);
	if (!starts_parked)
		atomic_fetch_sub(&dev->waiting, 1);
	lock_mutex_lock(&dev->lock);
	dev_crew_uncount_thread_locked(dev, kind, false);
	lock_mutex_unlock(&dev->lock);
	/* Another may have parked because this one was counted. */
	dev_crew_call_any(dev);
	return r;
}

void dev_crew_join(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	lock_mutex_lock(&dev->lock);
	list_add_tail(&dev->workers, &worker->link);
	lock_mutex_unlock(&dev->lock);
}

void dev_crew_quit(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	lock_mutex_lock(&dev->lock);
	list_remove(&worker->link);
	dev_crew_uncount_thread_locked(dev, worker->kind, worker->is_dismissed);
	lock_mutex_unlock(&dev->lock);
}

int dev_crews_start(struct dev *dev)
{
	return dev_crew_spawn(dev, DEV_COMMON, false);
}

static void dev_crews_kick_locked(struct dev *dev, bool must_trim)
{
	struct list *at;

	list_for_each(at, &dev->workers) {
		struct dev_worker *worker = list_entry(at, struct dev_worker, link);

		if (must_trim)
			atomic_store(&worker->must_trim, true);
		if (atomic_load(&worker->is_reading))
			thread_kick(worker->thread);
	}
	for (unsigned int i = 0; i < DEV_CREWS; i++)
		pthread_cond_broadcast(&dev->crews[i].called);
}

void dev_crews_stop(struct dev *dev)
{
	atomic_store(&dev->stopping, true);
	lock_mutex_lock(&dev->lock);
	/* Again and again: a kick right before a thread's read(2) is lost on it. */
	while (dev->threads > 0) {
		dev_crews_kick_locked(dev, false);
		lock_cond_wait_ms(&dev->thread_ended, &dev->lock, THREAD_KICK_INTERVAL_MS);
	}
	lock_mutex_unlock(&dev->lock);
}

void dev_crews_trim(struct dev *dev)
{
	lock_mutex_lock(&dev->lock);
	dev->trims++;
	dev_crews_kick_locked(dev, true);
	lock_mutex_unlock(&dev->lock);
}

/* ---- who waits ---- */

/* Counts one more in unless @limit wait. */
static bool dev_crew_count_up_to(struct dev *dev, unsigned int limit)
{
	unsigned int waiting = atomic_load(&dev->waiting);

	while (waiting < limit)
		if (atomic_compare_exchange_weak(&dev->waiting, &waiting, waiting + 1))
			return true;
	return false;
}

bool dev_crew_count(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	/* Where the other crew serves it is enough that somebody waits. */
	return dev_crew_count_up_to(
		dev, dev_has_home(dev) == (worker->kind == DEV_NEAR) ? dev->max_idle : 1);
}

bool dev_crew_call(const struct dev_worker *caller)
{
	struct dev *dev = caller->dev;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	is_called = dev_crew_call_parked_locked(dev, DEV_COMMON);
	lock_mutex_unlock(&dev->lock);
	return is_called ||
	       (caller->kind == DEV_COMMON && dev_crew_spawn(dev, DEV_COMMON, false) == 0) ||
	       dev_crew_call_any(dev);
}

bool dev_crew_call_near(const struct dev_worker *caller)
{
	struct dev *dev = caller->dev;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	is_called = dev_has_home(dev) && dev_crew_call_parked_locked(dev, DEV_NEAR);
	lock_mutex_unlock(&dev->lock);
	return is_called ||
	       (caller->kind == DEV_COMMON && dev_crew_spawn(dev, DEV_NEAR, false) == 0);
}

void dev_crew_start_spare(struct dev *dev)
{
	bool is_due;

	lock_mutex_lock(&dev->lock);
	is_due = dev->crews[DEV_COMMON].parked == 0 && !dev->spare_comes;
	dev->spare_comes |= is_due;
	lock_mutex_unlock(&dev->lock);
	if (!is_due || dev_crew_spawn(dev, DEV_COMMON, true) == 0)
		return;
	lock_mutex_lock(&dev->lock);
	dev->spare_comes = false;
	lock_mutex_unlock(&dev->lock);
}

void dev_crew_keep_spare(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	if (worker->kind == DEV_COMMON && atomic_load(&dev->crews[DEV_COMMON].parked) == 0 &&
	    dev_crew_is_near_up(dev))
		dev_crew_start_spare(dev);
}

/* The thread ends, as far as counts go; @parked common workers, not counting it, are to be called.
 * One of those is left where near workers may wait, else any that can start others. */
static bool dev_crew_dismiss_locked(struct dev_worker *worker, unsigned int parked)
{
	struct dev_crew *crew = &worker->dev->crews[worker->kind];
	bool may = dev_crew_is_near_up(worker->dev) ? parked > 0 : crew->threads > 1;

	if (worker->kind == DEV_COMMON && !may)
		return false;
	crew->threads--;
	worker->is_dismissed = true;
	return true;
}

/* Takes one out of those that wait, unless it is the last. */
static bool dev_crew_uncount(struct dev *dev)
{
	unsigned int waiting = atomic_load(&dev->waiting);

	while (waiting > 1)
		if (atomic_compare_exchange_weak(&dev->waiting, &waiting, waiting - 1))
			return true;
	return false;
}

bool dev_crew_dismiss(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	bool is_dismissed = false;

	lock_mutex_lock(&dev->lock);
	if (dev_crew_uncount(dev)) {
		is_dismissed = dev_crew_dismiss_locked(worker, dev->crews[DEV_COMMON].parked);
		if (!is_dismissed)
			atomic_fetch_add(&dev->waiting, 1);
	}
	lock_mutex_unlock(&dev->lock);
	return is_dismissed;
}

static bool dev_crew_sleep_locked(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	struct dev_crew *crew = &dev->crews[worker->kind];
	unsigned int trims = dev->trims;

	crew->parked++;
	while (crew->calls == 0 && !atomic_load(&dev->stopping) && crew->parked <= dev->max_idle &&
	       (trims == dev->trims || !dev_crew_dismiss_locked(worker, crew->parked - 1)))
		lock_cond_wait(&crew->called, &dev->lock);
	if (crew->calls == 0) {
		crew->parked--;
		return false;
	}
	crew->calls--;
	return true;
}

bool dev_crew_park(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	if (worker->starts_parked)
		dev->spare_comes = false;
	worker->starts_parked = false;
	/* Who left none to wait may have been here to call one already, in vain. */
	is_called = dev_crew_count_up_to(dev, 1) || dev_crew_sleep_locked(worker);
	lock_mutex_unlock(&dev->lock);
	/* Near workers start no threads, so this is done by the common worker they called: there
	 * shall be another to call, and all of them. */
	if (is_called && worker->kind == DEV_COMMON && dev_has_home(dev)) {
		dev_crew_keep_spare(worker);
		while (dev_crew_call_near(worker))
			;
	}
	return is_called;
}

/* A near worker without a home. If it is the only one to wait it calls a common worker to do so
 * instead, or goes on. */
static bool dev_crew_leave(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	lock_mutex_lock(&dev->lock);
	if (worker->is_counted)
		atomic_fetch_sub(&dev->waiting, 1);
	worker->is_counted = false;
	if (atomic_load(&dev->waiting) == 0)
		dev_crew_call_parked_locked(dev, DEV_COMMON);
	lock_mutex_unlock(&dev->lock);
	return dev_crew_park(worker);
}

bool dev_crew_stay(struct dev_worker *worker)
{
	bool is_counted = worker->is_counted;

	if (worker->kind == DEV_NEAR && !dev_has_home(worker->dev))
		return dev_crew_leave(worker);
	worker->is_counted = false;
	return is_counted || dev_crew_count(worker) || dev_crew_park(worker);
}

/* ---- from one crew to the other ---- */

bool dev_crew_hand_over(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	is_called = dev_crew_call_parked_locked(dev, DEV_COMMON);
	if (is_called) {
		list_add_tail(&dev->handed, &worker->request->link);
		worker->request = NULL;
		atomic_store(&dev->has_handed, true);
	}
	lock_mutex_unlock(&dev->lock);
	return is_called;
}

struct dev_request *dev_crew_take_handed(struct dev *dev)
{
	struct dev_request *request = NULL;

	if (!atomic_load(&dev->has_handed))
		return NULL;
	lock_mutex_lock(&dev->lock);
	if (!list_is_empty(&dev->handed)) {
		request = list_entry(dev->handed.next, struct dev_request, link);
		list_remove(&request->link);
	}
	atomic_store(&dev->has_handed, !list_is_empty(&dev->handed));
	lock_mutex_unlock(&dev->lock);
	return request;
}
