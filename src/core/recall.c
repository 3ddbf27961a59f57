/* SPDX-License-Identifier: MIT */
/*
 * Records of forgotten objects.
 *
 * A record is found by its name, its id or its inode number, through a chain
 * for each.  References are offsets in the region in units of the alignment,
 * plus one: 32 bits do, and they stay right when the region moves.  A dropped
 * record leaves the chains at once and the region when that is packed anew.
 */
#include "core/recall.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/util.h"

#define RECALL_SIZE_MIN 4096
#define RECALL_BUCKETS_MIN 64

enum recall_key {
	RECALL_BY_NAME,
	RECALL_BY_ID,
	RECALL_BY_INO,
	RECALL_KEYS,
};

struct recall_record {
	uint64_t id, ino, parent;
	uint32_t next[RECALL_KEYS]; /* the chains; 0 ends one */
	uint8_t length;
	bool dropped;
	char name[]; /* without a NUL */
};

#define RECALL_ALIGN _Alignof(struct recall_record)
_Static_assert(NAME_MAX <= UINT8_MAX, "a name's length fits in its record");
_Static_assert(RECALL_LIMIT_EXPORT / RECALL_ALIGN < UINT32_MAX, "references have 32 bits");

/* ---- records ---- */

static size_t recall_record_size(size_t length)
{
	size_t size = offsetof(struct recall_record, name) + length;

	return (size + RECALL_ALIGN - 1) / RECALL_ALIGN * RECALL_ALIGN;
}

static struct recall_record *recall_at(const struct recall *recall, size_t offset)
{
	return (struct recall_record *)(recall->region + offset);
}

static size_t recall_offset(const struct recall *recall, const struct recall_record *record)
{
	return (const unsigned char *)record - recall->region;
}

/* The record of a reference; NULL for the end of a chain. */
static struct recall_record *recall_get(const struct recall *recall, uint32_t reference)
{
	return reference ? recall_at(recall, (reference - 1) * RECALL_ALIGN) : NULL;
}

static uint64_t recall_hash(const struct recall_record *record, enum recall_key key)
{
	switch (key) {
	case RECALL_BY_NAME:
		return hash_bytes(record->name, record->length, record->parent);
	case RECALL_BY_ID:
		return hash_u64(record->id, RECALL_BY_ID);
	default:
		return hash_u64(record->ino, RECALL_BY_INO);
	}
}

static uint32_t *recall_bucket(const struct recall *recall, enum recall_key key, uint64_t hash)
{
	return &recall->buckets[key * recall->bucket_count + (hash & (recall->bucket_count - 1))];
}

static struct recall_record *recall_first(const struct recall *recall, enum recall_key key,
					  uint64_t hash)
{
	return recall->buckets ? recall_get(recall, *recall_bucket(recall, key, hash)) : NULL;
}

/* ---- chains ---- */

static void recall_link(struct recall *recall, struct recall_record *record)
{
	for (enum recall_key key = 0; key < RECALL_KEYS; key++) {
		uint32_t *bucket = recall_bucket(recall, key, recall_hash(record, key));

		record->next[key] = *bucket;
		*bucket = recall_offset(recall, record) / RECALL_ALIGN + 1;
	}
}

static void recall_unlink(struct recall *recall, struct recall_record *record)
{
	for (enum recall_key key = 0; key < RECALL_KEYS; key++) {
		uint32_t *at = recall_bucket(recall, key, recall_hash(record, key));

		while (recall_get(recall, *at) != record)
			at = &recall_get(recall, *at)->next[key];
		*at = record->next[key];
	}
}

static void recall_link_all(struct recall *recall)
{
	memset(recall->buckets, 0, RECALL_KEYS * recall->bucket_count * sizeof(*recall->buckets));
	for (size_t at = 0; at < recall->used;) {
		struct recall_record *record = recall_at(recall, at);

		if (!record->dropped)
			recall_link(recall, record);
		at += recall_record_size(record->length);
	}
}

/* ---- room ---- */

static void recall_empty_locked(struct recall *recall)
{
	free(recall->region);
	free(recall->buckets);
	recall->region = NULL;
	recall->buckets = NULL;
	recall->size = recall->used = recall->dead = 0;
	recall->bucket_count = 0;
	atomic_store(&recall->count, 0);
}

static void recall_remove_locked(struct recall *recall, struct recall_record *record)
{
	recall_unlink(recall, record);
	record->dropped = true;
	recall->dead += recall_record_size(record->length);
	if (atomic_fetch_sub(&recall->count, 1) == 1)
		recall_empty_locked(recall);
}

/* Closes the gaps; drops the oldest records until at most @keep bytes are left. */
static void recall_pack_locked(struct recall *recall, size_t keep)
{
	size_t live = recall->used - recall->dead, to = 0;

	for (size_t at = 0; at < recall->used;) {
		struct recall_record *record = recall_at(recall, at);
		size_t size = recall_record_size(record->length);

		at += size;
		if (record->dropped)
			continue;
		if (live > keep) {
			live -= size;
			atomic_fetch_sub(&recall->count, 1);
			continue;
		}
		memmove(recall_at(recall, to), record, size);
		to += size;
	}
	recall->used = to;
	recall->dead = 0;
	recall_link_all(recall);
}

/* Makes room for @size more bytes in the region. False: there is none. */
static bool recall_reserve_locked(struct recall *recall, size_t size)
{
	size_t doubled = MAX(2 * recall->size, (size_t)RECALL_SIZE_MIN);
	size_t grown = MIN(doubled, recall->limit);

	if (recall->used + size <= recall->size)
		return true;
	if (grown > recall->size) {
		unsigned char *region = realloc(recall->region, grown);

		if (region) {
			recall->region = region;
			recall->size = grown;
		}
	}
	/* A quarter at a time, so that packing is seldom. */
	if (recall->used + size > recall->size && recall->buckets)
		recall_pack_locked(recall, recall->size / 4 * 3);
	return recall->used + size <= recall->size;
}

