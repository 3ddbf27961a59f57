/* SPDX-License-Identifier: MIT */
#include "daemon/watcher.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

/*
 * The pause after each bufferful: events that are alike become one in the kernel's queue, so that
 * a writer in a layer costs us this many rounds and not one for each of his writes.
 */
#define WATCHER_PAUSE_MS 10

static void watcher_enter(void *context)
{
	struct watcher *watcher = context;

	watcher->entered = gate_enter(watcher->gate);
}

static void watcher_leave(void *context)
{
	struct watcher *watcher = context;

	gate_leave(watcher->gate, watcher->entered);
}

static void watcher_name(void *context, uint64_t parent, const char *name)
{
	const struct watcher *watcher = context;

	fuse_notify_expire(watcher->transport, parent, name);
}

static void watcher_node(void *context, uint64_t node)
{
	const struct watcher *watcher = context;

	fuse_notify_inode(watcher->transport, node, 0, 0);
}

/* Waits for @fd or the end; true: the end. */
static bool watcher_wait(const struct watcher *watcher, int fd, int timeout_ms)
{
	struct pollfd fds[] = {
		{ .fd = watcher->stop_fd, .events = POLLIN },
		{ .fd = fd, .events = POLLIN },
	};

	while (poll(fds, 2, timeout_ms) < 0 && errno == EINTR)
		;
	return fds[0].revents;
}

static void *watcher_run(void *context)
{
	struct watcher *watcher = context;
	const struct core_watcher hears = {
		.enter = watcher_enter,
		.leave = watcher_leave,
		.name = watcher_name,
		.node = watcher_node,
		.context = watcher,
	};

	while (!watcher_wait(watcher, core_watch_fd(watcher->core), -1)) {
		int r = core_watch_run(watcher->core, &hears);

		if (r < 0)
			log_warning_limited("watch: %s", strerror(-r));
		if (watcher_wait(watcher, -1, WATCHER_PAUSE_MS))
			break;
	}
	return NULL;
}

int watcher_start(struct watcher *watcher, struct core *core, struct fuse_transport *transport,
		  struct gate *gate)
{
	if (core_watch_fd(core) < 0)
		return 0;
	*watcher = (struct watcher){
		.core = core,
		.transport = transport,
		.gate = gate,
		.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (watcher->stop_fd < 0)
		return -errno;
	int r = pthread_create(&watcher->thread, NULL, watcher_run, watcher);

	if (r != 0)
		close(watcher->stop_fd);
	watcher->is_running = r == 0;
	return -r;
}

void watcher_stop(struct watcher *watcher)
{
	if (!watcher->is_running)
		return;
	/* Fails only if the counter is at its end: then the thread is being woken anyway. */
	(void)eventfd_write(watcher->stop_fd, 1);
	pthread_join(watcher->thread, NULL);
	close(watcher->stop_fd);
	watcher->is_running = false;
}
