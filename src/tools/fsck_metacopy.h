/* SPDX-License-Identifier: MIT */
/* Files whose data is said to be below. */
#ifndef VENEER_TOOLS_FSCK_METACOPY_H
#define VENEER_TOOLS_FSCK_METACOPY_H

#include "tools/fsck_object.h"
#include "tools/fsck_walk.h"

/* Checks the entry of the directory at hand, if it is such a file. */
void fsck_metacopy_check(struct fsck_walk *walk, struct fsck_object *object);

#endif
