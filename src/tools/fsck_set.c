/* SPDX-License-Identifier: MIT */
#include "tools/fsck_set.h"

#include <stdlib.h>

#define FSCK_SET_FIRST 256

/* There is room. */
static bool fsck_set_put(struct fsck_set *set, uint64_t key)
{
	size_t at = key & (set->size - 1);

	while (set->slots[at] && set->slots[at] != key)
		at = (at + 1) & (set->size - 1);
	if (set->slots[at])
		return false;
	set->slots[at] = key;
	set->count++;
	return true;
}

static bool fsck_set_grow(struct fsck_set *set)
{
	struct fsck_set more = { .size = set->size ? 2 * set->size : FSCK_SET_FIRST };

	more.slots = calloc(more.size, sizeof(*more.slots));
	if (!more.slots)
		return false;
	for (size_t i = 0; i < set->size; i++)
		if (set->slots[i])
			fsck_set_put(&more, set->slots[i]);
	free(set->slots);
	*set = more;
	return true;
}

bool fsck_set_add(struct fsck_set *set, uint64_t key)
{
	if (4 * set->count >= 3 * set->size && !fsck_set_grow(set))
		return true;
	return fsck_set_put(set, key ? key : 1);
}

void fsck_set_clear(struct fsck_set *set)
{
	free(set->slots);
	*set = (struct fsck_set){ 0 };
}
