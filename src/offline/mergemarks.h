/* SPDX-License-Identifier: MIT */
/* What the result of a merge must say of the layers below it. */
#ifndef VENEER_OFFLINE_MERGEMARKS_H
#define VENEER_OFFLINE_MERGEMARKS_H

#include "offline/merge.h"

/* True if the layers below the cut show something as @name in @dir, left to themselves. */
bool mergemarks_is_below(const struct stack *stack, const struct stack_dir *dir, const char *name);

/*
 * Marks the directory @fd, which is @child and gets the name @name in @dir: opaque, or with a
 * redirect, or not at all. 0 or -errno.
 */
int mergemarks_directory(struct merge *merge, const struct stack_dir *dir, const char *name,
			 const struct stack_dir *child, int fd);
/* Marks the file @fd, whose data is below the cut. */
int mergemarks_metacopy(struct merge *merge, const struct stack_dir *dir, const char *name,
			const struct stack_found *found, int fd);

/*
 * True if what was found as @name in @dir says in its topmost layer that it is a copy of something, and
 * that is the object that the layers below the cut have for it.
 */
bool mergemarks_has_origin(const struct stack *stack, const struct stack_dir *dir, const char *name,
			   const struct stack_found *found);

#endif
