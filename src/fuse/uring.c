/* SPDX-License-Identifier: MIT */
/*
 * The transport over io_uring (Linux 6.14).
 *
 * The kernel has a queue of requests for each processor and gives a request to
 * the queue of the processor that asks.  A queue has workers: threads on that
 * very processor, so that a round trip wakes nobody on another, each with a
 * ring of its own and one entry in it: room for one request.  The kernel takes
 * the entry that came back last, so one worker does what one caller asks, and
 * the others wait.  A worker that takes a request while no other of its queue
 * waits first starts another, so a request that blocks never holds a queue.
 * A worker once started stays: the kernel knows no way to take an entry back.
 *
 * INIT, FORGET, INTERRUPT and notifications keep going through the device,
 * whose transport (dev.c) is part of this one.  Requests wait in the kernel
 * from INIT on until every queue has an entry.
 *
 * Queues of processors where this process may not run have workers that are
 * nowhere pinned.  Those of processors that are not there need an entry all the
 * same: one worker has them all.
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/giveway.h"
#include "fuse/session.h"
#include "fuse/thread.h"
#include "fuse/uring_entry.h"
#include "sys/cpu.h"

#define URING_THREADS_DEFAULT 64
/* The worker that has the queues of processors that are not there. */
#define URING_REST UINT_MAX
/* Only this thread touches its ring, which saves the kernel locks and interrupts of other work. */
#define URING_FLAGS (IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

enum uring_state {
	URING_NEW, /* rings are there, INIT is not answered */
	URING_LIVE,
	URING_STOPPING,
};

struct uring_queue {
	bool is_ours; /* its workers run on its processor */
	bool is_online; /* requests come from there */
	atomic_uint waiting; /* workers that have an entry in the kernel, or are about to */
};

struct uring {
	struct fuse_transport base;
	struct fuse_transport *dev;
	int fd; /* the device; the dev transport's */
	unsigned int max_workers;
	bool may_give_way; /* workers do while processors are idle */
	void (*ended)(void *context, int error);
	void *context;
	atomic_bool has_ended;

	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	pthread_cond_t changed;
	_Atomic int state; /* enum uring_state; read without the lock too */
	struct list list;
	unsigned int workers; /* threads */
	unsigned int ready; /* workers that have their ring, since the start */
	int error; /* of the first worker that could not be set up */

	unsigned int queue_count;
	struct uring_queue queues[];
};

/* One thread; made by whoever starts it. */
struct uring_worker {
	struct list link;
	struct uring *uring;
	unsigned int queue; /* or URING_REST */
	pthread_t thread;
	struct io_uring ring;
	bool has_ring;
	bool gives_way;
	struct giveway_watch watch;
	struct giveway_pause pause;
	atomic_bool is_waiting; /* only then a kick is of any use */
	atomic_bool must_trim;
	unsigned int entry_count, live; /* live: the kernel may put requests in */
	struct uring_entry *entries[];
};

static struct uring *uring_of(struct fuse_transport *transport)
{
	return container_of(transport, struct uring, base);
}

/* Called by this transport and by the device's; told to the daemon once. */
static void uring_ended(void *context, int error)
{
	struct uring *uring = context;

	if (!atomic_exchange(&uring->has_ended, true) && uring->ended)
		uring->ended(uring->context, error);
}

/* ---- a worker's life ---- */

static struct uring_worker *uring_worker_free(struct uring_worker *worker)
{
	/* First the ring: until then the kernel knows the entries. */
	if (worker->has_ring)
		io_uring_queue_exit(&worker->ring);
	for (unsigned int i = 0; i < worker->entry_count; i++)
		uring_entry_free(worker->entries[i]);
	free(worker);
	return NULL;
}

/* Queues of which @queue names one or, URING_REST, all where nobody asks from. */
static bool uring_queue_is_in(const struct uring *uring, unsigned int number, unsigned int queue)
{
	return queue == URING_REST ? !uring->queues[number].is_online : number == queue;
}

