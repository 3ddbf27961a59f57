/* SPDX-License-Identifier: MIT */
/* Directories of the lowers brought up, so that something can be put in them. */
#ifndef VENEER_TOOLS_FSCK_RAISE_H
#define VENEER_TOOLS_FSCK_RAISE_H

#include "tools/fsck_below.h"
#include "tools/fsck_object.h"

/*
 * Makes the directory that the lowers have as @below in the place of @object, where the upper has
 * nothing: as it is below, and empty, which merges. -EXDEV: the work directory is not known.
 */
int fsck_raise(const struct fsck_object *object, const struct fsck_below *below);

#endif
