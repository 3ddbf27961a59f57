/* SPDX-License-Identifier: MIT */
#include "tools/run_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "sys/file.h"
#include "tools/run_space.h"

/* Each costs a mount. */
#define RUN_SOCKETS_MAX 64
#define RUN_SOCKETS_TABLE "/proc/net/unix"
/* __SO_ACCEPTCON of that table. */
#define RUN_SOCKET_LISTENS 0x10000u

/* "Num RefCount Protocol Flags Type St Inode Path"; false: not one that can be connected to by path. */
static bool run_socket_parse(char *line, char **path)
{
	unsigned int flags, type;
	char *at = strchr(line, '/');

	line[strcspn(line, "\n")] = '\0';
	if (!at || at == line || at[-1] != ' ' ||
	    sscanf(line, "%*[^:]: %*x %*x %x %x", &flags, &type) != 2 ||
	    (!(flags & RUN_SOCKET_LISTENS) && type != SOCK_DGRAM))
		return false;
	*path = at;
	return true;
}

static bool run_socket_is_wanted(const struct run_options *options, const char *path)
{
	_cleanup_free_ char *resolved = realpath(path, NULL);
	struct statx st;

	return resolved && !strcmp(resolved, path) && !run_space_is_real(path) &&
	       !run_paths_have(&options->real, path) && !run_paths_have(&options->hidden, path) &&
	       sys_stat(AT_FDCWD, path, &st) == 0 && S_ISSOCK(st.stx_mode);
}

int run_sockets_find(const struct run_options *options, struct run_paths *sockets)
{
	_cleanup_fclose_ FILE *file = fopen(RUN_SOCKETS_TABLE, "re");
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	int r = 0;

	/* Without the table there are no sockets, which is no reason not to run. */
	while (file && r == 0 && sockets->count < RUN_SOCKETS_MAX &&
	       getline(&line, &capacity, file) >= 0) {
		char *path;

		if (run_socket_parse(line, &path) && !run_paths_have(sockets, path) &&
		    run_socket_is_wanted(options, path))
			r = run_paths_add(sockets, path);
	}
	return r;
}
