/* SPDX-License-Identifier: MIT */
/* One thread of the device's transport: reads a message, handles it, and reads the next. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/decode.h"
#include "fuse/dev_crew.h"
#include "fuse/stats.h"
#include "fuse/thread.h"
#include "sys/cpu.h"
#include "sys/file.h"

/* No near workers for so long after a request that they cannot handle. */
#define DEV_HANDED_NS 10000000U

/* So often in a row an aborted connection is one. */
#define DEV_ABORTS_MAX 16
/* Nobody has asked for anything here for so long: then requests come another way, or not at all. */
#define DEV_QUIET_NS 10000000U
/* How long to rest after a FORGET then. */
#define DEV_REST_MS 1

/* Not where it failed before, and not so many that the descriptors are spent on them. */
static bool dev_may_clone(struct dev *dev)
{
	bool may;

	if (atomic_load(&dev->cannot_clone))
		return false;
	lock_mutex_lock(&dev->lock);
	may = dev->threads <= dev->max_clones;
	lock_mutex_unlock(&dev->lock);
	return may;
}

/* A channel of its own, or the common one where cloning is not possible (an ordinary user got
 * the device from fusermount3 and may not open it). */
static struct dev_channel *dev_channel_clone(struct dev *dev)
{
	uint32_t parent = (uint32_t)dev->channel->fd;
	struct dev_channel *channel;
	_cleanup_close_ int fd = -1;

	if (!dev_may_clone(dev))
		return dev_channel_ref(dev->channel);
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &parent) < 0) {
		int error = errno;

		atomic_store(&dev->cannot_clone, error == EACCES || error == EPERM ||
							 error == ENOENT || error == ENOTTY);
		log_debug("cannot clone the device: %s", strerror(error));
		return dev_channel_ref(dev->channel);
	}
	channel = dev_channel_new(fd);
	if (!channel)
		return dev_channel_ref(dev->channel);
	fd_take(&fd);
	return channel;
}

/* Says once how the connection ended, and lets the other threads find out themselves. */
static void dev_end(struct dev *dev, int error)
{
	bool is_first;

	lock_mutex_lock(&dev->lock);
	is_first = !dev->has_ended;
	dev->has_ended = true;
	lock_mutex_unlock(&dev->lock);
	if (is_first && dev->ended)
		dev->ended(dev->context, error);
}

/* After a failed read(2). False: this thread shall end. */
static bool dev_worker_go_on(struct dev_worker *worker, int error)
{
	worker->aborts = error == ECONNABORTED ? worker->aborts + 1 : 0;
	switch (error) {
	case EINTR:
	case EAGAIN:
	case ENOENT: /* the caller was killed before the message was taken */
		return true;
	case ENODEV:
		dev_end(worker->dev, 0);
		return false;
	case ECONNABORTED:
		/* Also while an unmount comes between messages and their readers; who reads again
		 * is told which it was. */
		if (worker->aborts < DEV_ABORTS_MAX) {
			thread_sleep_ms(1);
			return true;
		}
		dev_end(worker->dev, -error);
		return false;
	default:
		log_error("reading from /dev/fuse: %s", strerror(error));
		dev_end(worker->dev, -error);
		return false;
	}
}

/* The next message into the worker's request. False: this thread shall end. */
static bool dev_worker_read(struct dev_worker *worker)
{
	struct dev_request *request = worker->request;
	ssize_t size;
	int error;

	do {
		if (atomic_load(&worker->dev->stopping))
			return false;
		if (atomic_exchange(&worker->must_trim, false)) {
			dev_request_trim(request);
			if (dev_crew_dismiss(worker))
				return false;
		}
		atomic_store(&worker->is_reading, true);
		size = read(worker->channel->fd, request->memory, DEV_MESSAGE_MAX);
		error = size < 0 ? errno : ENODEV;
		atomic_store(&worker->is_reading, false);
	} while (size <= 0 && dev_worker_go_on(worker, error));
	if (size <= 0)
		return false;
	dev_request_fill(request, worker->channel, (size_t)size);
	return true;
}

/* A request for the next message. Waits for memory if it must: a thread that ended for the
 * lack of it could be the last. */
static void dev_worker_ready(struct dev_worker *worker)
{
	while (!worker->request) {
		worker->request = dev_request_new(&worker->dev->base);
		if (worker->request)
			break;
		log_warning_limited("no memory for a request; waiting");
		thread_sleep_ms(THREAD_KICK_INTERVAL_MS);
	}
}

