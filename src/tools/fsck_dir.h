/* SPDX-License-Identifier: MIT */
/* The directory at hand of a walk: opaque, redirect, impure, and what it merges with. */
#ifndef VENEER_TOOLS_FSCK_DIR_H
#define VENEER_TOOLS_FSCK_DIR_H

#include "tools/fsck_walk.h"

/* Before its entries: finds out what it merges with. 0 or -ENOMEM. */
int fsck_dir_enter(struct fsck_walk *walk);
/* After them: what depends on what it holds. */
void fsck_dir_leave(struct fsck_walk *walk);
/* A name of its own was changed: its times are to be put back. */
void fsck_dir_touch(struct fsck_walk *walk);

#endif
