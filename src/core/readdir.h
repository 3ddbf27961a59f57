/* SPDX-License-Identifier: MIT */
/* Open directories, for the end of the union. */
#ifndef VENEER_CORE_READDIR_H
#define VENEER_CORE_READDIR_H

struct core;
struct node;

/* The directory @node has another parent: what the kernel keeps of it shows the old "..". */
void readdir_forget_parent(struct core *core, struct node *node);
/*
 * The directories' parts may be others: what is being streamed goes on from what there is now,
 * where it was. No call may run.
 */
void readdir_begin_again(struct core *core);
/* Closes every directory that is still open; no call may run. */
void readdir_close_all(struct core *core);

#endif
