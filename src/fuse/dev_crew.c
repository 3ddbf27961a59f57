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
/* No home again for so long after a request from a processor that is not ours. */
#define DEV_NOT_OURS_NS 1000000000U

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

/* ---- threads come and go ---- */

static bool dev_crew_may_grow_locked(const struct dev *dev, enum dev_crew_kind kind)
{
	return dev->threads < dev->max_threads && !dev->has_ended && !atomic_load(&dev->stopping) &&
	       (kind == DEV_COMMON || dev->crews[kind].threads < DEV_NEAR_MAX);
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
	return r;
}

void dev_crew_join(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	int home;

	lock_mutex_lock(&dev->lock);
	list_add_tail(&dev->workers, &worker->link);
	home = atomic_load(&dev->home);
	if (worker->kind == DEV_NEAR && home != DEV_NO_HOME)
		sys_cpu_pin(worker->id, (unsigned int)home);
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
	bool has_home = atomic_load(&dev->home) != DEV_NO_HOME;

	/* Where the other crew serves it is enough that somebody waits. */
	return dev_crew_count_up_to(dev,
				    has_home == (worker->kind == DEV_NEAR) ? dev->max_idle : 1);
}

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

bool dev_crew_call(const struct dev_worker *caller, enum dev_crew_kind kind)
{
	struct dev *dev = caller->dev;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	is_called = dev_crew_call_parked_locked(dev, kind);
	lock_mutex_unlock(&dev->lock);
	return is_called || (caller->kind == DEV_COMMON && dev_crew_spawn(dev, kind, false) == 0);
}

/* Near workers start no threads, so this is done by the common worker they called: there shall be
 * another to call, and all of them. */
static void dev_crew_complete(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	bool has_parked;

	lock_mutex_lock(&dev->lock);
	has_parked = dev->crews[DEV_COMMON].parked > 0;
	lock_mutex_unlock(&dev->lock);
	if (!has_parked)
		dev_crew_spawn(dev, DEV_COMMON, true);
	while (dev_crew_call(worker, DEV_NEAR))
		;
}

/* The thread ends, as far as counts go. One common worker is left: the others start none. */
static bool dev_crew_dismiss_locked(struct dev_worker *worker)
{
	struct dev_crew *crew = &worker->dev->crews[worker->kind];

	if (worker->kind == DEV_COMMON && crew->threads <= 1)
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
		is_dismissed = dev_crew_dismiss_locked(worker);
		if (!is_dismissed)
			atomic_fetch_add(&dev->waiting, 1);
	}
	lock_mutex_unlock(&dev->lock);
	return is_dismissed;
}

bool dev_crew_park(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	struct dev_crew *crew = &dev->crews[worker->kind];
	unsigned int trims;
	bool is_called;

	lock_mutex_lock(&dev->lock);
	trims = dev->trims;
	crew->parked++;
	while (crew->calls == 0 && !atomic_load(&dev->stopping) && crew->parked <= dev->max_idle &&
	       (trims == dev->trims || !dev_crew_dismiss_locked(worker)))
		lock_cond_wait(&crew->called, &dev->lock);
	is_called = crew->calls > 0;
	if (is_called)
		crew->calls--;
	else
		crew->parked--;
	lock_mutex_unlock(&dev->lock);
	if (is_called && worker->kind == DEV_COMMON && atomic_load(&dev->home) != DEV_NO_HOME)
		dev_crew_complete(worker);
	return is_called;
}

/* A near worker without a home. */
static bool dev_crew_leave(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;
	bool is_last = worker->is_counted ? atomic_fetch_sub(&dev->waiting, 1) == 1 :
					    atomic_load(&dev->waiting) == 0;

	worker->is_counted = false;
	if (is_last && !dev_crew_call(worker, DEV_COMMON)) {
		atomic_fetch_add(&dev->waiting, 1);
		return true;
	}
	return dev_crew_park(worker);
}

bool dev_crew_stay(struct dev_worker *worker)
{
	bool is_counted = worker->is_counted;

	if (worker->kind == DEV_NEAR && atomic_load(&worker->dev->home) == DEV_NO_HOME)
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

/* True if all near workers are on @cpu now. */
static bool dev_crew_move(struct dev *dev, unsigned int cpu, uint64_t now)
{
	struct list *at;
	int r = 0;

	lock_mutex_lock(&dev->lock);
	giveway_pause_finish(&dev->pause, now);
	atomic_store(&dev->home, (int)cpu);
	list_for_each(at, &dev->workers) {
		struct dev_worker *worker = list_entry(at, struct dev_worker, link);

		if (worker->kind == DEV_NEAR && r == 0)
			r = sys_cpu_pin(worker->id, cpu);
	}
	lock_mutex_unlock(&dev->lock);
	return r == 0;
}

void dev_crew_gather(struct dev_worker *worker, unsigned int cpu, uint64_t now)
{
	struct dev *dev = worker->dev;

	if (atomic_load(&dev->home) != (int)cpu &&
	    (cpu >= dev->cpu_count || !dev->is_ours[cpu] || !dev_crew_move(dev, cpu, now))) {
		dev_crew_scatter(dev, now + DEV_NOT_OURS_NS);
		return;
	}
	/* Also those who parked while there was no home for a moment. */
	while (dev_crew_call(worker, DEV_NEAR))
		;
}

void dev_crew_scatter(struct dev *dev, uint64_t until)
{
	lock_mutex_lock(&dev->lock);
	atomic_store(&dev->home, DEV_NO_HOME);
	if (atomic_load(&dev->no_home_until) < until)
		atomic_store(&dev->no_home_until, until);
	lock_mutex_unlock(&dev->lock);
}

void dev_crew_pause(struct dev *dev, uint64_t now)
{
	uint64_t end;

	lock_mutex_lock(&dev->lock);
	giveway_pause_begin(&dev->pause, now);
	end = dev->pause.end;
	lock_mutex_unlock(&dev->lock);
	dev_crew_scatter(dev, end);
}
