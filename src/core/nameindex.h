/* SPDX-License-Identifier: MIT */
/*
 * Which of several directories may have a name.
 *
 * A table of (name, directory) pairs that keeps no names, only 46 bits of each
 * one's hash: it never misses a pair that was entered, and once in a great
 * while names one that was not, which costs whoever believes it a look at the
 * directory.  Immutable once it is made.  Does no I/O, and does not know what
 * the directories are.
 */
#ifndef VENEER_CORE_NAMEINDEX_H
#define VENEER_CORE_NAMEINDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many directories one index can tell apart. */
#define NAMEINDEX_DIRS_MAX 65536

/* What a directory may have of a name. */
enum nameindex_kind {
	NAMEINDEX_ENTRY = 1 << 0, /* the name itself */
	NAMEINDEX_HIDES = 1 << 1, /* a file that hides it below, ".wh." before the name */
};
#define NAMEINDEX_ALL (NAMEINDEX_ENTRY | NAMEINDEX_HIDES)

/* Bounds the memory of all indexes that share it, also of those being made. */
struct nameindex_budget {
	_Atomic size_t used; /* bytes */
	size_t max; /* constant */
};

struct nameindex;

/* ---- making one ---- */

struct nameindex_builder {
	struct nameindex_budget *budget; /* borrowed */
	uint64_t *pairs; /* owned */
	size_t count, size;
	bool has_failed; /* out of memory, or over the budget: there will be no index */
};

void nameindex_builder_init(struct nameindex_builder *b, struct nameindex_budget *budget);
void nameindex_builder_deinit(struct nameindex_builder *b);
/*
 * Enters a name by its hash (hash_bytes() of it, without a seed). Directories are entered one
 * after the other, from number 0 up. A failure is kept for nameindex_new().
 */
void nameindex_builder_add(struct nameindex_builder *b, uint64_t hash, unsigned int dir,
			   enum nameindex_kind kind);
/* NULL: it cannot be made, which is no error. */
struct nameindex *nameindex_new(const struct nameindex_builder *b);
/* Returns NULL, takes NULL. */
struct nameindex *nameindex_free(struct nameindex *index);

/* ---- asking ---- */

/* A walk through the directories that may have one name, from number 0 up. */
struct nameindex_cursor {
	const struct nameindex *index;
	uint64_t tag;
	size_t next, end; /* of the pairs that may be the name's, those not looked at yet */
};

void nameindex_find(const struct nameindex *index, uint64_t hash, struct nameindex_cursor *cursor);
/*
 * The first directory from number @from on that may have the name, and what it may have of it
 * (NAMEINDEX_*). False: none. @from never goes down.
 */
bool nameindex_next(struct nameindex_cursor *cursor, unsigned int from, unsigned int *dir,
		    unsigned int *kinds);

#endif
