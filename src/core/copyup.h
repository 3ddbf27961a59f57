/* SPDX-License-Identifier: MIT */
/*
 * Copy-up: bringing an object from a lower into the upper, once, atomically,
 * parents first (docs/format.md "Copy-up", docs/crash.md).
 *
 * While a node is copied its flag NODE_COPYING is set and no lock is held;
 * others who need it wait on the node, everyone else goes on.  So nobody may
 * call these functions with a directory lock held.
 */
#ifndef VENEER_CORE_COPYUP_H
#define VENEER_CORE_COPYUP_H

#include "core/internal.h"

enum copyup_what {
	COPYUP_META, /* the object exists in the upper */
	COPYUP_DATA, /* and a regular file's data lies there */
};

/*
 * Makes sure of @what for @node and its parents. Waits for a copy by another thread.
 * -EROFS: nothing can be written; -EINTR: @call was interrupted; -ENOSPC, -EDQUOT, ...: the
 * union is as it was before.
 */
int copyup_node(struct core *core, const struct core_call *call, struct node *node,
		enum copyup_what what);
/* As COPYUP_DATA for a regular file that is about to be truncated: no byte beyond @size is copied. */
int copyup_truncated(struct core *core, const struct core_call *call, struct node *node,
		     uint64_t size);
/*
 * Marks the directory's upper as holding objects whose inode number comes from elsewhere.
 * It must be in the upper; its lock is held for writing.
 */
int copyup_mark_impure(struct core *core, struct node *dir);

#endif
