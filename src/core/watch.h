/* SPDX-License-Identifier: MIT */
/*
 * Watching the layers for what others do there (core_watch_run() in core/core.h).
 *
 * Each directory of the union that was looked up in or listed has its real directories marked
 * with fanotify, at most WATCH_MARKS_MAX of them; the marks go when the directory's node goes.
 * An event names a real directory by its file handle and an entry in it; a table leads from the
 * handle to the nodes.  The lookups themselves do the rest: names that may lead elsewhere are
 * NODE_UNSURE.  What this process does to the upper it knows, and is not told of.
 */
#ifndef VENEER_CORE_WATCH_H
#define VENEER_CORE_WATCH_H

#include "core/internal.h"
#include "sys/fanotify.h"

#define WATCH_MARKS_MAX 65536

struct watch_mark;

struct watch {
	int fd;
	struct lock_mutex lock; /* LOCK_RANK_LEAF: guards what follows, and every node_dir.marks */
	struct watch_mark **buckets; /* by handle */
	uint64_t size, count;
	_Atomic bool was_full; /* told once */
};

/* -EOPNOTSUPP and the like: not on this kernel, told in @why. */
int watch_init(struct core *core, struct strbuf *why);
/* Every node is gone. */
void watch_deinit(struct core *core);
/* From now on what others do in the directory's parts is heard of. Called before they are read. */
void watch_dir(struct core *core, struct node *dir);
/* The directory got another part: watch_dir() looks again. */
void watch_dir_again(struct node *dir);
/* The directory's node goes. */
void watch_forget(struct core *core, struct node_dir *dir);

#endif
