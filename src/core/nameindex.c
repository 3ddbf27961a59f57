/* SPDX-License-Identifier: MIT */
/*
 * The pairs lie sorted by the bucket that their name's hash belongs to, and
 * within a bucket in the order in which they were entered, which is that of
 * their directories.  The sort counts, so it takes a number of steps that only
 * the number of pairs decides: also where hundreds of directories have the same
 * names, and each name as many pairs.  Nor do those get in the way of other
 * names, whose buckets have an end: there are half as many as pairs.
 */
#include "core/nameindex.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A pair: the upper bits of the name's hash, the directory, the kind, which is never 0. */
#define PAIR_KIND_BITS 2
#define PAIR_DIR_BITS 16
#define PAIR_TAG_SHIFT (PAIR_DIR_BITS + PAIR_KIND_BITS)

_Static_assert(NAMEINDEX_DIRS_MAX == 1 << PAIR_DIR_BITS, "each directory has its number");
_Static_assert(NAMEINDEX_ALL < 1 << PAIR_KIND_BITS, "each kind has its bit");

#define NAMEINDEX_PAIRS_MIN 64
#define NAMEINDEX_PAIRS_PER_BUCKET 2

struct nameindex {
	struct nameindex_budget *budget; /* borrowed */
	size_t count, buckets;
	uint32_t *starts; /* each bucket's first pair; after the last bucket's, the count */
	uint64_t pairs[]; /* and then the starts */
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

/* The bucket of a name, by 32 of its hash's bits: a pair has those and more. */
static size_t nameindex_home(const struct nameindex *index, uint64_t hash)
{
	return (hash >> 32) * index->buckets >> 32;
}

/* From the last to the first, each to the end of what is left of its bucket. */
static void nameindex_fill(struct nameindex *index, const uint64_t *pairs)
{
	for (size_t i = 0; i < index->count; i++)
		index->starts[nameindex_home(index, pairs[i])]++;
	for (size_t i = 1; i <= index->buckets; i++)
		index->starts[i] += index->starts[i - 1];
	for (size_t i = index->count; i-- > 0;)
		index->pairs[--index->starts[nameindex_home(index, pairs[i])]] = pairs[i];
}

static size_t nameindex_bytes(size_t count, size_t buckets)
{
	return sizeof(struct nameindex) + count * sizeof(uint64_t) +
	       (buckets + 1) * sizeof(uint32_t);
}

struct nameindex *nameindex_new(const struct nameindex_builder *b)
{
	size_t buckets = b->count / NAMEINDEX_PAIRS_PER_BUCKET + 1;
	size_t bytes = nameindex_bytes(b->count, buckets);

	if (b->has_failed || b->count > UINT32_MAX || !nameindex_reserve(b->budget, bytes))
		return NULL;
	struct nameindex *index = calloc(1, bytes);

	if (!index) {
		nameindex_release(b->budget, bytes);
		return NULL;
	}
	index->budget = b->budget;
	index->count = b->count;
	index->buckets = buckets;
	index->starts = (uint32_t *)&index->pairs[b->count];
	nameindex_fill(index, b->pairs);
	return index;
}

struct nameindex *nameindex_free(struct nameindex *index)
{
	if (index)
		nameindex_release(index->budget, nameindex_bytes(index->count, index->buckets));
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
	size_t home = nameindex_home(index, hash);

	*cursor = (struct nameindex_cursor){
		.index = index,
		.tag = hash >> PAIR_TAG_SHIFT,
		.next = index->starts[home],
		.end = index->starts[home + 1],
	};
}

bool nameindex_next(struct nameindex_cursor *cursor, unsigned int from, unsigned int *dir,
		    unsigned int *kinds)
{
	unsigned int found = 0, first = 0;

	for (; cursor->next < cursor->end; cursor->next++) {
		uint64_t pair = cursor->index->pairs[cursor->next];

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
