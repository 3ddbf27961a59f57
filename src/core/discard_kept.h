/* SPDX-License-Identifier: MIT */
/*
 * What stays in the upper when it is emptied: what was asked for, and the
 * whiteouts of where that was renamed from, without which it would be seen
 * there as well.
 */
#ifndef VENEER_CORE_DISCARD_KEPT_H
#define VENEER_CORE_DISCARD_KEPT_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct core;

struct discard_kept {
	char **paths; /* in the upper, "a/b"; owned, as are they */
	size_t count;
};

void discard_kept_deinit(struct discard_kept *kept);
#define _cleanup_kept_ _cleanup_(discard_kept_deinit)
/* 0, -ENOMEM or -EINVAL: that is the root. */
int discard_kept_add(struct discard_kept *kept, const char *path);
/*
 * Adds the whiteouts; @fd is of the upper. 0 or -errno with a sentence in @why, or none: -EINVAL:
 * where something was renamed from is hidden by what goes.
 */
int discard_kept_add_sources(struct discard_kept *kept, struct core *core, int fd,
			     struct strbuf *why);

#endif
