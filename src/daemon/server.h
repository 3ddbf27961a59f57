/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a live mount, served by the main thread between its
 * other events: nothing here blocks, and without a client nothing wakes it.
 *
 * Only the mount's owner gets in: the directory is the owner's alone, so is
 * the socket, and who connected is asked of the kernel.
 */
#ifndef VENEER_DAEMON_SERVER_H
#define VENEER_DAEMON_SERVER_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/control.h"
#include "base/strbuf.h"
#include "daemon/errand.h"

/* More wait until one of these has its answer. */
#define SERVER_CLIENTS 4
/* How long one may take to ask, and again to read the answer. */
#define SERVER_PATIENCE_MS 2000

enum server_stage {
	SERVER_READS, /* the client is asking */
	SERVER_WAITS, /* an errand is at it */
	SERVER_WRITES,
	SERVER_HOLDS, /* the answer said that the client may take its time */
};

struct server_client {
	int fd; /* -1: nobody */
	enum server_stage stage;
	struct timespec deadline; /* where the client is waited for: SERVER_READS, SERVER_WRITES */
	struct strbuf request; /* owned; what there is of it */
	struct errand *errand; /* or NULL */
	struct strbuf answer; /* owned */
	bool holds; /* after this answer */
	size_t sent;
};

struct server {
	int poll_fd; /* an epoll descriptor, readable when there is something to do; -1: closed */
	int listen_fd, dir_fd;
	char name[CONTROL_NAME_MAX]; /* of the socket in dir_fd */
	uint64_t ino; /* of the socket: what is removed must be ours */
	struct server_client clients[SERVER_CLIENTS];
	/* The answer to one line, or the errand that brings it; main thread. */
	struct errand *(*answer)(void *context, char *request, struct strbuf *answer);
	void *context;
};

/* A closed one. */
void server_init(struct server *server,
		 struct errand *(*answer)(void *context, char *request, struct strbuf *answer),
		 void *context);
/* The socket of the mount with device number @dev. 0, or -errno: there will be none. */
int server_open(struct server *server, dev_t dev);
/* Takes the socket away; clients are cut off. Also of a closed one. */
void server_close(struct server *server);
/* Does what there is to do, fetches what errands bring, and drops those who are late. */
void server_serve(struct server *server);
/* When server_serve() must be called at the latest, -1: when poll_fd says so. */
int server_timeout_ms(const struct server *server);

#endif
