/* SPDX-License-Identifier: MIT */
/*
 * Where a layer is made before it is anybody's: a directory beside the layer,
 * on the same file system, open to its owner alone.  In it is `layer`, and
 * what was removed waits in `trash` for its end.
 */
#ifndef VENEER_TOOLS_IMPORT_STAGE_H
#define VENEER_TOOLS_IMPORT_STAGE_H

#include <stdint.h>

#include "base/strbuf.h"

#define IMPORT_STAGE_NAME_SIZE 40

struct import_stage {
	int parent, dir, trash; /* descriptors; owned */
	int layer; /* of the tree to be filled; owned */
	char name[IMPORT_STAGE_NAME_SIZE]; /* of @dir in @parent */
	uint64_t removed; /* how many trees went to the trash: the next one's name */
};

/* All descriptors -1. */
#define IMPORT_STAGE_INIT \
	((struct import_stage){ .parent = -1, .dir = -1, .trash = -1, .layer = -1 })

/* Makes it in the directory @path. 0 or -errno with a sentence in @why. */
int import_stage_init(struct import_stage *stage, const char *path, struct strbuf *why);
/* Removes it with all that is left in it. */
void import_stage_deinit(struct import_stage *stage);

/* Removes whatever has the name, a directory with all below. 0 or -errno; -ENOENT: nothing has it. */
int import_stage_remove(struct import_stage *stage, int dirfd, const char *name);
/* Gives the finished layer its name in @stage->parent, where there is nothing or an empty directory. */
int import_stage_publish(struct import_stage *stage, const char *name);

#define _cleanup_import_stage_ _cleanup_(import_stage_deinit)

#endif