/* A bucket for two records, at least. False: there is no table. */
static bool recall_grow_buckets_locked(struct recall *recall)
{
	uint32_t count = recall->bucket_count ? 2 * recall->bucket_count : RECALL_BUCKETS_MIN;

	if (atomic_load(&recall->count) / 2 < recall->bucket_count)
		return true;
	uint32_t *buckets = malloc(RECALL_KEYS * count * sizeof(*buckets));

	if (buckets) {
		free(recall->buckets);
		recall->buckets = buckets;
		recall->bucket_count = count;
		recall_link_all(recall);
	}
	return recall->buckets;
}

/* ---- noting ---- */

static struct recall_record *recall_find_locked(const struct recall *recall, uint64_t parent,
						const char *name, size_t length)
{
	struct recall_record *record =
		recall_first(recall, RECALL_BY_NAME, hash_bytes(name, length, parent));

	while (record && (record->parent != parent || record->length != length ||
			  memcmp(record->name, name, length) != 0))
		record = recall_get(recall, record->next[RECALL_BY_NAME]);
	return record;
}

static void recall_add_locked(struct recall *recall, const struct recall_entry *entry)
{
	size_t size = recall_record_size(entry->length);

	if (!recall_reserve_locked(recall, size) || !recall_grow_buckets_locked(recall))
		return;
	struct recall_record *record = recall_at(recall, recall->used);

	*record = (struct recall_record){
		.id = entry->id,
		.ino = entry->ino,
		.parent = entry->parent,
		.length = entry->length,
	};
	memcpy(record->name, entry->name, entry->length);
	recall->used += size;
	recall_link(recall, record);
	atomic_fetch_add(&recall->count, 1);
}

/* True if the record says just that and will not be dropped soon. */
static bool recall_is_good(const struct recall *recall, const struct recall_record *record,
			   const struct recall_entry *entry)
{
	return record->id == entry->id && record->ino == entry->ino &&
	       recall_offset(recall, record) >= recall->used / 2;
}

void recall_note(struct recall *recall, const struct recall_entry *entry)
{
	lock_mutex_lock(&recall->lock);
	struct recall_record *record =
		recall_find_locked(recall, entry->parent, entry->name, entry->length);

	if (!record || !recall_is_good(recall, record, entry)) {
		if (record)
			recall_remove_locked(recall, record);
		recall_add_locked(recall, entry);
	}
	lock_mutex_unlock(&recall->lock);
}

void recall_drop(struct recall *recall, uint64_t parent, const char *name)
{
	if (atomic_load_explicit(&recall->count, memory_order_relaxed) == 0)
		return;
	lock_mutex_lock(&recall->lock);
	struct recall_record *record = recall_find_locked(recall, parent, name, strlen(name));

	if (record)
		recall_remove_locked(recall, record);
	lock_mutex_unlock(&recall->lock);
}

/* ---- finding ---- */

uint64_t recall_find_name(struct recall *recall, uint64_t parent, const char *name, uint64_t ino)
{
	if (atomic_load_explicit(&recall->count, memory_order_relaxed) == 0)
		return 0;
	lock_mutex_lock(&recall->lock);
	const struct recall_record *record = recall_find_locked(recall, parent, name, strlen(name));
	uint64_t id = record && record->ino == ino ? record->id : 0;

	lock_mutex_unlock(&recall->lock);
	return id;
}

uint64_t recall_find_ino(struct recall *recall, uint64_t ino)
{
	if (atomic_load_explicit(&recall->count, memory_order_relaxed) == 0)
		return 0;
	lock_mutex_lock(&recall->lock);
	const struct recall_record *record =
		recall_first(recall, RECALL_BY_INO, hash_u64(ino, RECALL_BY_INO));

	while (record && record->ino != ino)
		record = recall_get(recall, record->next[RECALL_BY_INO]);
	uint64_t id = record ? record->id : 0;

	lock_mutex_unlock(&recall->lock);
	return id;
}

bool recall_find_id(struct recall *recall, uint64_t id, unsigned int which, uint64_t *parent,
		    char *name)
{
	lock_mutex_lock(&recall->lock);
	const struct recall_record *record =
		recall_first(recall, RECALL_BY_ID, hash_u64(id, RECALL_BY_ID));

	while (record && (record->id != id || which-- > 0))
		record = recall_get(recall, record->next[RECALL_BY_ID]);
	if (record) {
		*parent = record->parent;
		if (name) {
			memcpy(name, record->name, record->length);
			name[record->length] = '\0';
		}
	}
	lock_mutex_unlock(&recall->lock);
	return record;
}

/* ---- life ---- */

void recall_init(struct recall *recall, size_t limit)
{
	*recall = (struct recall){ .limit = limit };
	lock_mutex_init(&recall->lock, LOCK_RANK_LEAF);
}

void recall_clear(struct recall *recall)
{
	lock_mutex_lock(&recall->lock);
	recall_empty_locked(recall);
	lock_mutex_unlock(&recall->lock);
}

void recall_close(struct recall *recall)
{
	lock_mutex_lock(&recall->lock);
	recall_empty_locked(recall);
	recall->limit = 0;
	lock_mutex_unlock(&recall->lock);
}

void recall_deinit(struct recall *recall)
{
	recall_close(recall);
	lock_mutex_deinit(&recall->lock);
}
