/* SPDX-License-Identifier: MIT */
#include "tools/ask.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "sys/runtime.h"

#define ASK_TIMEOUT_MS 5000
#define ASK_CHUNK 4096

static int ask_connect(dev_t dev)
{
	char name[CONTROL_NAME_MAX];
	int r = -ENOENT;

	control_name(dev, name);
	for (unsigned int i = 0; i < SYS_RUNTIME_CHOICES; i++) {
		_cleanup_close_ int dir = sys_runtime_open(i, false);
		int socket = dir < 0 ? dir : sys_socket_connect(dir, name, ASK_TIMEOUT_MS);

		if (socket >= 0)
			return socket;
		/* What is found but does not work says more than what is not there. */
		if (socket != -ENOENT)
			r = socket;
	}
	return r;
}

/* All of @size bytes. MSG_NOSIGNAL: a daemon that hangs up is an error, not our end. */
static int ask_send(int socket, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t sent = send(socket, data, size, MSG_NOSIGNAL);

		if (sent < 0 && errno != EINTR)
			return -errno;
		if (sent > 0) {
			data += sent;
			size -= (size_t)sent;
		}
	}
	return 0;
}

static int ask_receive(int socket, struct strbuf *answer)
{
	char chunk[ASK_CHUNK];
	ssize_t size;

	do {
		size = recv(socket, chunk, sizeof(chunk), 0);
		if (size < 0 && errno != EINTR)
			return -errno;
		if (size > 0)
			strbuf_append(answer, chunk, (size_t)size);
	} while (size != 0);
	if (answer->failed)
		return -ENOMEM;
	return answer->length > 0 ? 0 : -ECONNRESET;
}

int ask_daemon(dev_t dev, const char *request, struct strbuf *answer)
{
	_cleanup_close_ int socket = ask_connect(dev);
	int r = socket < 0 ? socket : 0;

	if (r == 0)
		r = ask_send(socket, request, strlen(request));
	if (r == 0)
		r = ask_send(socket, "\n", 1);
	/* EPIPE: it hung up before it read the question, perhaps after it answered. */
	return r < 0 && r != -EPIPE ? r : ask_receive(socket, answer);
}
