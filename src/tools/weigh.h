/* SPDX-License-Identifier: MIT */
/* How much a directory holds. */
#ifndef VENEER_TOOLS_WEIGH_H
#define VENEER_TOOLS_WEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weight {
	uint64_t entries; /* of any kind, directories included */
	uint64_t bytes; /* of files' data */
	bool is_partial; /* there is more */
};

/*
 * Adds up what lies in @path, but for what lies at or below the @keep_count relative paths @keep (NULL
 * if none), and at most about @limit entries (0: all). Symbolic links are not followed; what cannot
 * be read is left out and makes it partial. 0 or -errno.
 */
int weigh_tree(const char *path, char *const *keep, size_t keep_count, uint64_t limit,
	       struct weight *weight);

#endif
