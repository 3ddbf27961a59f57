/* SPDX-License-Identifier: MIT */
/* One object of the upper beside its counterpart below: what differs? */
#ifndef VENEER_OFFLINE_CHANGES_COMPARE_H
#define VENEER_OFFLINE_CHANGES_COMPARE_H

#include "core/core.h"
#include "offline/entry.h"

struct compared {
	int dirfd; /* O_PATH or open */
	const char *name; /* in dirfd; "": dirfd itself */
	const struct entry *entry;
	enum xattr_namespace ns;
	struct core *lowers;
	const struct core_entry *lower; /* of the same type */
};

/* CHANGE_* in *@what. 0 or -errno. */
int changes_compare(const struct compared *compared, unsigned int *what);

#endif
