/* SPDX-License-Identifier: MIT */
/* The index: its own identity, its entries, and how many names each file has. */
#ifndef VENEER_TOOLS_FSCK_INDEX_H
#define VENEER_TOOLS_FSCK_INDEX_H

#include <sys/stat.h>

#include "tools/fsck_layer.h"

/* Before the walk: checks the entries and notes which files they are. 0 or -errno. */
int fsck_index_check(struct fsck *fsck);
/* During it: is this file of the upper in the index? Has it been met under one more name? */
bool fsck_index_has(const struct fsck *fsck, const struct statx *st);
void fsck_index_note(struct fsck *fsck, const struct statx *st);
/* After it: the counts of names. 0 or -errno. */
int fsck_index_check_names(struct fsck *fsck);

#endif
