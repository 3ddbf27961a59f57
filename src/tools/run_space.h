/* SPDX-License-Identifier: MIT */
/* What the command sees: the union as the whole tree, and in it what is real. */
#ifndef VENEER_TOOLS_RUN_SPACE_H
#define VENEER_TOOLS_RUN_SPACE_H

#include "tools/run.h"

/* Unix sockets that programs outside listen at, and that lie in directories of the union. 0 or -errno. */
int run_space_find_sockets(const struct run_options *options, struct run_paths *sockets);

/*
 * In the process that becomes the command: enters the union, which is mounted at @point, in a mount
 * namespace of its own. 0, or -errno with a sentence in @why.
 */
int run_space_enter(const struct run_plan *plan, const char *point, struct strbuf *why);

#endif
