/* SPDX-License-Identifier: MIT */
#include "daemon/gate.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/ops.h"
#include "sys/creds.h"

/* How often those are looked after who wait. */
#define GATE_TEND_MS 100

void gate_init(struct gate *gate)
{
	*gate = (struct gate){ 0 };
	lock_mutex_init(&gate->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&gate->changed, NULL);
	list_init(&gate->kept);
	list_init(&gate->due);
}

void gate_deinit(struct gate *gate)
{
	lock_mutex_lock(&gate->lock);
	while (gate->runners > 0)
		lock_cond_wait(&gate->changed, &gate->lock);
	lock_mutex_unlock(&gate->lock);
	pthread_cond_destroy(&gate->changed);
	lock_mutex_deinit(&gate->lock);
}

/* ---- going through ---- */

/*
 * Who enters counts himself in and then looks whether the gate is closed; who closes it says so and
 * then counts. Both in one order for all (sequentially consistent): one of the two sees the other.
 */
int gate_try_enter(struct gate *gate)
{
	unsigned int stripe = (unsigned int)sched_getcpu() % GATE_STRIPES;

	atomic_fetch_add(&gate->stripes[stripe].inside, 1);
	if (!atomic_load(&gate->is_closed))
		return (int)stripe;
	gate_leave(gate, (int)stripe);
	return -1;
}

void gate_leave(struct gate *gate, int entered)
{
	atomic_fetch_sub(&gate->stripes[entered].inside, 1);
	if (!atomic_load(&gate->is_closed))
		return;
	lock_mutex_lock(&gate->lock);
	pthread_cond_broadcast(&gate->changed);
	lock_mutex_unlock(&gate->lock);
}

int gate_enter(struct gate *gate)
{
	int entered;

	while ((entered = gate_try_enter(gate)) < 0) {
		lock_mutex_lock(&gate->lock);
		while (atomic_load(&gate->is_closed))
			lock_cond_wait(&gate->changed, &gate->lock);
		lock_mutex_unlock(&gate->lock);
	}
	return entered;
}

int gate_enter_or_keep(struct gate *gate, struct fuse_request *request)
{
	for (;;) {
		int entered = gate_try_enter(gate);

		if (entered >= 0)
			return entered;
		lock_mutex_lock(&gate->lock);
		bool is_kept = atomic_load(&gate->is_closed);

		if (is_kept) /* anybody's from here on */
			list_add_tail(&gate->kept, &request->kept);
		lock_mutex_unlock(&gate->lock);
		if (is_kept)
			return -1;
	}
}

/* ---- closing ---- */

static bool gate_is_empty(const struct gate *gate)
{
	for (unsigned int i = 0; i < GATE_STRIPES; i++)
		if (atomic_load(&gate->stripes[i].inside) > 0)
			return false;
	return true;
}

int gate_close(struct gate *gate, const atomic_bool *is_cancelled)
{
	bool is_empty;

	lock_mutex_lock(&gate->lock);
	atomic_store(&gate->is_closed, true);
	/* Once it is, it is: who comes now is only counted until he sees that it is closed. */
	while (!(is_empty = gate_is_empty(gate)) && !atomic_load(is_cancelled)) {
		lock_cond_wait_ms(&gate->changed, &gate->lock, GATE_TEND_MS);
		lock_mutex_unlock(&gate->lock);
		gate_tend(gate);
		lock_mutex_lock(&gate->lock);
	}
	lock_mutex_unlock(&gate->lock);
	if (is_empty)
		return 0;
	gate_open(gate);
	return -EINTR;
}

/* Takes the kept requests that a signal came for out of the list, to @hit. */
static void gate_take_hit(struct gate *gate, struct list *hit)
{
	struct list *at, *next;

	lock_mutex_lock(&gate->lock);
	for (at = gate->kept.next; at != &gate->kept; at = next) {
		struct fuse_request *request = list_entry(at, struct fuse_request, kept);

		next = at->next;
		if (!fuse_request_is_interrupted(request))
			continue;
		list_remove(at);
		list_add_tail(hit, at);
	}
	lock_mutex_unlock(&gate->lock);
}

void gate_tend(struct gate *gate)
{
	struct list hit;

	list_init(&hit);
	gate_take_hit(gate, &hit);
	while (!list_is_empty(&hit)) {
		struct fuse_request *request = list_entry(hit.next, struct fuse_request, kept);

		list_remove(&request->kept);
		if (ops_has_given_up(request)) {
			fuse_reply_error(request, -EINTR);
			continue;
		}
		lock_mutex_lock(&gate->lock);
		list_add_tail(&gate->kept, &request->kept);
		lock_mutex_unlock(&gate->lock);
	}
}

/* ---- opening ---- */

static struct fuse_request *gate_take_due(struct gate *gate)
{
	struct fuse_request *request = NULL;

	lock_mutex_lock(&gate->lock);
	if (!list_is_empty(&gate->due)) {
		request = list_entry(gate->due.next, struct fuse_request, kept);
		list_remove(&request->kept);
	}
	lock_mutex_unlock(&gate->lock);
	return request;
}

static void gate_run_due(struct gate *gate)
{
	struct fuse_request *request;

	while ((request = gate_take_due(gate)))
		fuse_request_handle(request);
}

static void *gate_runner(void *context)
{
	struct gate *gate = context;
	int r = sys_creds_init_thread();

	if (r < 0)
		log_warning("a thread has no umask of its own: %s", strerror(-r));
	gate_run_due(gate);
	lock_mutex_lock(&gate->lock);
	gate->runners--;
	pthread_cond_broadcast(&gate->changed);
	lock_mutex_unlock(&gate->lock);
	return NULL;
}

/* False: no thread is to be had. */
static bool gate_start_runner(struct gate *gate)
{
	pthread_attr_t attr;
	pthread_t thread;

	lock_mutex_lock(&gate->lock);
	gate->runners++;
	lock_mutex_unlock(&gate->lock);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool started = pthread_create(&thread, &attr, gate_runner, gate) == 0;

	pthread_attr_destroy(&attr);
	if (!started) {
		lock_mutex_lock(&gate->lock);
		gate->runners--;
		lock_mutex_unlock(&gate->lock);
	}
	return started;
}

void gate_open(struct gate *gate)
{
	unsigned int due = 0, started = 0;

	lock_mutex_lock(&gate->lock);
	while (!list_is_empty(&gate->kept)) {
		struct list *first = gate->kept.next;

		list_remove(first);
		list_add_tail(&gate->due, first);
		due++;
	}
	atomic_store(&gate->is_closed, false);
	pthread_cond_broadcast(&gate->changed);
	lock_mutex_unlock(&gate->lock);
	while (started < MIN(due, (unsigned int)GATE_RUNNERS) && gate_start_runner(gate))
		started++;
	/* One after the other is late, but in time. */
	if (started == 0)
		gate_run_due(gate);
}