static struct uring_worker *uring_worker_new(struct uring *uring, unsigned int queue)
{
	struct uring_worker *worker =
		calloc(1, sizeof(*worker) + uring->queue_count * sizeof(worker->entries[0]));

	if (!worker)
		return NULL;
	worker->uring = uring;
	worker->queue = queue;
	for (unsigned int i = 0; i < uring->queue_count; i++) {
		if (!uring_queue_is_in(uring, i, queue))
			continue;
		struct uring_entry *entry = uring_entry_new(&uring->base, i);

		if (!entry)
			return uring_worker_free(worker);
		worker->entries[worker->entry_count++] = entry;
	}
	return worker;
}

static int uring_worker_set_up(struct uring_worker *worker)
{
	const struct uring *uring = worker->uring;
	int r;

	if (worker->queue != URING_REST && uring->queues[worker->queue].is_ours) {
		r = sys_cpu_pin(worker->queue);
		if (r < 0)
			log_debug("cannot run on processor %u: %s", worker->queue, strerror(-r));
	}
	sys_cpu_schedule(SYS_CPU_BATCH);
	/* Here, as the ring is its maker's alone. */
	r = io_uring_queue_init(worker->entry_count, &worker->ring, URING_FLAGS);
	worker->has_ring = r == 0;
	return r;
}

/* The next free slot; there is one for each entry. */
static struct io_uring_sqe *uring_worker_sqe(struct uring_worker *worker)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&worker->ring);

	assert(sqe);
	return sqe;
}

static void uring_worker_register(struct uring_worker *worker)
{
	for (unsigned int i = 0; i < worker->entry_count; i++)
		uring_entry_prepare_register(worker->entries[i], worker->uring->fd,
					     uring_worker_sqe(worker));
	worker->live = worker->entry_count;
}

static int uring_spawn(struct uring *uring, unsigned int queue);

/* The worker waits for nothing after all. */
static void uring_worker_uncount(struct uring_worker *worker)
{
	for (unsigned int i = 0; i < worker->entry_count; i++)
		atomic_fetch_sub(&worker->uring->queues[worker->entries[i]->queue].waiting, 1);
}

/* Whether to give way, after a wait that began at @before; giveway.h has why. */
static void uring_worker_look(struct uring_worker *worker, uint64_t before)
{
	uint64_t now = stats_now_ns();

	if (!worker->uring->may_give_way)
		return;
	if (worker->gives_way) {
		if (!giveway_watch_is_starved(&worker->watch, before, now))
			return;
		giveway_pause_begin(&worker->pause, now);
		sys_cpu_schedule(SYS_CPU_BATCH);
		worker->gives_way = false;
	} else if (giveway_pause_is_over(&worker->pause, now)) {
		giveway_pause_finish(&worker->pause, now);
		giveway_watch_begin(&worker->watch);
		sys_cpu_schedule(SYS_CPU_IDLE);
		worker->gives_way = true;
	}
}

static void uring_worker_receive(struct uring_worker *worker, struct uring_entry *entry)
{
	const struct fuse_in_header *in = (const void *)entry->header.in_out;
	bool hurries = worker->gives_way && giveway_is_out_of_place(in->opcode);

	if (!uring_entry_receive(entry)) {
		log_warning_limited("a request over io_uring that makes no sense");
		return;
	}
	if (hurries)
		sys_cpu_schedule(SYS_CPU_BATCH);
	session_receive(worker->uring->base.session, &entry->base);
	/* A handler may have given it to another thread. */
	while (sem_wait(&entry->answered) < 0)
		;
	if (hurries)
		sys_cpu_schedule(SYS_CPU_IDLE);
}

static void uring_worker_handle(struct uring_worker *worker, struct uring_entry *entry)
{
	struct uring *uring = worker->uring;
	struct uring_queue *queue = &uring->queues[entry->queue];

	if (atomic_fetch_sub(&queue->waiting, 1) == 1)
		uring_spawn(uring, entry->queue);
	uring_worker_receive(worker, entry);
	atomic_fetch_add(&queue->waiting, 1);
	uring_entry_prepare_commit(entry, uring->fd, uring_worker_sqe(worker));
}

