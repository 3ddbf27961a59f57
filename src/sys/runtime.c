/* SPDX-License-Identifier: MIT */
/*
 * Sockets are reached through the descriptor of their directory: their paths
 * may be longer than sun_path, and what was checked is what is used.
 */
#include "sys/runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/file.h"

#define SYS_RUNTIME_NAME "veneer"
#define SYS_SOCKET_BACKLOG 32
/* Beside the name of a socket that is being made. */
#define SYS_SOCKET_NEW ".new"
#define SYS_SOCKET_NAME_MAX 64

/* Where the directory is; NULL: this user has no such place. */
static const char *sys_runtime_parent(unsigned int choice)
{
	const char *user = getenv("XDG_RUNTIME_DIR");

	if (choice == 0)
		return geteuid() == 0 ? "/run" : NULL;
	return user && *user == '/' ? user : NULL;
}

int sys_runtime_open(unsigned int choice, bool make)
{
	const char *path = sys_runtime_parent(choice);
	_cleanup_close_ int parent = -1, fd = -1;
	struct statx st;
	int r;

	if (!path)
		return -ENOENT;
	parent = sys_open_path(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return parent;
	r = make ? sys_mkdir(parent, SYS_RUNTIME_NAME, 0700) : 0;
	if (r < 0 && r != -EEXIST)
		return r;
	fd = sys_open(parent, SYS_RUNTIME_NAME, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = sys_stat(fd, "", &st);
	if (r < 0)
		return r;
	if (st.stx_uid != geteuid() || st.stx_mode & (S_IRWXG | S_IRWXO))
		return -EPERM;
	return fd_take(&fd);
}

static int sys_socket_address(int dirfd, const char *name, struct sockaddr_un *address)
{
	char directory[SYS_FD_PATH_MAX];
	int length;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	length = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s",
			  sys_fd_path(dirfd, directory), name);
	return length < (int)sizeof(address->sun_path) ? 0 : -ENAMETOOLONG;
}

/* Binds @fd to @name and makes it listen. */
static int sys_socket_bind(int fd, int dirfd, const char *name)
{
	struct sockaddr_un address;
	int r = sys_socket_address(dirfd, name, &address);

	/* The mode of the descriptor, less the umask, becomes that of the file. */
	if (r == 0)
		r = (int)sys_retry(fchmod(fd, S_IRUSR | S_IWUSR));
	if (r == 0)
		r = sys_unlink(dirfd, name);
	if (r == 0 || r == -ENOENT)
		r = (int)sys_retry(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return r < 0 ? r : (int)sys_retry(listen(fd, SYS_SOCKET_BACKLOG));
}

int sys_socket_listen(int dirfd, const char *name)
{
	_cleanup_close_ int fd =
		(int)sys_retry(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	char new[SYS_SOCKET_NAME_MAX];
	int r;

	if (fd < 0)
		return fd;
	if (snprintf(new, sizeof(new), "%s" SYS_SOCKET_NEW, name) >= (int)sizeof(new))
		return -ENAMETOOLONG;
	r = sys_socket_bind(fd, dirfd, new);
	/* Whoever connects finds the old one or the new one, which listens already. */
	if (r == 0)
		r = sys_rename(dirfd, new, dirfd, name, 0);
	if (r < 0)
		sys_unlink(dirfd, new);
	return r < 0 ? r : fd_take(&fd);
}

int sys_socket_connect(int dirfd, const char *name, unsigned int timeout_ms)
{
	const struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000L };
	_cleanup_close_ int fd = (int)sys_retry(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	struct sockaddr_un address;
	int r;

	if (fd < 0)
		return fd;
	r = sys_socket_address(dirfd, name, &address);
	if (r == 0)
		r = (int)sys_retry(
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	if (r == 0)
		r = (int)sys_retry(
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)));
	if (r == 0)
		r = (int)sys_retry(connect(fd, (struct sockaddr *)&address, sizeof(address)));
	return r < 0 ? r : fd_take(&fd);
}

int sys_socket_peer(int fd, uid_t *uid)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int r = (int)sys_retry(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size));

	if (r == 0)
		*uid = peer.uid;
	return r;
}
