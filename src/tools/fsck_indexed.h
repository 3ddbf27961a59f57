/* SPDX-License-Identifier: MIT */
/* How many names the union has for a file of the index, as its attribute says. */
#ifndef VENEER_TOOLS_FSCK_INDEXED_H
#define VENEER_TOOLS_FSCK_INDEXED_H

#include "tools/fsck_object.h"

#define FSCK_INDEX "index"

/* The file of the index that @st is of, or NULL. */
struct fsck_indexed *fsck_index_find(const struct fsck *fsck, const struct statx *st);
/* Checks the entry of the index; the walk is over. */
void fsck_indexed_check_count(struct fsck_object *entry);

#endif
