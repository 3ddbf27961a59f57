/* SPDX-License-Identifier: MIT */
/*
 * Owners that a copy cannot be given: an ordinary user cannot give files away,
 * and a user namespace may have no id for the owner, as one that an ordinary
 * user makes: all but the user show as one and the same there, nothing can be
 * given to them, and the kernel lets nobody change what belongs to them.
 *
 * So a copy in the upper is the user's own, and the attribute `veneer.owner`
 * (docs/format.md) says so; what it says is shown until the owner is changed
 * through the mount, so that nobody may do more because of a copy-up.  In a
 * namespace with the user's id alone, what the user may change though it is
 * another's shows as the user's own, in a lower as well.
 *
 * Only mounts that may not give files away believe the attribute: it is a
 * user's to write.
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
/*
 * Gives the new object clone->to the owner of what it is a copy of, or the attribute; and finds
 * clone->mode and is_lost. 0 or -errno: -EOVERFLOW if neither can be had.
 */
int owner_clone(struct clone_attr *clone);
/* Makes the node know whether its object @name in @dirfd, in the upper, has the attribute. */
void owner_note(struct core *core, struct node *node, int dirfd, const char *name);
/* The permissions that the object @fd of the node, in the upper, can have of @mode. */
mode_t owner_fit_mode(struct core *core, struct node *node, int fd, mode_t mode);
/* The real owner of @fd was set, or that part of it: it counts from now on. 0 or -errno. */
int owner_changed(struct core *core, struct node *node, int fd, bool uid, bool gid);

#endif