/* The kernel gave an entry up; at the end of the connection it does so with all. */
static void uring_worker_lose(struct uring_worker *worker, const struct uring_entry *entry,
			      int error)
{
	struct uring *uring = worker->uring;

	worker->live--;
	atomic_fetch_sub(&uring->queues[entry->queue].waiting, 1);
	if (error == -ENOTCONN || error == -ECANCELED || atomic_load(&uring->state) != URING_LIVE)
		return;
	/* Switched off between the kernel's question and our answer: it will not wait for us. */
	if (error == -EOPNOTSUPP) {
		log_info("io_uring was switched off; using /dev/fuse");
		return;
	}
	log_error("io_uring queue %u: %s", entry->queue, strerror(-error));
	uring_ended(uring, error);
}

/* Everything that has come. */
static void uring_worker_take(struct uring_worker *worker)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&worker->ring, &cqe) == 0) {
		struct uring_entry *entry = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&worker->ring, cqe);
		if (result < 0)
			uring_worker_lose(worker, entry, result);
		else
			uring_worker_handle(worker, entry);
	}
}

/*
 * Gives memory back if the entries are empty: all answers have been taken, and no new request is
 * there, which the kernel puts in within this thread's system calls only. False: not now.
 */
static bool uring_worker_trim(struct uring_worker *worker)
{
	if (io_uring_sq_ready(&worker->ring) > 0)
		io_uring_submit(&worker->ring);
	if (io_uring_sq_ready(&worker->ring) > 0 || io_uring_cq_ready(&worker->ring) > 0)
		return false;
	for (unsigned int i = 0; i < worker->entry_count; i++)
		uring_entry_trim(worker->entries[i]);
	return true;
}

static void uring_worker_run(struct uring_worker *worker)
{
	uring_worker_register(worker);
	while (worker->live > 0 && atomic_load(&worker->uring->state) == URING_LIVE) {
		if (atomic_load(&worker->must_trim) && uring_worker_trim(worker))
			atomic_store(&worker->must_trim, false);
		uint64_t before = stats_now_ns();

		atomic_store(&worker->is_waiting, true);
		int r = io_uring_submit_and_wait(&worker->ring, 1);

		atomic_store(&worker->is_waiting, false);
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
			log_warning_limited("io_uring: %s", strerror(-r));
		uring_worker_look(worker, before);
		uring_worker_take(worker);
	}
	/* The answer of the last request. */
	if (io_uring_sq_ready(&worker->ring) > 0)
		io_uring_submit(&worker->ring);
}

/* Waits for INIT. True: serve. */
static bool uring_worker_await(struct uring_worker *worker, int error)
{
	struct uring *uring = worker->uring;
	bool is_live;

	lock_mutex_lock(&uring->lock);
	uring->ready++;
	if (error < 0 && uring->error == 0)
		uring->error = error;
	pthread_cond_broadcast(&uring->changed);
	while (error == 0 && atomic_load(&uring->state) == URING_NEW)
		lock_cond_wait(&uring->changed, &uring->lock);
	is_live = error == 0 && atomic_load(&uring->state) == URING_LIVE;
	lock_mutex_unlock(&uring->lock);
	return is_live;
}

static void *uring_worker_main(void *arg)
{
	struct uring_worker *worker = arg;
	struct uring *uring = worker->uring;
	int r = uring_worker_set_up(worker);

	worker->thread = pthread_self();
	lock_mutex_lock(&uring->lock);
	list_add_tail(&uring->list, &worker->link);
	lock_mutex_unlock(&uring->lock);
	session_enter_thread(uring->base.session);
	if (uring_worker_await(worker, r))
		uring_worker_run(worker);
	else
		uring_worker_uncount(worker);

	lock_mutex_lock(&uring->lock);
	list_remove(&worker->link);
	lock_mutex_unlock(&uring->lock);
	uring_worker_free(worker);
	lock_mutex_lock(&uring->lock);
	uring->workers--;
	pthread_cond_broadcast(&uring->changed);
	lock_mutex_unlock(&uring->lock);
	return NULL;
}

