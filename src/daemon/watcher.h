/* SPDX-License-Identifier: MIT */
/*
 * The thread that hears what others change in the layers and tells the kernel what to forget
 * (option watch).  Telling can wait for requests that are being worked on, so it is no thread
 * that works on any.
 */
#ifndef VENEER_DAEMON_WATCHER_H
#define VENEER_DAEMON_WATCHER_H

#include <pthread.h>
#include <stdbool.h>

#include "core/core.h"
#include "daemon/gate.h"
#include "fuse/fuse.h"

struct watcher {
	struct core *core; /* borrowed, as are the transport and the gate */
	struct gate *gate;
	int entered; /* the gate, while it looks at the layers */
	struct fuse_transport *transport;
	int stop_fd;
	pthread_t thread;
	bool is_running;
};

/* Does nothing if @core watches nothing. 0 or -errno. */
int watcher_start(struct watcher *watcher, struct core *core, struct fuse_transport *transport,
		  struct gate *gate);
/* While requests are still answered. */
void watcher_stop(struct watcher *watcher);

#endif
