/* SPDX-License-Identifier: MIT */
/* Private attributes by themselves: may they be where they are, and do they say anything? */
#ifndef VENEER_TOOLS_FSCK_ATTRIBUTES_H
#define VENEER_TOOLS_FSCK_ATTRIBUTES_H

#include "tools/fsck_object.h"

/*
 * Checks what can be told without the layers below. Those that were removed are not listed in
 * @object any more.
 */
void fsck_attributes_check(struct fsck_object *object, bool is_root);

#endif
