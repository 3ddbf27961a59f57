/* SPDX-License-Identifier: MIT */
/* The identity of objects of layers at rest: what `origin` attributes and the index go by. */
#ifndef VENEER_OFFLINE_LINEAGE_H
#define VENEER_OFFLINE_LINEAGE_H

#include "format/origin.h"
#include "offline/stack.h"

/* Of the object @fd in layer number @layer. False: its file system has no handles. */
bool lineage_of(const struct stack *stack, unsigned int layer, int fd, struct origin *origin);

/*
 * Says of @to, a copy of @from in layer number @layer, where it comes from. 0 or -errno; what has no
 * identity, or cannot carry the attribute, goes without.
 */
int lineage_set(const struct stack *stack, unsigned int layer, int from, int to);

/*
 * The descriptor (O_PATH) of the object that the entry @name of an index is a copy of, in whichever
 * layer below the topmost; -ENOENT: none, or nobody but root may open it.
 */
int lineage_open(const struct stack *stack, const char *name);

/*
 * How many files the index directory @fd, of the topmost layer, has of which other names are in the
 * layers below alone: what they lead to, only a mount with the index knows. Or -errno.
 */
int lineage_count_shared(const struct stack *stack, int fd);

#endif
