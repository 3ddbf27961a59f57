/* SPDX-License-Identifier: MIT */
#include "daemon/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "sys/file.h"
#include "sys/runtime.h"

#define SERVER_CHUNK 4096

void server_init(struct server *server,
		 struct errand *(*answer)(void *context, char *request, struct strbuf *answer),
		 void *context)
{
	*server = (struct server){
		.poll_fd = -1,
		.listen_fd = -1,
		.dir_fd = -1,
		.answer = answer,
		.context = context,
	};
	for (int i = 0; i < SERVER_CLIENTS; i++)
		server->clients[i].fd = -1;
}

/* ---- the socket ---- */

static int server_open_directory(void)
{
	int r = -ENOENT;

	for (unsigned int i = 0; i < SYS_RUNTIME_CHOICES; i++) {
		r = sys_runtime_open(i, true);
		if (r >= 0)
			break;
	}
	return r;
}

/* epoll's word to @op about @fd, told as @data. */
static int server_watch(const struct server *server, int op, int fd, uint32_t events, void *data)
{
	struct epoll_event event = { .events = events, .data.ptr = data };

	return epoll_ctl(server->poll_fd, op, fd, &event) < 0 ? -errno : 0;
}

static int server_listen(struct server *server, dev_t dev)
{
	struct statx st;
	int r = server->dir_fd = server_open_directory();

	if (r >= 0)
		r = server->listen_fd =
			sys_socket_listen(server->dir_fd, control_name(dev, server->name));
	if (r >= 0)
		r = sys_stat(server->dir_fd, server->name, &st);
	if (r == 0)
		server->ino = st.stx_ino;
	return r;
}

int server_open(struct server *server, dev_t dev)
{
	int r = server_listen(server, dev);

	if (r == 0) {
		server->poll_fd = epoll_create1(EPOLL_CLOEXEC);
		r = server->poll_fd < 0 ? -errno : 0;
	}
	if (r == 0)
		r = server_watch(server, EPOLL_CTL_ADD, server->listen_fd, EPOLLIN, NULL);
	if (r < 0)
		server_close(server);
	return r;
}

/* A device number comes again: the name may be that of a newer mount's socket by now. */
static void server_remove_socket(const struct server *server)
{
	struct statx st;

	if (sys_stat(server->dir_fd, server->name, &st) == 0 && st.stx_ino == server->ino)
		sys_unlink(server->dir_fd, server->name);
}

/* ---- clients ---- */

static bool server_is_full(const struct server *server)
{
	for (int i = 0; i < SERVER_CLIENTS; i++)
		if (server->clients[i].fd < 0)
			return false;
	return true;
}

/* While there is no room, nobody is let in, and nobody wakes us who waits. */
static void server_watch_door(const struct server *server)
{
	server_watch(server, EPOLL_CTL_MOD, server->listen_fd, server_is_full(server) ? 0 : EPOLLIN,
		     NULL);
}

static void server_drop(struct server *server, struct server_client *client)
{
	/* Which also takes it out of the poll set: nobody else has the descriptor. */
	close(fd_take(&client->fd));
	if (client->errand)
		client->errand = errand_leave(client->errand);
	strbuf_deinit(&client->request);
	strbuf_deinit(&client->answer);
	server_watch_door(server);
}

void server_close(struct server *server)
{
	for (int i = 0; i < SERVER_CLIENTS; i++)
		if (server->clients[i].fd >= 0)
			server_drop(server, &server->clients[i]);
	if (server->listen_fd >= 0)
		server_remove_socket(server);
	cleanup_close(&server->listen_fd);
	cleanup_close(&server->dir_fd);
	cleanup_close(&server->poll_fd);
	server->listen_fd = server->dir_fd = server->poll_fd = -1;
}

static bool server_may_enter(int fd)
{
	uid_t uid;
	int r = sys_socket_peer(fd, &uid);

	if (r == 0 && uid == geteuid())
		return true;
	log_warning_limited("control socket: a stranger was refused");
	return false;
}

static void server_begin_stage(struct server_client *client, enum server_stage stage)
{
	client->stage = stage;
	clock_gettime(CLOCK_MONOTONIC, &client->deadline);
	client->deadline.tv_sec += SERVER_PATIENCE_MS / 1000;
}

static void server_let_in(struct server *server)
{
	_cleanup_close_ int fd =
		accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct server_client *client = server->clients;

	if (fd < 0 || !server_may_enter(fd) || server_is_full(server))
		return;
	while (client->fd >= 0)
		client++;
	if (server_watch(server, EPOLL_CTL_ADD, fd, EPOLLIN, client) < 0)
		return;
	*client = (struct server_client){ .fd = fd_take(&fd) };
	server_begin_stage(client, SERVER_READS);
	server_watch_door(server);
}

