/* SPDX-License-Identifier: MIT */
/* A set of numbers, which are hashes of what is meant: 8 to 16 bytes each. */
#ifndef VENEER_TOOLS_FSCK_SET_H
#define VENEER_TOOLS_FSCK_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fsck_set {
	uint64_t *slots; /* owned; 0: free */
	size_t count, size; /* size: a power of two, or 0 */
};

/*
 * Puts @key in. False: it was there. Without memory for a larger table it is not put in, and true all
 * the same.
 */
bool fsck_set_add(struct fsck_set *set, uint64_t key);
bool fsck_set_has(const struct fsck_set *set, uint64_t key);
void fsck_set_clear(struct fsck_set *set);

#endif
