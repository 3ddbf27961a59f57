/* SPDX-License-Identifier: MIT */
/* Open directories, for the end of the union. */
#ifndef VENEER_CORE_READDIR_H
#define VENEER_CORE_READDIR_H

struct core;
struct node;

/* The directory @node has another parent: what the kernel keeps of it shows the old "..". */
void readdir_forget_parent(struct core *core, struct node *node);
/* Closes every directory that is still open; no call may run. */
void readdir_close_all(struct core *core);

#endif
