/* SPDX-License-Identifier: MIT */
/*
 * The transport over /dev/fuse: threads that read a message, handle it and
 * read the next.
 *
 * A thread that takes a message while no other waits for one first calls
 * another, so a request that blocks never delays the next; a thread that finds
 * enough others waiting goes to sleep, or ends.  Hence there is always one that
 * waits or is about to; dev_crew.h has who and where.  Each thread reads from a
 * clone of the device, which has a queue of its own for requests at work; a
 * reply must take the way the request came, so a request keeps its clone open.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/dev_crew.h"
#include "fuse/thread.h"
#include "sys/file.h"

#define DEV_THREADS_DEFAULT 64

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

	/* Before the caller can ask again: he may take this processor as soon as he has his answer,
	 * and would find nobody waiting. Nothing that lasts is done after an answer. */
	dev_worker_answers(request);
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
	return dev_crews_start(dev_of(transport));
}

static int dev_get_device(struct fuse_transport *transport)
{
	return dev_of(transport)->channel->fd;
}

static void dev_stop(struct fuse_transport *transport)
{
	dev_crews_stop(dev_of(transport));
}

static void dev_trim(struct fuse_transport *transport)
{
	dev_crews_trim(dev_of(transport));
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

	dev_channel_unref(dev->channel);
	dev_crews_deinit(dev);
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
	dev_crews_init(dev);
	*transportp = &ptr_take(dev)->base;
	return 0;
}
