/* SPDX-License-Identifier: MIT */
/*
 * Owners that a user namespace has no ids for, as one has that an ordinary user
 * makes: all but the user show as one and the same there, nothing can be given
 * to them, and the kernel lets nobody change what belongs to them.
 *
 * So a copy in the upper is the user's own, and the attribute `veneer.owner`
 * (docs/format.md) says so; and what the user may change though it is another's
 * shows as the user's own, in a lower as well.
 */
#ifndef VENEER_CORE_OWNER_H
#define VENEER_CORE_OWNER_H

#include "core/clone.h"
#include "core/internal.h"

/* Finds out whether there are such owners. */
void owner_init(struct core *core);
/*
 * Changes the owner in @st, of the topmost object of @node, to the one that is shown. May take the
 * locks that place_hold() does.
 */
void owner_present(struct core *core, struct node *node, struct statx *st);
/* Gives the new object clone->to, which has the attributes @made, the owner of what it is a copy of. */
int owner_clone(const struct clone_attr *clone, const struct statx *made);

#endif
