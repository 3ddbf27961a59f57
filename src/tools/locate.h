/* SPDX-License-Identifier: MIT */
/* From what a user wrote to the layers meant: MOUNT, LAYER or NAME. */
#ifndef VENEER_TOOLS_LOCATE_H
#define VENEER_TOOLS_LOCATE_H

#include "base/strbuf.h"
#include "offline/target.h"
#include "tools/args.h"

/*
 * What @name means: a path in a live mount of veneer (its daemon is asked), a directory that
 * `veneer run` kept, the name of one in the state directory, or any directory as an upper, which
 * @args describes. 0 with *@target, or -errno with a sentence for the user in @why.
 * target_deinit() in any case.
 */
int locate_target(const char *name, const struct args_target *args, struct target *target,
		  struct strbuf *why);

/*
 * The state directory, where layers that have only a name are kept: /var/lib/veneer of root,
 * $XDG_STATE_HOME/veneer or ~/.local/state/veneer of others. Appends it; -ENOENT: HOME is not set.
 */
int locate_state(struct strbuf *path);

#endif