/* What another thread read, or the next message. False: this thread shall end. */
static bool dev_worker_take(struct dev_worker *worker)
{
	struct dev_request *handed =
		worker->kind == DEV_COMMON ? dev_crew_take_handed(worker->dev) : NULL;

	if (handed) {
		dev_request_free(worker->request);
		worker->request = handed;
		return true;
	}
	dev_crew_go_home(worker);
	dev_worker_ready(worker);
	return dev_worker_read(worker);
}

/* Looks who asks, and chooses who takes the next messages; after a wait since @before. */
static void dev_worker_look(struct dev_worker *worker, const struct fuse_in_header *head,
			    uint64_t before)
{
	struct dev *dev = worker->dev;
	uint64_t now = stats_now_ns();
	int news;

	if (worker->kind == DEV_NEAR && giveway_watch_is_starved(&worker->watch, before, now))
		dev_crew_pause(dev, now);
	if (now < atomic_load(&dev->no_home_until))
		return;
	news = callers_note(&dev->callers, head->pid, now);
	if (news >= 0)
		dev_crew_gather(worker, (unsigned int)news, now);
	else if (news == CALLERS_SEVERAL && atomic_load(&dev->home) != DEV_NO_HOME)
		dev_crew_scatter(dev, 0);
}

static void dev_worker_receive(struct dev_worker *worker)
{
	struct dev_request *request = worker->request;

	session_receive(worker->dev->base.session, &request->base);
	/* Either it is answered, and ours again, or a handler keeps it. */
	if (!dev_request_put(request))
		worker->request = NULL;
}

static void dev_worker_handle(struct dev_worker *worker, uint32_t opcode)
{
	struct dev *dev = worker->dev;

	if (worker->kind == DEV_COMMON || !giveway_is_out_of_place(opcode)) {
		dev_worker_receive(worker);
	} else if (dev->may_return) {
		sys_cpu_schedule(SYS_CPU_BATCH);
		dev_worker_receive(worker);
		sys_cpu_schedule(SYS_CPU_IDLE);
	} else if (dev_crew_hand_over(worker)) {
		/* What does such things once does so again. */
		dev_crew_scatter(dev, stats_now_ns() + DEV_HANDED_NS);
	} else {
		dev_worker_receive(worker);
	}
}

/*
 * Where requests come over io_uring, each unlink and each inode that the kernel drops would wake a
 * thread here for its FORGET, at the expense of who does it.  Nobody waits for the answer: those
 * that come while the thread rests wake nobody, and are read at once.
 */
static void dev_worker_rest(const struct dev_worker *worker, uint32_t opcode)
{
	bool is_forget = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;

	if (is_forget && stats_now_ns() - atomic_load(&worker->dev->asked_at) > DEV_QUIET_NS)
		thread_sleep_ms(DEV_REST_MS);
}

static void dev_worker_run(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	/* The first time who started this thread has counted it in. */
	do {
		uint64_t before = stats_now_ns();
		bool go_on = dev_worker_take(worker);
		bool was_last = !worker->is_dismissed && atomic_fetch_sub(&dev->waiting, 1) == 1;

		if (!go_on)
			return;
		const struct fuse_in_header head = dev_request_head(worker->request);
		bool is_brief = decode_is_brief(head.opcode);

		if (!is_brief)
			atomic_store(&dev->asked_at, stats_now_ns());
		if (was_last && !is_brief)
			dev_crew_call(worker);
		if (!is_brief)
			dev_crew_keep_spare(worker);
		if (dev->may_gather && !is_brief)
			dev_worker_look(worker, &head, before);
		dev_worker_handle(worker, head.opcode);
		dev_worker_rest(worker, head.opcode);
	} while (dev_crew_stay(worker));
}

static _Thread_local struct dev_worker *dev_worker_current;

void dev_worker_answers(const struct dev_request *request)
{
	struct dev_worker *worker = dev_worker_current;

	if (worker && worker->request == request && !worker->is_counted)
		worker->is_counted = dev_crew_count(worker);
}

void *dev_worker_main(void *arg)
{
	struct dev_worker *worker = arg;
	struct dev *dev = worker->dev;

	dev_worker_current = worker;
	worker->thread = pthread_self();
	worker->channel = dev_channel_clone(dev);
	dev_crew_join(worker);
	session_enter_thread(dev->base.session);
	if (worker->kind == DEV_NEAR) {
		giveway_watch_begin(&worker->watch);
		sys_cpu_schedule(SYS_CPU_IDLE);
	}
	if (!worker->starts_parked || dev_crew_park(worker))
		dev_worker_run(worker);
	dev_request_free(worker->request);
	dev_channel_unref(worker->channel);
	dev_crew_quit(worker);
	free(worker);
	return NULL;
}