/* Starts a worker unless there are enough, or it is too late. It counts as waiting from now on,
 * so that nobody starts another for the same reason. */
static int uring_spawn(struct uring *uring, unsigned int queue)
{
	struct uring_worker *worker;
	bool may = false;
	int r;

	lock_mutex_lock(&uring->lock);
	if (uring->workers < uring->max_workers && atomic_load(&uring->state) != URING_STOPPING) {
		uring->workers++;
		may = true;
	}
	lock_mutex_unlock(&uring->lock);
	if (!may)
		return 0;
	worker = uring_worker_new(uring, queue);
	for (unsigned int i = 0; worker && i < worker->entry_count; i++)
		atomic_fetch_add(&uring->queues[worker->entries[i]->queue].waiting, 1);
	r = worker ? thread_create(uring_worker_main, worker) : -ENOMEM;
	if (r == 0)
		return 0;
	log_warning_limited("cannot start another thread: %s", strerror(-r));
	if (worker) {
		uring_worker_uncount(worker);
		uring_worker_free(worker);
	}
	lock_mutex_lock(&uring->lock);
	uring->workers--;
	pthread_cond_broadcast(&uring->changed);
	lock_mutex_unlock(&uring->lock);
	return r;
}

/* ---- the transport ---- */

/* Called by the session once INIT is answered: with io_uring, or without. */
static void uring_negotiated(void *context, bool is_live)
{
	struct uring *uring = context;

	lock_mutex_lock(&uring->lock);
	if (atomic_load(&uring->state) == URING_NEW)
		atomic_store(&uring->state, is_live ? URING_LIVE : URING_STOPPING);
	pthread_cond_broadcast(&uring->changed);
	lock_mutex_unlock(&uring->lock);
}

static void uring_stop_workers(struct uring *uring)
{
	struct list *at;

	lock_mutex_lock(&uring->lock);
	atomic_store(&uring->state, URING_STOPPING);
	pthread_cond_broadcast(&uring->changed);
	/* Again and again: a kick right before a thread waits is lost on it. */
	while (uring->workers > 0) {
		list_for_each(at, &uring->list) {
			struct uring_worker *worker = list_entry(at, struct uring_worker, link);

			if (atomic_load(&worker->is_waiting))
				thread_kick(worker->thread);
		}
		lock_cond_wait_ms(&uring->changed, &uring->lock, THREAD_KICK_INTERVAL_MS);
	}
	lock_mutex_unlock(&uring->lock);
}

/* One worker for each queue, with their rings: from INIT on there is no way back. */
static int uring_start_workers(struct uring *uring)
{
	unsigned int rest = 0, count = 0;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < uring->queue_count; i++) {
		if (!uring->queues[i].is_online)
			rest++;
		else if ((r = uring_spawn(uring, i)) == 0)
			count++;
	}
	if (r == 0 && rest > 0 && (r = uring_spawn(uring, URING_REST)) == 0)
		count++;
	lock_mutex_lock(&uring->lock);
	while (uring->ready < count)
		lock_cond_wait(&uring->changed, &uring->lock);
	if (r == 0)
		r = uring->error;
	lock_mutex_unlock(&uring->lock);
	return r;
}

static int uring_start(struct fuse_transport *transport)
{
	struct uring *uring = uring_of(transport);
	int r;

	thread_enable_kicks();
	r = uring_start_workers(uring);
	if (r < 0) {
		log_info("io_uring is not to be had (%s); using /dev/fuse", strerror(-r));
		uring_stop_workers(uring);
		uring->base.session->negotiated = NULL;
	}
	return uring->dev->ops->start(uring->dev);
}

static void uring_stop(struct fuse_transport *transport)
{
	struct uring *uring = uring_of(transport);

	uring_stop_workers(uring);
	uring->dev->ops->stop(uring->dev);
}

static int uring_reply(struct fuse_transport *transport, struct fuse_request *request,
		       const struct iovec *iov, int count)
{
	uring_entry_reply(container_of(request, struct uring_entry, base), iov, count);
	return 0;
}

