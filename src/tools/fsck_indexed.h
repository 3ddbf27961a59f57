/* SPDX-License-Identifier: MIT */
/* How many names the union has for a file of the index, as its attribute says. */
#ifndef VENEER_TOOLS_FSCK_INDEXED_H
#define VENEER_TOOLS_FSCK_INDEXED_H

#include "tools/fsck_object.h"

#define FSCK_INDEX "index"

/* Names of the file that the walk has met in the upper. */
uint32_t fsck_indexed_names(const struct fsck *fsck, const struct statx *st);
/* Checks the entry of the index; the walk is over. */
void fsck_indexed_check_count(struct fsck_object *entry);

#endif
