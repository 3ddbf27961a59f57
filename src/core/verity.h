/* SPDX-License-Identifier: MIT */
/*
 * fs-verity digests of metacopy files (docs/format.md "Metacopy"): a metacopy file may say what
 * its data, which lies elsewhere, has to be.  The rules are the kernel's (verity= of overlayfs).
 */
#ifndef VENEER_CORE_VERITY_H
#define VENEER_CORE_VERITY_H

#include "core/node.h"
#include "format/metacopy.h"

/*
 * Keeps a copy of the digest of what is about to be @node's topmost object, for verity_check();
 * nothing if it has none, or if nobody will ask. 0 or -ENOMEM. *@digestp is the caller's.
 */
int verity_copy_digest(const struct core *core, const struct metacopy *metacopy,
		       struct metacopy **digestp);
/* True if opening @node must look at its data. */
bool verity_must_check(const struct core *core, const struct node *node);
/*
 * Whether @fd, the data file of the metacopy file @node, is what the digest says. 0, or -EIO: it
 * is another one, has no digest itself, or @node has none although one is required.
 */
int verity_check(struct core *core, struct node *node, int fd);
/*
 * The digest that a metacopy file with @fd as its data is to have. @metacopy without digest:
 * nothing is to be checked, or the file has none. -ENODATA: it has none and one is required.
 */
int verity_measure(const struct core *core, int fd, struct metacopy *metacopy);

#endif
