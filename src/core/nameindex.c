/* SPDX-License-Identifier: MIT */
/*
 * The table is open addressing with linear probing.  All pairs of one name
 * begin at one slot and are entered in the order of their directories, and
 * nothing is ever taken out: so a walk from that slot to the first free one
 * meets them in that order.
 */
#include "core/nameindex.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A pair: the upper bits of the name's hash, the directory, the kind, which is never 0. */
#define PAIR_KIND_BITS 2
#define PAIR_DIR_BITS 16
#define PAIR_TAG_SHIFT (PAIR_DIR_BITS + PAIR_KIND_BITS)
#define PAIR_FREE 0

_Static_assert(NAMEINDEX_DIRS_MAX == 1 << PAIR_DIR_BITS, "each directory has its number");
_Static_assert(NAMEINDEX_ALL < 1 << PAIR_KIND_BITS, "each kind has its bit");

#define NAMEINDEX_PAIRS_MIN 64

struct nameindex {
	struct nameindex_budget *budget; /* borrowed */
	size_t size; /* slots, at least one of them free */
	uint64_t slots[];
};

/* ---- memory ---- */

static bool nameindex_reserve(struct nameindex_budget *budget, size_t bytes)
{
	size_t used = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);

	if (used <= budget->max && bytes <= budget->max - used)
		return true;
	atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
	return false;
}

static void nameindex_release(struct nameindex_budget *budget, size_t bytes)
{
	atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
}

/* ---- making one ---- */

void nameindex_builder_init(struct nameindex_builder *b, struct nameindex_budget *budget)
{
	*b = (struct nameindex_builder){ .budget = budget };
}

void nameindex_builder_deinit(struct nameindex_builder *b)
{
	nameindex_release(b->budget, b->size * sizeof(*b->pairs));
	free(b->pairs);
}

/* By a half: twice as many might be refused where these are not. */
static bool nameindex_builder_grow(struct nameindex_builder *b)
{
	size_t more = b->size ? b->size / 2 : NAMEINDEX_PAIRS_MIN;
	size_t bytes = more * sizeof(*b->pairs);

	if (!nameindex_reserve(b->budget, bytes))
		return false;
	uint64_t *pairs = realloc(b->pairs, (b->size + more) * sizeof(*pairs));

	if (!pairs) {
		nameindex_release(b->budget, bytes);
		return false;
	}
	b->pairs = pairs;
	b->size += more;
	return true;
}

void nameindex_builder_add(struct nameindex_builder *b, uint64_t hash, unsigned int dir,
			   enum nameindex_kind kind)
{
	assert(dir < NAMEINDEX_DIRS_MAX);
	if (b->has_failed)
		return;
	if (b->count == b->size && !nameindex_builder_grow(b)) {
		b->has_failed = true;
		return;
	}
	b->pairs[b->count++] = hash >> PAIR_TAG_SHIFT << PAIR_TAG_SHIFT |
			       (uint64_t)dir << PAIR_KIND_BITS | kind;
}

/* Where a name's pairs begin, by 32 of its hash's bits: a pair has those and more. */
static size_t nameindex_home(const struct nameindex *index, uint64_t hash)
{
	return (hash >> 32) * index->size >> 32;
}

static size_t nameindex_after(const struct nameindex *index, size_t slot)
{
	return slot + 1 == index->size ? 0 : slot + 1;
}

static void nameindex_insert(struct nameindex *index, uint64_t pair)
{
	size_t slot = nameindex_home(index, pair);

	while (index->slots[slot] != PAIR_FREE)
		slot = nameindex_after(index, slot);
	index->slots[slot] = pair;
}

static size_t nameindex_bytes(size_t size)
{
	return sizeof(struct nameindex) + size * sizeof(uint64_t);
}

struct nameindex *nameindex_new(const struct nameindex_builder *b)
{
	size_t size = b->count + b->count / 3 + 1; /* three of four in use */

	if (b->has_failed || size > UINT32_MAX ||
	    !nameindex_reserve(b->budget, nameindex_bytes(size)))
		return NULL;
	struct nameindex *index = calloc(1, nameindex_bytes(size));

	if (!index) {
		nameindex_release(b->budget, nameindex_bytes(size));
		return NULL;
	}
	index->budget = b->budget;
	index->size = size;
	for (size_t i = 0; i < b->count; i++)
		nameindex_insert(index, b->pairs[i]);
	return index;
}

struct nameindex *nameindex_free(struct nameindex *index)
{
	if (index)
		nameindex_release(index->budget, nameindex_bytes(index->size));
	free(index);
	return NULL;
}

/* ---- asking ---- */

static unsigned int pair_dir(uint64_t pair)
{
	return pair >> PAIR_KIND_BITS & (NAMEINDEX_DIRS_MAX - 1);
}

void nameindex_find(const struct nameindex *index, uint64_t hash, struct nameindex_cursor *cursor)
{
	*cursor = (struct nameindex_cursor){
		.index = index,
		.tag = hash >> PAIR_TAG_SHIFT,
		.slot = nameindex_home(index, hash),
	};
}

bool nameindex_next(struct nameindex_cursor *cursor, unsigned int from, unsigned int *dir,
		    unsigned int *kinds)
{
	const struct nameindex *index = cursor->index;
	unsigned int found = 0, first = 0;

	for (uint64_t pair; (pair = index->slots[cursor->slot]) != PAIR_FREE;
	     cursor->slot = nameindex_after(index, cursor->slot)) {
		if (pair >> PAIR_TAG_SHIFT != cursor->tag || pair_dir(pair) < from)
			continue;
		if (found && pair_dir(pair) != first)
			break; /* for the next call */
		first = pair_dir(pair);
		found |= pair & NAMEINDEX_ALL;
	}
	if (!found)
		return false;
	*dir = first;
	*kinds = found;
	return true;
}
