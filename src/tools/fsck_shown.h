/* SPDX-License-Identifier: MIT */
/* How many names the union has from a lower alone for files in the index: a walk through all of it. */
#ifndef VENEER_TOOLS_FSCK_SHOWN_H
#define VENEER_TOOLS_FSCK_SHOWN_H

#include "tools/fsck_layer.h"

/*
 * Counts into the files of the index (shown). Nothing is counted if there are none, or if names cannot
 * be told apart by numbers: the layers are on several file systems, or handles cannot be opened. 0 or
 * -errno.
 */
int fsck_shown_count(struct fsck *fsck);

#endif
