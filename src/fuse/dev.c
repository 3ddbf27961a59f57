/* SPDX-License-Identifier: MIT */
/*
 * The transport over /dev/fuse: threads that read a message, handle it and
 * read the next.
 *
 * A thread that takes a message while no other waits for one first starts
 * another, so a request that blocks never delays the next; a thread that
 * finds enough others waiting ends.  Hence there is always one that waits or
 * is about to.  Each thread reads from a clone of the device, which has a
 * queue of its own for requests at work; a reply must take the way the
 * request came, so a request keeps its clone open.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/dev_request.h"
#include "fuse/thread.h"
#include "sys/file.h"

#define DEV_THREADS_DEFAULT 64

struct dev {
	struct fuse_transport base;
	struct dev_channel *channel; /* the mount's own */
	unsigned int max_threads, max_idle, max_clones;
	void (*ended)(void *context, int error);
	void *context;

	atomic_uint waiting; /* threads in read(2), or on the way there */
	atomic_bool stopping, cannot_clone;
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	pthread_cond_t thread_ended;
	struct list workers;
	unsigned int threads;
	bool has_ended;
};

/* One thread; on its stack. */
struct dev_worker {
	struct list link;
	struct dev *dev;
	pthread_t thread;
	struct dev_channel *channel;
	struct dev_request *request;
	atomic_bool is_reading; /* only then a kick is of any use */
	atomic_bool must_trim;
	bool was_aborted; /* by the last read(2) */
	bool has_left; /* it is to end, and counted among those that wait no more */
};

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

/* ---- one thread ---- */

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
	bool was_aborted = worker->was_aborted;

	worker->was_aborted = error == ECONNABORTED;
	switch (error) {
	case EINTR:
	case EAGAIN:
	case ENOENT: /* the caller was killed before the message was taken */
		return true;
	case ENODEV:
		dev_end(worker->dev, 0);
		return false;
	case ECONNABORTED:
		/* Also where an unmount came between a message and its reader; who reads again
		 * is told which it was. */
		if (!was_aborted)
			return true;
		dev_end(worker->dev, -error);
		return false;
	default:
		log_error("reading from /dev/fuse: %s", strerror(error));
		dev_end(worker->dev, -error);
		return false;
	}
}

/* Takes the calling thread out of those that wait, unless it is the last. */
static bool dev_leave(struct dev *dev)
{
	unsigned int waiting = atomic_load(&dev->waiting);

	while (waiting > 1) {
		if (atomic_compare_exchange_weak(&dev->waiting, &waiting, waiting - 1))
			return true;
	}
	return false;
}

/*
 * In a quiet moment: memory goes back, and all threads but one end, with their stacks and what
 * the allocator keeps for each.
 */
