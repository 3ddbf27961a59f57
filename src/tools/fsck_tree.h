/* SPDX-License-Identifier: MIT */
/* Removing what a mount left in its work directory. */
#ifndef VENEER_TOOLS_FSCK_TREE_H
#define VENEER_TOOLS_FSCK_TREE_H

/*
 * Removes @name in @dirfd and all that is in it, of any depth. -EXDEV: something is mounted in it.
 */
int fsck_tree_remove(int dirfd, const char *name);

#endif
