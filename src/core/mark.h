/* SPDX-License-Identifier: MIT */
/*
 * Private attributes of objects in the upper, also of those that are read-only:
 * user.* attributes may be written by whoever may write the object, and
 * somebody without the right to override modes may not, though it is his own.
 */
#ifndef VENEER_CORE_MARK_H
#define VENEER_CORE_MARK_H

#include "core/internal.h"

/*
 * As upper_setxattr() and upper_removexattr() of the private attribute @which of @fd. A read-only
 * object is writable to its owner for a moment; a crash then leaves it so.
 */
int mark_set(struct core *core, int fd, enum xattr_private which, const void *value, size_t size);
int mark_remove(struct core *core, int fd, enum xattr_private which);

#endif
