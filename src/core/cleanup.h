/* SPDX-License-Identifier: MIT */
/* Removing whole trees from the work directory. */
#ifndef VENEER_CORE_CLEANUP_H
#define VENEER_CORE_CLEANUP_H

#include "core/internal.h"

/*
 * Removes @name in @dirfd, a directory of the work directory's file system, and all there is
 * below it: trees of any depth and size, with a bounded stack, memory and number of descriptors.
 * Never follows a symbolic link. -ENOENT: no such name; -EBUSY: a mount lies in the tree, what
 * it holds is not touched.
 */
int cleanup_remove_tree(struct core *core, int dirfd, const char *name);

#endif
