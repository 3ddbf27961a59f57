/* SPDX-License-Identifier: MIT */
/*
 * What in an upper needs a reader that follows redirects and metacopy, made into
 * plain copies.
 *
 * At each moment the layer shows what it showed.  A metacopy file is filled in place,
 * so that its names and its identity stay: what readers go by is the attribute, which
 * is removed when the data is on the disk.  A directory with a redirect is made
 * anew in the work directory, its files as further hard links, and exchanged.
 */
#ifndef VENEER_OFFLINE_FLATTEN_H
#define VENEER_OFFLINE_FLATTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "offline/stack.h"

enum flatten_kind {
	FLATTEN_FILE,
	FLATTEN_DIRECTORY,
	FLATTEN_REMAINS, /* of a run that was cut off; or a redirect that nobody reads */
};

struct flatten_counts {
	uint64_t files, directories, remains;
	uint64_t bytes; /* of data that is copied */
};

struct flatten {
	const struct stack *stack; /* layer 0 is the upper; none below the cut */
	int work; /* a directory of its own in the work directory; -1: look only */
	int index; /* the index directory; -1: there is none */
	/* Called for each object before it is unfolded, or would be. May be NULL. */
	void (*report)(void *context, enum flatten_kind kind, const char *path);
	bool (*is_interrupted)(void *context); /* may be NULL */
	void (*progress)(void *context, uint64_t bytes); /* done altogether; may be NULL */
	void *context;
	struct flatten_counts counts; /* out */
	struct strbuf path; /* what was being worked on, when it failed */
};

/* 0 or -errno: -ENODATA the data of flatten->path is in none of the layers; -EINTR, -ENOSPC, ... */
int flatten_run(struct flatten *flatten);
void flatten_deinit(struct flatten *flatten);

#endif
