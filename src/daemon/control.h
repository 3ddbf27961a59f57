/* SPDX-License-Identifier: MIT */
/*
 * What the main thread waits for while the others serve: signals, and word
 * from those others.
 */
#ifndef VENEER_DAEMON_CONTROL_H
#define VENEER_DAEMON_CONTROL_H

#include <stdatomic.h>

enum control_event {
	CONTROL_READY = 1 << 0, /* INIT was answered; or not, see ready_error */
	CONTROL_ENDED = 1 << 1, /* the connection is gone, see ended_error */
	CONTROL_BUSY = 1 << 2, /* there will be memory to give back */
	CONTROL_SIGNAL = 1 << 3, /* SIGTERM, SIGINT or SIGHUP came */
	CONTROL_CLIENT = 1 << 4, /* client_fd is readable */
	CONTROL_ERRAND = 1 << 6, /* daemon/errand.h: there is an answer to fetch */
	CONTROL_CROWDED = 1 << 5, /* there are more nodes than max_nodes */
};

struct control {
	int signal_fd, event_fd;
	int client_fd; /* borrowed, of daemon/server.h; -1: there is none */
	atomic_uint events;
	atomic_int ready_error, ended_error;
};

/* Blocks the signals; before any other thread starts. 0 or -errno. */
int control_init(struct control *control);
void control_deinit(struct control *control);
/* From any thread. */
void control_post(struct control *control, enum control_event event);
/* The events that came (CONTROL_*), after at most @timeout_ms (-1: none passes); 0 then. */
unsigned int control_wait(struct control *control, int timeout_ms);

#endif
