/* SPDX-License-Identifier: MIT */
/*
 * What is remembered of objects that the kernel forgot: the ids they had and
 * the names that led to them.  So an object that is seen again gets its old id,
 * and one that is asked for by id is found: file handles (name_to_handle_at(2))
 * hold nothing but an id, and last longer than any cache.
 *
 * There is at most one record for a name, and it goes when the name does. The
 * records lie packed in one region, which grows to a bound; then the oldest are
 * dropped.  A record is a hint: whoever uses one compares the inode number.
 */
#ifndef VENEER_CORE_RECALL_H
#define VENEER_CORE_RECALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"

/* Bytes; a record takes about 55, and 20 in the hash tables: some 6,500, or 4 million. */
#define RECALL_LIMIT_DEFAULT (1u << 19)
#define RECALL_LIMIT_EXPORT (256u << 20)

struct recall {
	struct lock_mutex lock; /* LOCK_RANK_LEAF: guards everything below */
	_Atomic uint32_t count; /* of records; 0, without the lock: there is nothing to find */
	unsigned char *region; /* owned; NULL while there are none */
	size_t size, limit; /* of the region */
	size_t used, dead; /* bytes of it: taken by records, by such that are dropped */
	uint32_t *buckets; /* a hash table for each way to find a record; owned */
	uint32_t bucket_count; /* of each */
};

/* The object @id with number @ino was at @name in the directory @parent. */
struct recall_entry {
	uint64_t id, ino, parent;
	const char *name; /* borrowed */
	size_t length; /* of the name, at most NAME_MAX */
};

void recall_init(struct recall *recall, size_t limit);
void recall_deinit(struct recall *recall);
/* Drops everything. */
void recall_clear(struct recall *recall);
/* The same; from now on nothing is remembered. */
void recall_close(struct recall *recall);

/* Being out of memory is not told: it only costs an id. */
void recall_note(struct recall *recall, const struct recall_entry *entry);
/* The name leads to what it did no more. */
void recall_drop(struct recall *recall, uint64_t parent, const char *name);

/* The id of the object @ino that was at the name; 0: it is not known. */
uint64_t recall_find_name(struct recall *recall, uint64_t parent, const char *name, uint64_t ino);
/* The id of the object @ino, at whatever name; 0. */
uint64_t recall_find_ino(struct recall *recall, uint64_t ino);
/*
 * Where the object @id was: the directory, and the name (NAME_MAX + 1 bytes, or NULL). @which: 0
 * for its first name, and so on; false: there are no more.
 */
bool recall_find_id(struct recall *recall, uint64_t id, unsigned int which, uint64_t *parent,
		    char *name);

#endif
