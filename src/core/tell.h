/* SPDX-License-Identifier: MIT */
/* Names that the kernel may remember as absent, though they are there by now. */
#ifndef VENEER_CORE_TELL_H
#define VENEER_CORE_TELL_H

#include "core/internal.h"

/*
 * Tells @watcher of all names that the parts of the directory @node have: the kernel has no way to
 * forget those of one directory alone, and forgetting all of a union takes away what is mounted in
 * it. No call waits for this, and it waits for the kernel, which may wait for one: no lock is held,
 * and nothing is entered, while it is told.
 */
void tell_names(struct core *core, struct node *node, const struct core_watcher *watcher);

#endif
