/* SPDX-License-Identifier: MIT */
/* What the command sees: the union as the whole tree, and in it what is real. */
#ifndef VENEER_TOOLS_RUN_SPACE_H
#define VENEER_TOOLS_RUN_SPACE_H

#include "tools/run.h"

/* Sources of the mounts that hide: what else, and the layer of the run. */
#define RUN_SPACE_HIDDEN "veneer-hidden"
#define RUN_SPACE_LAYER "veneer-layer"
/* And of the union itself. */
#define RUN_SPACE_UNION "veneer-run"

/* True for what is the machine's, and never in the union. */
bool run_space_is_real(const char *path);

/*
 * Before the union is mounted, in a mount namespace of our own: mounts over what is to be hidden and
 * whose file system is gone. 0, or -errno with a sentence in @why.
 */
int run_space_bury(const struct run_plan *plan, struct strbuf *why);

/*
 * In the process that becomes the command: enters the union, which is mounted at @point, in a mount
 * namespace of its own. @inner_fd: a mount for the state directory; -1: there is none. 0, or -errno with
 * a sentence in @why.
 */
int run_space_enter(const struct run_plan *plan, const char *point, int inner_fd,
		    struct strbuf *why);

#endif
