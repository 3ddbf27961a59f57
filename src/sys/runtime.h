/* SPDX-License-Identifier: MIT */
/* A user's own directory for sockets, and unix sockets in a directory one has open. */
#ifndef VENEER_SYS_RUNTIME_H
#define VENEER_SYS_RUNTIME_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Opens (O_PATH) the directory of this user's sockets; with @make it is made if need be. There are
 * two places: /run/veneer of root, $XDG_RUNTIME_DIR/veneer of everyone. @choice is 0 or 1.
 * Returns the descriptor; -ENOENT: there is no such place for this user; -EPERM: it is someone
 * else's, or others may enter; -EACCES, -EROFS, ...: it cannot be made.
 */
#define SYS_RUNTIME_CHOICES 2
int sys_runtime_open(unsigned int choice, bool make);

/*
 * A unix stream socket that listens at @name in @dirfd, in place of whatever had that name, with
 * mode 0600. Non-blocking, close-on-exec. Returns its descriptor.
 */
int sys_socket_listen(int dirfd, const char *name);
/* A connection to it, which waits at most @timeout_ms for each read and write. -ENOENT: there is
 * none, -ECONNREFUSED: nobody listens any more. */
int sys_socket_connect(int dirfd, const char *name, unsigned int timeout_ms);
/* Whose process the other end was when it connected. 0 or -errno. */
int sys_socket_peer(int fd, uid_t *uid);

#endif