static bool dev_worker_trim(struct dev_worker *worker)
{
	dev_request_trim(worker->request);
	worker->has_left = dev_leave(worker->dev);
	return worker->has_left;
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
		if (atomic_exchange(&worker->must_trim, false) && dev_worker_trim(worker))
			return false;
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

static void dev_worker_handle(struct dev_worker *worker)
{
	struct dev_request *request = worker->request;

	session_receive(worker->dev->base.session, &request->base);
	/* Either it is answered, and ours again, or a handler keeps it. */
	if (!dev_request_put(request))
		worker->request = NULL;
}

static int dev_spawn(struct dev *dev);

static void dev_worker_run(struct dev_worker *worker)
{
	struct dev *dev = worker->dev;

	/* The first time dev_spawn() has counted this thread in. */
	do {
		bool go_on, was_last;

		dev_worker_ready(worker);
		go_on = dev_worker_read(worker);
		if (worker->has_left)
			return;
		was_last = atomic_fetch_sub(&dev->waiting, 1) == 1;
		if (!go_on)
			return;
		if (was_last && !dev_request_is_brief(worker->request))
			dev_spawn(dev);
		dev_worker_handle(worker);
	} while (atomic_fetch_add(&dev->waiting, 1) < dev->max_idle || !dev_leave(dev));
}

static void *dev_worker_main(void *arg)
{
	struct dev *dev = arg;
	struct dev_worker worker = {
		.dev = dev,
		.thread = pthread_self(),
		.channel = dev_channel_clone(dev),
	};

	lock_mutex_lock(&dev->lock);
	list_add_tail(&dev->workers, &worker.link);
	lock_mutex_unlock(&dev->lock);
	session_enter_thread(dev->base.session);
	dev_worker_run(&worker);
	dev_request_free(worker.request);
	dev_channel_unref(worker.channel);

	lock_mutex_lock(&dev->lock);
	list_remove(&worker.link);
	dev->threads--;
	pthread_cond_broadcast(&dev->thread_ended);
	lock_mutex_unlock(&dev->lock);
	return NULL;
}

/* Starts one more thread unless there are enough. It counts as waiting from now on, so that
 * nobody starts another for the same reason. */
static int dev_spawn(struct dev *dev)
{
	bool may = false;
	int r;

	lock_mutex_lock(&dev->lock);
	if (dev->threads < dev->max_threads && !dev->has_ended && !atomic_load(&dev->stopping)) {
		dev->threads++;
		may = true;
	}
	lock_mutex_unlock(&dev->lock);
	if (!may)
		return 0;
	atomic_fetch_add(&dev->waiting, 1);
	r = thread_create(dev_worker_main, dev);
	if (r == 0)
		return 0;
	log_warning_limited("cannot start another thread: %s", strerror(-r));
	atomic_fetch_sub(&dev->waiting, 1);
	lock_mutex_lock(&dev->lock);
	dev->threads--;
	pthread_cond_broadcast(&dev->thread_ended);
	lock_mutex_unlock(&dev->lock);
	return r;
}

/* ---- the transport ---- */

static struct dev *dev_of(struct fuse_transport *transport)
{
	return container_of(transport, struct dev, base);
}

static int dev_write(int fd, const struct iovec *iov, int count)
{
	ssize_t size;

retry:
	size = writev(fd, iov, count);
	if (size < 0 && errno == EINTR)
		goto retry;
	return size < 0 ? -errno : 0;
}

static int dev_reply(struct fuse_transport *transport, struct fuse_request *base,
		     const struct iovec *iov, int count)
{
	struct dev_request *request = container_of(base, struct dev_request, base);

	return dev_write(request->channel->fd, iov, count);
}

static void dev_release(struct fuse_transport *transport, struct fuse_request *base)
{
	struct dev_request *request = container_of(base, struct dev_request, base);

	dev_channel_unref(request->channel);
	request->channel = NULL;
	if (dev_request_put(request))
		dev_request_free(request);
}

static int dev_notify(struct fuse_transport *transport, const struct iovec *iov, int count)
{
	return dev_write(dev_of(transport)->channel->fd, iov, count);
}

static int dev_start(struct fuse_transport *transport)
{
	thread_enable_kicks();
	return dev_spawn(dev_of(transport));
}

static int dev_get_device(struct fuse_transport *transport)
{
	return dev_of(transport)->channel->fd;
}

static void dev_kick_locked(struct dev *dev, bool must_trim)
{
	struct list *at;

	list_for_each(at, &dev->workers) {
		struct dev_worker *worker = list_entry(at, struct dev_worker, link);

		if (must_trim)
			atomic_store(&worker->must_trim, true);
		if (atomic_load(&worker->is_reading))
			thread_kick(worker->thread);
	}
}

static void dev_stop(struct fuse_transport *transport)
{
	struct dev *dev = dev_of(transport);

	atomic_store(&dev->stopping, true);
	lock_mutex_lock(&dev->lock);
	/* Again and again: a kick right before a thread's read(2) is lost on it. */
	while (dev->threads > 0) {
		dev_kick_locked(dev, false);
		lock_cond_wait_ms(&dev->thread_ended, &dev->lock, THREAD_KICK_INTERVAL_MS);
	}
	lock_mutex_unlock(&dev->lock);
}

static void dev_trim(struct fuse_transport *transport)
{
	struct dev *dev = dev_of(transport);

	lock_mutex_lock(&dev->lock);
	dev_kick_locked(dev, true);
	lock_mutex_unlock(&dev->lock);
}

static void dev_get_state(struct fuse_transport *transport, struct fuse_transport_state *state)
{
	struct dev *dev = dev_of(transport);

	lock_mutex_lock(&dev->lock);
	*state = (struct fuse_transport_state){
		.name = "dev",
		.threads = dev->threads,
		.threads_max = dev->max_threads,
		/* A thread counts itself in before it knows whether it will stay. */
		.waiting = MIN(atomic_load(&dev->waiting), dev->threads),
	};
	lock_mutex_unlock(&dev->lock);
}

static struct fuse_transport *dev_free(struct fuse_transport *transport)
{
	struct dev *dev = dev_of(transport);

	assert(dev->threads == 0);
	dev_channel_unref(dev->channel);
	pthread_cond_destroy(&dev->thread_ended);
	lock_mutex_deinit(&dev->lock);
	free(dev);
	return NULL;
}

static const struct fuse_transport_ops dev_ops = {
	.start = dev_start,
	.stop = dev_stop,
	.reply = dev_reply,
	.release = dev_release,
	.notify = dev_notify,
	.get_device = dev_get_device,
	.trim = dev_trim,
	.get_state = dev_get_state,
	.free = dev_free,
};

static unsigned int dev_default_idle(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus > 0 ? 2 * (unsigned int)cpus : 2;
}

/* An eighth of the descriptors. */
static unsigned int dev_default_clones(void)
{
	return MAX(sys_raise_nofile() / 8, 1U);
}

int fuse_dev_new(struct fuse_session *session, const struct fuse_dev_config *config,
		 struct fuse_transport **transportp)
{
	_cleanup_close_ int fd = config->fd;
	_cleanup_free_ struct dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->channel = dev_channel_new(fd);
	if (!dev->channel)
		return -ENOMEM;
	fd_take(&fd);
	dev->base.ops = &dev_ops;
	dev->base.session = session;
	dev->max_threads = config->max_threads ? config->max_threads : DEV_THREADS_DEFAULT;
	dev->max_idle = config->max_idle ? config->max_idle : dev_default_idle();
	dev->max_clones = dev_default_clones();
	dev->ended = config->ended;
	dev->context = config->context;
	lock_mutex_init(&dev->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&dev->thread_ended, NULL);
	list_init(&dev->workers);
	*transportp = &ptr_take(dev)->base;
	return 0;
}