/* Reads what there is of the request. 1: it is complete; 0: not yet; -errno: drop the client. */
static int server_read(struct server_client *client)
{
	struct strbuf *request = &client->request;
	char chunk[SERVER_CHUNK], *end;
	ssize_t size = recv(client->fd, chunk, sizeof(chunk), 0);

	if (size < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (size == 0)
		return -ECONNRESET;
	strbuf_append(request, chunk, (size_t)size);
	if (request->failed)
		return -ENOMEM;
	end = memchr(request->data + request->length - size, '\n', (size_t)size);
	if (end)
		*end = '\0';
	else if (request->length >= CONTROL_REQUEST_MAX)
		return -EMSGSIZE;
	return end ? 1 : 0;
}

/* Sends what the socket takes. 1: all is sent; 0: not yet; -errno. */
static int server_write(struct server_client *client)
{
	ssize_t size = send(client->fd, client->answer.data + client->sent,
			    client->answer.length - client->sent, MSG_NOSIGNAL);

	if (size < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	client->sent += (size_t)size;
	return client->sent == client->answer.length;
}

/* The answer has begun to be sent. 0: it needs more time; else the client is to be dropped. */
static int server_attend_writing(struct server *server, struct server_client *client)
{
	int r = server_write(client);

	/* From now on only room to send is of interest. */
	if (r == 0)
		return server_watch(server, EPOLL_CTL_MOD, client->fd, EPOLLOUT, client);
	if (r < 0 || !client->holds)
		return r;
	strbuf_deinit(&client->request);
	strbuf_deinit(&client->answer);
	client->sent = 0;
	server_begin_stage(client, SERVER_HOLDS);
	return server_watch(server, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
}

static int server_begin_writing(struct server *server, struct server_client *client)
{
	if (client->answer.failed || client->answer.length == 0)
		return -ENOMEM;
	server_begin_stage(client, SERVER_WRITES);
	return server_attend_writing(server, client);
}

/* While an errand is at it, only that the client is gone is of interest: that is always told. */
static int server_begin_waiting(struct server *server, struct server_client *client)
{
	server_begin_stage(client, SERVER_WAITS);
	return server_watch(server, EPOLL_CTL_MOD, client->fd, 0, client);
}

static int server_attend_reading(struct server *server, struct server_client *client)
{
	int r = server_read(client);

	if (r <= 0)
		return r;
	client->errand = server->answer(server->context, client->request.data, &client->answer);
	return client->errand ? server_begin_waiting(server, client) :
				server_begin_writing(server, client);
}

/* It says that it has had its time, or hangs up, which says so too. */
static int server_attend_holding(struct server *server, struct server_client *client)
{
	int r = server_read(client);

	if (r <= 0)
		return r;
	if (strcmp(client->request.data, CONTROL_REQUEST_RESUME) != 0)
		return -EINVAL;
	errand_go_on(client->errand);
	return server_begin_waiting(server, client);
}

/* 0: it needs more time; else it is to be dropped. */
static int server_attend(struct server *server, struct server_client *client)
{
	switch (client->stage) {
	case SERVER_READS:
		return server_attend_reading(server, client);
	case SERVER_WRITES:
		return server_attend_writing(server, client);
	case SERVER_HOLDS:
		return server_attend_holding(server, client);
	case SERVER_WAITS:
		break;
	}
	return -ECONNRESET;
}

/* What its errand has brought by now. As server_attend(). */
static int server_fetch(struct server *server, struct server_client *client)
{
	enum errand_state state = errand_fetch(client->errand, &client->answer);

	if (state == ERRAND_WORKS)
		return 0;
	client->holds = state == ERRAND_HOLDS;
	if (state == ERRAND_ENDS)
		client->errand = errand_leave(client->errand);
	return server_begin_writing(server, client);
}

/* ---- time ---- */

/* Milliseconds until the client is late, at least 0; -1: never. */
static int server_remaining_ms(const struct server_client *client)
{
	struct timespec now;
	long ms;

	if (client->fd < 0 || client->stage == SERVER_WAITS || client->stage == SERVER_HOLDS)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (client->deadline.tv_sec - now.tv_sec) * 1000 +
	     (client->deadline.tv_nsec - now.tv_nsec) / 1000000;
	return ms > 0 ? (int)ms : 0;
}

int server_timeout_ms(const struct server *server)
{
	int timeout = -1;

	for (int i = 0; i < SERVER_CLIENTS; i++) {
		int ms = server_remaining_ms(&server->clients[i]);

		if (ms >= 0)
			timeout = timeout < 0 ? ms : MIN(timeout, ms);
	}
	return timeout;
}

void server_serve(struct server *server)
{
	struct epoll_event events[SERVER_CLIENTS + 1];
	int count = server->poll_fd < 0 ?
			    0 :
			    epoll_wait(server->poll_fd, events, SERVER_CLIENTS + 1, 0);

	for (int i = 0; i < count; i++) {
		struct server_client *client = events[i].data.ptr;

		if (!client)
			server_let_in(server);
		else if (server_attend(server, client) != 0)
			server_drop(server, client);
	}
	for (int i = 0; i < SERVER_CLIENTS; i++) {
		struct server_client *client = &server->clients[i];
		bool waits = client->fd >= 0 && client->stage == SERVER_WAITS;

		if ((waits && server_fetch(server, client) != 0) ||
		    server_remaining_ms(client) == 0)
			server_drop(server, client);
	}
}
