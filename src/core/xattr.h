/* SPDX-License-Identifier: MIT */
/* What is remembered of extended attributes. */
#ifndef VENEER_CORE_XATTR_H
#define VENEER_CORE_XATTR_H

#include <stdbool.h>

struct core;

/* True if nobody but us gives attributes to what is known. */
bool xattr_may_remember(const struct core *core);

#endif
