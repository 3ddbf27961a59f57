/* SPDX-License-Identifier: MIT */
/* What is no directory: whiteouts of every form, metacopy files, names in the index. */
#ifndef VENEER_TOOLS_FSCK_FILE_H
#define VENEER_TOOLS_FSCK_FILE_H

#include "tools/fsck_object.h"
#include "tools/fsck_walk.h"

/* Checks an entry of the directory at hand. */
void fsck_file_check(struct fsck_walk *walk, struct fsck_object *object);

#endif
