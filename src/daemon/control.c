/* SPDX-License-Identifier: MIT */
#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"

int control_init(struct control *control)
{
	_cleanup_close_ int signal_fd = -1;
	sigset_t signals;

	*control = (struct control){ .signal_fd = -1, .event_fd = -1, .client_fd = -1 };
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		return -errno;
	control->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->event_fd < 0)
		return -errno;
	control->signal_fd = fd_take(&signal_fd);
	return 0;
}

void control_deinit(struct control *control)
{
	cleanup_close(&control->signal_fd);
	cleanup_close(&control->event_fd);
}

void control_post(struct control *control, enum control_event event)
{
	atomic_fetch_or(&control->events, event);
	/* Fails only if the counter is at its end: then the main thread is being woken anyway. */
	(void)eventfd_write(control->event_fd, 1);
}

static unsigned int control_read_signals(struct control *control)
{
	struct signalfd_siginfo info;
	unsigned int events = 0;

	while (read(control->signal_fd, &info, sizeof(info)) == sizeof(info))
		events = CONTROL_SIGNAL;
	return events;
}

unsigned int control_wait(struct control *control, int timeout_ms)
{
	struct pollfd fds[3] = {
		{ .fd = control->signal_fd, .events = POLLIN },
		{ .fd = control->event_fd, .events = POLLIN },
		{ .fd = control->client_fd, .events = POLLIN },
	};
	unsigned int client;
	eventfd_t counter;

	/* EINTR (a debugger, SIGSTOP) is as good as a timeout to the caller's loop. */
	if (poll(fds, 3, timeout_ms) <= 0)
		return 0;
	client = fds[2].revents ? CONTROL_CLIENT : 0;
	/* First the counter, then the bits: what is posted in between wakes us again. */
	(void)eventfd_read(control->event_fd, &counter);
	return atomic_exchange(&control->events, 0) | control_read_signals(control) | client;
}
