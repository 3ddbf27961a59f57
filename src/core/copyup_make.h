/* SPDX-License-Identifier: MIT */
/* Within copy-up: the copy and how it is made. core/copyup.c decides, and publishes it. */
#ifndef VENEER_CORE_COPYUP_MAKE_H
#define VENEER_CORE_COPYUP_MAKE_H

#include "core/internal.h"
#include "core/progress.h"
#include "core/workdir.h"
#include "format/metacopy.h"

/* One copy in the making. */
struct copyup {
	struct core *core;
	const struct core_call *call;
	struct node *node;
	uint64_t limit; /* of the data that is copied */
	bool meta_only; /* the data stays in the lower */
	bool replaces; /* the copy of a metacopy file in the upper takes its place */
	struct metacopy metacopy; /* then: the attribute of the copy */
	struct metacopy *digest; /* what the node will remember of it; owned */
	struct statx st; /* of the source */
	int source; /* O_PATH; owned */
	const struct layer *layer; /* the source's; NULL: the upper itself (data of a metacopy) */
	char temp[WORKDIR_TEMP_MAX];
	int fd; /* the copy: a regular file open for writing, else O_PATH; owned */
	bool made; /* temp exists */
	struct progress_item progress;
};

/* True if whoever @call is of was told to stop. @call may be NULL. */
bool copyup_call_is_interrupted(const struct core_call *call);

/*
 * The steps, in this order; all return 0 or -errno, and leave what they made to the caller to
 * discard. No lock may be held: each may take as long as the disk does.
 */
/* Opens what is copied, and takes its attributes. */
int copyup_open_source(struct copyup *c);
/* Makes the object in the work directory, with its data unless meta_only. */
int copyup_make(struct copyup *c);
/* Copies the data, up to the limit, into @fd. -EINTR: interrupted. */
int copyup_data(struct copyup *c, int fd);
/* Gives the copy owner, mode, times, attributes and origin of the source. */
int copyup_attributes(struct copyup *c);
/* Brings the copy to the disk, as far as the mount promises that. */
int copyup_sync(struct copyup *c);

#endif
