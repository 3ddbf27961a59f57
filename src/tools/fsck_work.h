/* SPDX-License-Identifier: MIT */
/* The work directory but for the index: remains, features, the table of origins. */
#ifndef VENEER_TOOLS_FSCK_WORK_H
#define VENEER_TOOLS_FSCK_WORK_H

#include "tools/fsck_object.h"

/*
 * 0, or -errno with a sentence in @why: the layer has a feature that this program does not know, or a
 * commit of it was cut off, and nothing may be touched.
 */
int fsck_work_check_features(struct fsck *fsck, struct strbuf *why);
/* Checks what is left in it. 0 or -errno. */
int fsck_work_check(struct fsck *fsck);
/* A whiteout that kernel overlayfs keeps in its work directory, to make links of. */
bool fsck_work_is_spare(const struct fsck_object *entry);

#endif
