/* SPDX-License-Identifier: MIT */
#include "tools/ask.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* One piece of the answer. 0: there is no more; -EAGAIN: not yet. */
static ssize_t ask_receive_some(int socket, struct strbuf *answer)
{
	char chunk[ASK_CHUNK];
	ssize_t size;

retry:
	size = recv(socket, chunk, sizeof(chunk), 0);
	if (size < 0 && errno == EINTR)
		goto retry;
	if (size < 0)
		return -errno;
	strbuf_append(answer, chunk, (size_t)size);
	return answer->failed ? -ENOMEM : size;
}

/* All of it. */
static int ask_receive(int socket, struct strbuf *answer)
{
	size_t before = answer->length;
	ssize_t size;

	do
		size = ask_receive_some(socket, answer);
	while (size > 0);
	if (size < 0)
		return (int)size;
	return answer->length > before ? 0 : -ECONNRESET;
}

static int ask_send_line(int socket, const char *request)
{
	int r = ask_send(socket, request, strlen(request));

	return r == 0 ? ask_send(socket, "\n", 1) : r;
}

int ask_daemon(dev_t dev, const char *request, struct strbuf *answer)
{
	_cleanup_close_ int socket = ask_connect(dev);
	int r = socket < 0 ? socket : ask_send_line(socket, request);

	/* EPIPE: it hung up before it read the question, perhaps after it answered. */
	return r < 0 && r != -EPIPE ? r : ask_receive(socket, answer);
}

void ask_add_word(struct strbuf *request, const char *word)
{
	strbuf_append_string(request, " ");
	control_escape(request, word);
}

void ask_explain(uid_t owner, int error, struct strbuf *why)
{
	if (owner != geteuid())
		strbuf_append_format(
			why, "this mount belongs to user %u: only that user may ask it", owner);
	else if (error == -ENOENT)
		strbuf_append_string(why, "this mount has no control socket: its daemon found no "
					  "runtime directory (is XDG_RUNTIME_DIR set, and the same "
					  "as when it was mounted?)");
	else if (error == -ECONNREFUSED)
		strbuf_append_format(why,
				     "the daemon of this mount is gone: unmount it (%s) and mount "
				     "it again",
				     geteuid() == 0 ? "umount" : "fusermount3 -u");
	else if (error == -EAGAIN)
		strbuf_append_string(why, "the daemon of this mount does not answer; it may be "
					  "stopped, or be busy with others: try again");
	else if (error == -EPERM)
		strbuf_append_string(why, "the directory of the control sockets is someone "
					  "else's, or open to others: its mode must be 0700");
	else
		strbuf_append_format(why, "the daemon of this mount cannot be asked: %s",
				     strerror(-error));
}

/* ---- verdicts ---- */

/* A line of answer: "ok", or "no" and the reason. */
static int ask_receive_verdict(int socket, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf line = STRBUF_INIT;
	ssize_t size;

	do
		size = ask_receive_some(socket, &line);
	while ((size > 0 && line.data[line.length - 1] != '\n') || size == -EAGAIN);
	if (size < 0)
		return (int)size;
	if (size == 0)
		return -ECONNRESET;
	line.data[line.length - 1] = '\0';
	if (!strcmp(line.data, CONTROL_VERDICT_OK))
		return 0;
	if (!strncmp(line.data, CONTROL_VERDICT_NO, strlen(CONTROL_VERDICT_NO)))
		strbuf_append_string(why, line.data + strlen(CONTROL_VERDICT_NO));
	else /* of a daemon that does not know the request */
		strbuf_append_string(why, "the daemon of this mount is of another version of "
					  "veneer: use the command it was mounted with");
	return -EBUSY;
}

int ask_verdict(dev_t dev, const char *request, struct strbuf *why)
{
	_cleanup_close_ int socket = ask_connect(dev);
	int r = socket < 0 ? socket : ask_send_line(socket, request);

	return r < 0 ? r : ask_receive_verdict(socket, why);
}

/* ---- a mount that stands still ---- */

int ask_hold(dev_t dev, struct ask_hold *hold, struct strbuf *why)
{
	_cleanup_close_ int socket = ask_connect(dev);
	int r = socket < 0 ? socket : ask_send_line(socket, CONTROL_REQUEST_SUSPEND);

	if (r == 0)
		r = ask_receive_verdict(socket, why);
	if (r == 0)
		hold->socket = fd_take(&socket);
	return r;
}

int ask_release(struct ask_hold *hold, struct strbuf *why)
{
	int r = ask_send_line(hold->socket, CONTROL_REQUEST_RESUME);

	if (r == 0)
		r = ask_receive_verdict(hold->socket, why);
	ask_hold_deinit(hold);
	return r;
}

void ask_hold_deinit(struct ask_hold *hold)
{
	cleanup_close(&hold->socket);
	hold->socket = -1;
}
