/* SPDX-License-Identifier: MIT */
/*
 * What the tables that find nodes and the nodes themselves need of each other;
 * everybody else uses core/node.h.
 */
#ifndef VENEER_CORE_NODE_TABLE_H
#define VENEER_CORE_NODE_TABLE_H

#include "core/node.h"

/* Takes a reference unless the last one is already gone: the node is about to leave the table. */
bool node_hold(void *node);
/* Gives a link's memory back, but not its reference. */
void node_free_link_memory(struct core *core, struct link *link);
/* Takes a node that nobody refers to out of the tables; its links are chained to *@names. */
void node_take_names(struct core *core, struct node *node, struct link **names);
void node_remove_identities(struct core *core, struct node *node);

#endif