static void uring_release(struct fuse_transport *transport, struct fuse_request *request)
{
	sem_post(&container_of(request, struct uring_entry, base)->answered);
}

static int uring_notify(struct fuse_transport *transport, const struct iovec *iov, int count)
{
	struct uring *uring = uring_of(transport);

	return uring->dev->ops->notify(uring->dev, iov, count);
}

static int uring_get_device(struct fuse_transport *transport)
{
	return uring_of(transport)->fd;
}

static void uring_trim(struct fuse_transport *transport)
{
	struct uring *uring = uring_of(transport);
	struct list *at;

	lock_mutex_lock(&uring->lock);
	list_for_each(at, &uring->list) {
		struct uring_worker *worker = list_entry(at, struct uring_worker, link);

		atomic_store(&worker->must_trim, true);
		if (atomic_load(&worker->is_waiting))
			thread_kick(worker->thread);
	}
	lock_mutex_unlock(&uring->lock);
	uring->dev->ops->trim(uring->dev);
}

static void uring_get_state(struct fuse_transport *transport, struct fuse_transport_state *state)
{
	struct uring *uring = uring_of(transport);

	uring->dev->ops->get_state(uring->dev, state);
	lock_mutex_lock(&uring->lock);
	if (atomic_load(&uring->state) == URING_LIVE && uring->workers > 0) {
		state->name = "io_uring";
		state->threads_max += uring->max_workers;
		state->threads += uring->workers;
		for (unsigned int i = 0; i < uring->queue_count; i++)
			state->waiting += atomic_load(&uring->queues[i].waiting);
		state->waiting = MIN(state->waiting, state->threads);
	}
	lock_mutex_unlock(&uring->lock);
}

static struct fuse_transport *uring_free(struct fuse_transport *transport)
{
	struct uring *uring = uring_of(transport);

	assert(uring->workers == 0);
	uring->dev->ops->free(uring->dev);
	pthread_cond_destroy(&uring->changed);
	lock_mutex_deinit(&uring->lock);
	free(uring);
	return NULL;
}

static const struct fuse_transport_ops uring_ops = {
	.start = uring_start,
	.stop = uring_stop,
	.reply = uring_reply,
	.release = uring_release,
	.notify = uring_notify,
	.get_device = uring_get_device,
	.trim = uring_trim,
	.get_state = uring_get_state,
	.free = uring_free,
};

bool fuse_has_uring(void)
{
	return true;
}

int fuse_uring_new(struct fuse_session *session, const struct fuse_dev_config *config,
		   struct fuse_transport **transportp)
{
	unsigned int count = sys_cpu_possible();
	unsigned int max = config->max_threads ? config->max_threads : URING_THREADS_DEFAULT;
	struct uring *uring = calloc(1, sizeof(*uring) + count * sizeof(uring->queues[0]));
	struct fuse_dev_config dev_config = *config;
	int r;

	if (!uring) {
		close(config->fd);
		return -ENOMEM;
	}
	dev_config.ended = uring_ended;
	dev_config.context = uring;
	r = fuse_dev_new(session, &dev_config, &uring->dev);
	if (r < 0) {
		free(uring);
		return r;
	}
	uring->base.ops = &uring_ops;
	uring->base.session = session;
	uring->fd = config->fd;
	uring->ended = config->ended;
	uring->context = config->context;
	uring->queue_count = count;
	for (unsigned int i = 0; i < count; i++) {
		uring->queues[i].is_ours = sys_cpu_is_ours(i);
		uring->queues[i].is_online = uring->queues[i].is_ours || sys_cpu_is_online(i);
	}
	uring->may_give_way = sys_cpu_may_idle();
	/* At least one for each queue, and one that is free when those are not. */
	uring->max_workers = MAX(max, count + 1);
	lock_mutex_init(&uring->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&uring->changed, NULL);
	list_init(&uring->list);
	session->negotiated = uring_negotiated;
	session->negotiated_context = uring;
	*transportp = &uring->base;
	return 0;
}
