/* SPDX-License-Identifier: MIT */
/*
 * A unix socket is found by its inode, and that of the union's file is another
 * than that of the file below: so nobody is reached through the union.  Sockets
 * that somebody can be reached at are bound into it.
 */
#ifndef VENEER_TOOLS_RUN_SOCKETS_H
#define VENEER_TOOLS_RUN_SOCKETS_H

#include "tools/run.h"

/*
 * Unix sockets at which programs outside listen or take datagrams, and that lie in directories of the
 * union. 0 or -errno.
 */
int run_sockets_find(const struct run_options *options, struct run_paths *sockets);

#endif
