/* SPDX-License-Identifier: MIT */
#include "tools/fsck_set.h"

#include <stdlib.h>

#define FSCK_SET_FIRST 256

/* 0 stands for a free slot. */
static uint64_t fsck_set_key(uint64_t key)
{
	return key ? key : 1;
}

/* Where @key is, or is to be: there is room. */
static uint64_t *fsck_set_find(const struct fsck_set *set, uint64_t key)
{
	size_t at = key & (set->size - 1);

	while (set->slots[at] && set->slots[at] != key)
		at = (at + 1) & (set->size - 1);
	return &set->slots[at];
}

static bool fsck_set_put(struct fsck_set *set, uint64_t key)
{
	uint64_t *slot = fsck_set_find(set, key);

	if (*slot)
		return false;
	*slot = key;
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
	return fsck_set_put(set, fsck_set_key(key));
}

bool fsck_set_has(const struct fsck_set *set, uint64_t key)
{
	return set->size > 0 && *fsck_set_find(set, fsck_set_key(key));
}

void fsck_set_clear(struct fsck_set *set)
{
	free(set->slots);
	*set = (struct fsck_set){ 0 };
}
