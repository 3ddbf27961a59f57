/* SPDX-License-Identifier: MIT */
/*
 * Objects by 64-bit id: index and generation, never a pointer, so that no
 * number a (hostile) kernel message carries can reach freed memory.
 *
 * The table does not own the objects.  It is striped: two ids seldom share a
 * lock.  A callback runs under the stripe's lock (LOCK_RANK_TABLE), where the
 * caller takes its reference.
 */
#ifndef VENEER_BASE_IDTABLE_H
#define VENEER_BASE_IDTABLE_H

#include <stdbool.h>
#include <stdint.h>

struct idtable;

/* NULL when out of memory. */
struct idtable *idtable_new(void);
/* The table must be empty (asserted); returns NULL. */
struct idtable *idtable_free(struct idtable *table);

/*
 * Gives @object a new id. The first id of a new table is 1 (generation 0, index 1), which
 * FUSE wants for the root. Ids are never 0 and do not come again before 2^32 reuses of a slot.
 * Returns 0 or -ENOMEM.
 */
int idtable_add(struct idtable *table, void *object, uint64_t *idp);

/*
 * Gives @object an id of the past, one that idtable_add() gave. Returns 0, -ENOMEM, or -EEXIST if
 * it is the id of an object that @is_alive; one that is not will never be again.
 */
int idtable_restore(struct idtable *table, uint64_t id, void *object,
		    bool (*is_alive)(void *object));

/*
 * The object of @id, if @hold(object) returned true under the lock (it takes a reference
 * there, or refuses); otherwise NULL.
 */
void *idtable_find(struct idtable *table, uint64_t id, bool (*hold)(void *object));

/* @id is not @object's any more; memory of emptied regions goes back to the system. */
void idtable_remove(struct idtable *table, uint64_t id, const void *object);

/* Gives back what is kept for the next id. */
void idtable_trim(struct idtable *table);

/* How many ids are in use. */
uint64_t idtable_count(const struct idtable *table);

/* Calls @visit on every object, stripe by stripe under its lock. */
void idtable_for_each(struct idtable *table, void (*visit)(void *object, void *context),
		      void *context);

/* Where a sweep is; all 0: at the beginning. */
struct idtable_hand {
	uint32_t stripe;
	uint32_t slot; /* of the stripe */
	uint64_t bucket; /* of its restored ids, which come after the slots */
};

/*
 * The same a piece at a time, a thousand objects or so: from the hand on, which it moves, until
 * @visit returns false. False: that was the end, the hand is at the beginning again. What is there
 * all the time is visited once in a sweep; restored ids can be passed over when there are more of
 * them meanwhile, or come twice.
 */
bool idtable_sweep(struct idtable *table, struct idtable_hand *hand,
		   bool (*visit)(void *object, void *context), void *context);

#endif
