/* SPDX-License-Identifier: MIT */
/*
 * What an object needs so that it stays the same object at another place: a
 * redirect to its lower parts, or an opaque mark against what lowers have there.
 */
#ifndef VENEER_CORE_RELOCATE_H
#define VENEER_CORE_RELOCATE_H

#include "core/internal.h"

/* True if lower parts are found by the object's name, so that moving it takes a redirect. */
bool relocate_needs_redirect(const struct node *node);

/* The name that a redirect is made from. */
struct relocate_name {
	struct node *dir; /* borrowed; NULL: the node's first name */
	const char *name;
	bool same_dir; /* it will stay in @dir, and has no names elsewhere */
};

/*
 * Writes the redirect of @node, an object in the upper (@fd, O_PATH) that will be moved or get
 * another name. The rename lock is held. -EXDEV: it cannot be written (too long, no attributes).
 */
int relocate_set_redirect(struct core *core, struct node *node, int fd,
			  const struct relocate_name *by);
/* Marks the directory @fd opaque; its own lock is not needed, its parent's is held. -EXDEV: no
 * attributes. */
int relocate_set_opaque(struct core *core, struct node *node, int fd);

#endif
