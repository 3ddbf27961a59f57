/* SPDX-License-Identifier: MIT */
/*
 * Whether an upper is at rest, and keeping it so while it is changed.
 *
 * A daemon of veneer holds a lock on the upper and on the work directory. The kernel
 * has only a mark in memory, which nobody can ask for: its mounts are found in the
 * tables of all mount namespaces that can be seen.
 */
#ifndef VENEER_OFFLINE_HOLD_H
#define VENEER_OFFLINE_HOLD_H

#include "base/cleanup.h"
#include "base/strbuf.h"

struct hold {
	int upper, work; /* locked; owned */
};

#define HOLD_INIT ((struct hold){ -1, -1 })

/*
 * Locks both directories (@work may be NULL). 0, or -errno with a sentence in @why: -EBUSY somebody has
 * it mounted, or is changing it. hold_deinit() in any case.
 */
int hold_take(const char *upper, const char *work, struct hold *hold, struct strbuf *why);
/*
 * The same for a directory that is merged into, which need not be a layer: -EBUSY it is the upper of a
 * mount, or another command merges into it. A file system without locks has none.
 */
int hold_take_dest(const char *dest, struct hold *hold, struct strbuf *why);
void hold_deinit(struct hold *hold);

#define _cleanup_hold_ _cleanup_(hold_deinit)

#endif
