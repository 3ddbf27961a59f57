/* SPDX-License-Identifier: MIT */
/* Taking names away: what removing and renaming over a name have in common. */
#ifndef VENEER_CORE_REMOVE_H
#define VENEER_CORE_REMOVE_H

#include "core/create.h"

/*
 * @node is about to lose its name @target->name: if that is the only one known, what is needed
 * to reach it afterwards is kept. 0 or -errno (then nothing may be removed).
 */
int remove_keep(struct core *core, struct node *node, const struct target *target);
/* After remove_keep(), when the name stays. */
void remove_unkeep(struct core *core, struct node *node, const struct target *target);
/* The two parts of that which core/renew.c does apart: the lower part will be reached by the name
 * it has now. */
int remove_keep_lower(struct core *core, struct node *node, const char *name);
/* A directory can be somebody's working directory: its descriptor stays, while there are few. */
int remove_keep_dir(struct core *core, struct node_dir *dir);
void remove_unkeep_dir(struct core *core, struct node_dir *dir);
/* The name leads to the node no more, which may have been the last one. */
void remove_forget_name(struct core *core, struct node *node, struct node *dir, const char *name);
/* The name is gone on disk: forgets it. */
void remove_settle(struct core *core, struct node *node, const struct target *target);
/*
 * Makes the empty directory @node, named by @target, which is to be renamed over, one that can be:
 * if it is merged, so may hold whiteouts, or if it has to stay on disk, it is replaced by an empty
 * copy in one step, then *@cleared is true. Its lock is held for writing.
 */
int remove_clear_dir(struct core *core, struct node *node, const struct target *target,
		     bool *cleared);
/*
 * After remove_clear_dir(), when the rename failed: the node's directory is the empty one now.
 * Its lock is held for writing.
 */
void remove_adopt_cleared(struct core *core, struct node *node, const struct target *target);

#endif
