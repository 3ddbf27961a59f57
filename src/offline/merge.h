/* SPDX-License-Identifier: MIT */
/*
 * A tree that shows by itself what several layers show together.
 *
 * Of a stack the inner layers are merged; over the others, if there are any, the
 * result shows what the whole stack showed: it has the whiteouts, opaque
 * directories, redirects and metacopy files that it needs for that, and no
 * other marks.
 *
 * Nothing of the layers is changed but link counts, if asked for.
 */
#ifndef VENEER_OFFLINE_MERGE_H
#define VENEER_OFFLINE_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "offline/stack.h"

struct merge_counts {
	uint64_t directories, files, links, symlinks, others;
	uint64_t whiteouts, opaque, redirects, metacopies; /* marks */
	uint64_t bytes; /* of data */
};

struct merge {
	const struct stack *stack;
	/* What is not a directory in the topmost layer is hard-linked, not copied; and
	 * directories of that layer keep their private attributes but opaque and redirect. */
	bool link_top; /* and what is copied from the others says so, as after a copy-up */
	/* With link_top: the index directory of the upper, for files that it has; -1: none. */
	int index;
	/* A directory for the time of the merge, on the file system of the result, where
	 * objects with several names and the one whiteout are kept to be linked. */
	int spare;
	/* Called often; true ends the merge with -EINTR. May be NULL. */
	bool (*is_interrupted)(void *context);
	/* @done: bytes of the file that is being copied. May be NULL. */
	void (*progress)(void *context, const struct merge_counts *counts, uint64_t done);
	void *context;
	struct merge_counts counts; /* out */
	struct strbuf path; /* what was being worked on, when it failed: "a/b", "" the top */
};

/*
 * Fills the empty directory @to (O_PATH) with what is in @dir, and makes its attributes those of
 * @dir's topmost part. 0 or -errno: -ENODATA the data of merge->path is in none of the layers;
 * -EINTR, -ENOSPC, ...; then @to holds anything.
 */
int merge_into(struct merge *merge, struct stack_dir *dir, int to);
void merge_deinit(struct merge *merge);

/* A sentence in @why for the user: what failed, and the way out. @path leads to merge->path. */
void merge_explain(const struct merge *merge, int error, struct strbuf *why);

#endif
