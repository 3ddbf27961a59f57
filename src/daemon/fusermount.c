/* SPDX-License-Identifier: MIT */
/*
 * fusermount3, the set-uid helper of package fuse3: it checks that the user
 * may mount there and sends the mounted device back through a socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "daemon/mount.h"

#define FUSERMOUNT "fusermount3"
#define FUSERMOUNT_FD_VARIABLE "_FUSE_COMMFD"

/* Our environment and one variable more. Freed by the caller; the strings are borrowed. */
static char **fusermount_environ(char *variable)
{
	size_t count = 0;
	char **all;

	while (environ[count])
		count++;
	all = calloc(count + 2, sizeof(*all));
	if (!all)
		return NULL;
	memcpy(all, environ, count * sizeof(*all));
	all[count] = variable;
	return all;
}

/* Runs it with @socket (or -1) open as it is. Its exit status, or -errno if it cannot be run. */
static int fusermount_run(char *const argv[], int socket)
{
	char variable[sizeof(FUSERMOUNT_FD_VARIABLE) + 16];
	_cleanup_free_ char **all = NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t no_signals;
	int status, r;
	pid_t pid;

	snprintf(variable, sizeof(variable), FUSERMOUNT_FD_VARIABLE "=%d", socket);
	all = fusermount_environ(variable);
	if (!all)
		return -ENOMEM;
	sigemptyset(&no_signals);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	/* Ours are blocked for the sake of signalfd. */
	posix_spawnattr_setsigmask(&attr, &no_signals);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	if (socket >= 0) /* onto itself: only takes close-on-exec off, in the child */
		posix_spawn_file_actions_adddup2(&actions, socket, socket);
	r = -posix_spawnp(&pid, FUSERMOUNT, &actions, &attr, argv, all);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* The descriptor that comes through @socket, or -errno (-EIO: none came). */
static int fusermount_receive(int socket)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *header;
	ssize_t size;
	int fd;

	do
		size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return -errno;
	header = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
	    header->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EIO;
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

int fusermount_attach(const char *target, const char *options, int *fdp, struct strbuf *why)
{
	char *const argv[] = { (char *)FUSERMOUNT, (char *)"-o",   (char *)options,
			       (char *)"--",	   (char *)target, NULL };
	int sockets[2], status, fd;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	status = fusermount_run(argv, sockets[0]);
	close(sockets[0]);
	/* It has ended, so what it sent is there already. */
	fd = status == 0 ? fusermount_receive(sockets[1]) : -EIO;
	close(sockets[1]);
	if (status == -ENOENT) {
		strbuf_append_string(why, "an ordinary user needs the program " FUSERMOUNT
					  " (package fuse3), which is not installed");
		return -ENOENT;
	}
	if (status < 0) {
		strbuf_append_format(why, "running " FUSERMOUNT ": %s", strerror(-status));
		return status;
	}
	if (fd < 0) {
		strbuf_append_format(
			why, FUSERMOUNT " does not mount at %s (what it said is above)", target);
		return -EPERM;
	}
	*fdp = fd;
	return 0;
}

int fusermount_detach(const char *target, bool detach)
{
	char *const gently[] = { (char *)FUSERMOUNT, (char *)"-u",   (char *)"-q",
				 (char *)"--",	     (char *)target, NULL };
	char *const lazily[] = { (char *)FUSERMOUNT, (char *)"-u",   (char *)"-z", (char *)"-q",
				 (char *)"--",	     (char *)target, NULL };
	int status = fusermount_run(detach ? lazily : gently, -1);

	if (status < 0)
		return status;
	return status == 0 ? 0 : -EBUSY;
}
