/* SPDX-License-Identifier: MIT */
/*
 * The index: hard links of a lower that stay hard links (docs/format.md "The
 * index").
 *
 * A lower file with several names is copied up once, as an entry of the index
 * directory named after the lower inode; its names in the upper are links of
 * that entry, and names that are still only in a lower lead to it.  So all of
 * them are one node.  How many names the union shows is kept in the node and,
 * relative to the real link count, in an attribute.
 */
#ifndef VENEER_CORE_INDEX_H
#define VENEER_CORE_INDEX_H

#include "core/create.h"
#include "core/probe.h"

#define INDEX_DIR "index" /* in the work directory */

/*
 * Opens or makes workdir/index and removes entries that no name leads to.  @required: a layer
 * that does not belong to this index is -ESTALE (with a sentence in @why); otherwise the index
 * is not used.  The layers and the work directory are open.
 */
int index_init(struct core *core, bool required, struct strbuf *why);
void index_deinit(struct core *core);

/*
 * Completes what a probe found in @parent, if it is a lower file with several names or a copy of one: its
 * name in the index, the number of names, and the entry as the object in the upper.
 */
int index_find(struct core *core, struct node *parent, struct found *found);

/* ---- nodes that are NODE_INDEXED ---- */

/* Writes into the copy @fd of the node how many names it has. */
int index_prepare(struct core *core, struct node *node, int fd);
/* The copy, prepared as @temp, becomes the node's entry. */
int index_publish(struct core *core, struct node *node, const char *temp);
/*
 * Gives the node, just copied up, one of its names in the upper (whose parents are in the upper),
 * so that a reader without the index finds the change as well.
 */
int index_link_up(struct core *core, struct node *node);
/*
 * Makes sure that the upper has @target->name, which leads to @node, so that it can be removed
 * or renamed there. The node is in the upper, the directory's lock is held for writing.
 */
int index_alias(struct core *core, struct node *node, const struct target *target);
/*
 * Brackets a step that adds (@change 1) or removes (-1) a name of the node in the upper: between
 * them the attribute counts relative to the real number of links, so that the step itself is
 * what changes the union's. index_end() gets the step's result; after a success it counts, and
 * removes the entry of a node whose last name went. Both return 0 or -errno; index_end() always
 * follows a successful index_begin().
 */
int index_begin(struct core *core, struct node *node);
void index_end(struct core *core, struct node *node, int change, int result);

#endif
