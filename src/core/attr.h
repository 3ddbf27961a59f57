/* SPDX-License-Identifier: MIT */
/* Attributes of nodes as the union shows them. */
#ifndef VENEER_CORE_ATTR_H
#define VENEER_CORE_ATTR_H

#include "core/internal.h"

/* Attributes of the node; takes and releases its place. */
int attr_get(struct core *core, struct node *node, struct statx *st);
/*
 * Turns the real attributes of the node's topmost object into the union's: inode number, link
 * count, blocks of a metacopy file, flags kept beside the file.  May list a merged directory to
 * count its subdirectories.
 */
int attr_present(struct core *core, struct node *node, struct statx *st);
/* 0, or -EPERM if flags (immutable, append-only) forbid changing the node. */
int attr_check_change(const struct node *node);
/* 0, or -EPERM if they forbid removing a name from (or moving one in or out of) @dir. */
int attr_check_names(const struct node *dir, bool removes);
/* Takes set-id bits away as a write by a caller without CAP_FSETID does; @fd is open. */
int attr_kill_suidgid(const struct core *core, const struct core_call *call, int fd);
/* The same before a change that reaches up to @end: -EFBIG, and nothing done, if no file can. */
int attr_kill_suidgid_before(const struct core *core, const struct core_call *call, int fd,
			     uint64_t end);

#endif
