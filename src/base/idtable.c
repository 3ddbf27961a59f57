/* SPDX-License-Identifier: MIT */
/*
 * Slot n of stripe s has index (n * stripes + s) + 1.  A stripe's slots lie in
 * chunks that are mapped on first use and unmapped when the last id in them is
 * removed; a chunk's place in the directory stays and remembers from which
 * generation its slots go on, so an id of an unmapped chunk never comes again by itself.
 *
 * An id that is restored does not get its slot back, which may be another's by
 * now: it is a guest, in a hash table beside the slots.
 */
#include "base/idtable.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/util.h"

#define IDTABLE_STRIPES 16u
#define IDTABLE_CHUNK_SLOTS 1024u
#define IDTABLE_CHUNK_SIZE (IDTABLE_CHUNK_SLOTS * sizeof(struct idtable_slot))
#define IDTABLE_GUEST_BUCKETS_MIN 16
/* So that every index fits in 32 bits. */
#define IDTABLE_CHUNKS_MAX (UINT32_MAX / IDTABLE_STRIPES / IDTABLE_CHUNK_SLOTS)

struct idtable_slot {
	void *object; /* NULL: free */
	uint32_t generation; /* of the id in use, or of the next one */
	uint32_t next_free; /* number in the chunk plus 1; 0 ends the list */
};

struct idtable_chunk {
	struct idtable_slot *slots; /* NULL while not mapped */
	uint32_t used; /* ids in use */
	uint32_t fresh; /* slots from here on were never used since mapping */
	uint32_t first_free; /* like next_free */
	uint32_t generation; /* where fresh slots start; not behind any removed id's */
};

/* An object with a restored id. */
struct idtable_guest {
	struct idtable_guest *next;
	uint64_t id;
	void *object;
};

struct idtable_stripe {
	struct lock_mutex lock; /* guards everything below */
	struct idtable_chunk *chunks;
	uint32_t count, capacity; /* of chunks */
	uint32_t room_from; /* no chunk before this one has a free slot */
	struct idtable_guest **guests; /* hash table; NULL while there are none */
	uint64_t guest_count, guest_buckets;
} __attribute__((aligned(64)));

struct idtable {
	struct idtable_stripe stripes[IDTABLE_STRIPES];
	_Atomic uint32_t next_stripe;
	_Atomic uint64_t used;
};

struct idtable *idtable_new(void)
{
	struct idtable *table = aligned_alloc(_Alignof(struct idtable), sizeof(*table));

	if (!table)
		return NULL;
	*table = (struct idtable){ 0 };
	for (unsigned int i = 0; i < IDTABLE_STRIPES; i++)
		lock_mutex_init(&table->stripes[i].lock, LOCK_RANK_TABLE);
	return table;
}

static void idtable_chunk_unmap(struct idtable_chunk *chunk)
{
	munmap(chunk->slots, IDTABLE_CHUNK_SIZE);
	chunk->slots = NULL;
}

struct idtable *idtable_free(struct idtable *table)
{
	if (!table)
		return NULL;
	assert(atomic_load(&table->used) == 0);
	for (unsigned int i = 0; i < IDTABLE_STRIPES; i++) {
		struct idtable_stripe *stripe = &table->stripes[i];

		assert(!stripe->guests);
		if (stripe->count && stripe->chunks[0].slots)
			idtable_chunk_unmap(&stripe->chunks[0]);
		free(stripe->chunks);
		lock_mutex_deinit(&stripe->lock);
	}
	free(table);
	return NULL;
}

static bool idtable_chunk_has_room(const struct idtable_chunk *chunk)
{
	return chunk->used < IDTABLE_CHUNK_SLOTS;
}

static int idtable_chunk_map(struct idtable_chunk *chunk)
{
	/* Mapped, not allocated: goes back to the system whatever else lives on the heap. */
	void *slots = mmap(NULL, IDTABLE_CHUNK_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (slots == MAP_FAILED)
		return -ENOMEM;
	chunk->slots = slots;
	chunk->fresh = 0;
	chunk->first_free = 0;
	return 0;
}

/* Number of a chunk with room, mapped, or -ENOMEM. */
static int64_t idtable_find_room_locked(struct idtable_stripe *stripe)
{
	uint32_t at = stripe->room_from;

	while (at < stripe->count && !idtable_chunk_has_room(&stripe->chunks[at]))
		at++;
	stripe->room_from = at;
	if (at == stripe->capacity) {
		uint32_t capacity = at ? at * 2 : 4;
		struct idtable_chunk *chunks;

		if (at >= IDTABLE_CHUNKS_MAX)
			return -ENOMEM;
		chunks = realloc(stripe->chunks, capacity * sizeof(*chunks));
		if (!chunks)
			return -ENOMEM;
		stripe->chunks = chunks;
		stripe->capacity = capacity;
	}
	if (at == stripe->count) {
		stripe->chunks[at] = (struct idtable_chunk){ 0 };
		stripe->count++;
	}
	if (!stripe->chunks[at].slots && idtable_chunk_map(&stripe->chunks[at]) < 0)
		return -ENOMEM;
	return at;
}

/* Number of a free slot of the chunk, which has room; the slot is the caller's. */
static uint32_t idtable_slot_take(struct idtable_chunk *chunk)
{
	uint32_t number;

	if (chunk->first_free) {
		number = chunk->first_free - 1;
		chunk->first_free = chunk->slots[number].next_free;
	} else {
		number = chunk->fresh++;
		chunk->slots[number].generation = chunk->generation;
	}
	chunk->used++;
	return number;
}

static int idtable_add_locked(struct idtable_stripe *stripe, uint32_t stripe_number, void *object,
			      uint64_t *idp)
{
	int64_t at = idtable_find_room_locked(stripe);
	struct idtable_slot *slot;
	uint32_t number, index;

	if (at < 0)
		return (int)at;
	number = idtable_slot_take(&stripe->chunks[at]);
	slot = &stripe->chunks[at].slots[number];
	slot->object = object;
	index = ((uint32_t)at * IDTABLE_CHUNK_SLOTS + number) * IDTABLE_STRIPES + stripe_number + 1;
	*idp = (uint64_t)slot->generation << 32 | index;
	return 0;
}

int idtable_add(struct idtable *table, void *object, uint64_t *idp)
{
	uint32_t number = atomic_fetch_add_explicit(&table->next_stripe, 1, memory_order_relaxed) %
			  IDTABLE_STRIPES;
	struct idtable_stripe *stripe = &table->stripes[number];
	int r;

	assert(object);
	lock_mutex_lock(&stripe->lock);
	r = idtable_add_locked(stripe, number, object, idp);
	lock_mutex_unlock(&stripe->lock);
	if (r == 0)
		atomic_fetch_add_explicit(&table->used, 1, memory_order_relaxed);
	return r;
}

static struct idtable_stripe *idtable_stripe_of(struct idtable *table, uint64_t id)
{
	return &table->stripes[((uint32_t)id - 1) % IDTABLE_STRIPES];
}

/* The slot in use by @id and its chunk; NULL for a number that is no id (any more). */
static struct idtable_slot *idtable_slot_locked(struct idtable_stripe *stripe, uint64_t id,
						struct idtable_chunk **chunkp)
{
	uint32_t index = (uint32_t)id;
	uint32_t number, at;
	struct idtable_slot *slot;

	if (index == 0)
		return NULL;
	number = (index - 1) / IDTABLE_STRIPES;
	at = number / IDTABLE_CHUNK_SLOTS;
	if (at >= stripe->count || !stripe->chunks[at].slots)
		return NULL;
	*chunkp = &stripe->chunks[at];
	slot = &(*chunkp)->slots[number % IDTABLE_CHUNK_SLOTS];
	return slot->object && slot->generation == id >> 32 ? slot : NULL;
}

/* ---- restored ids ---- */

static struct idtable_guest **idtable_guest_bucket(struct idtable_guest **guests, uint64_t buckets,
						   uint64_t id)
{
	return &guests[hash_u64(id, 0) & (buckets - 1)];
}

/* Moves the guests to a table of @buckets, none of them being no table; keeps the old one when
 * out of memory. */
static void idtable_resize_guests_locked(struct idtable_stripe *stripe, uint64_t buckets)
{
	struct idtable_guest **resized = buckets ? calloc(buckets, sizeof(*resized)) : NULL;

	if (buckets && !resized)
		return;
	for (uint64_t i = 0; i < stripe->guest_buckets; i++) {
		while (stripe->guests[i]) {
			struct idtable_guest *guest = stripe->guests[i];
			struct idtable_guest **to =
				idtable_guest_bucket(resized, buckets, guest->id);

			stripe->guests[i] = guest->next;
			guest->next = *to;
			*to = guest;
		}
	}
	free(stripe->guests);
	stripe->guests = resized;
	stripe->guest_buckets = buckets;
}

static int idtable_add_guest_locked(struct idtable_stripe *stripe, uint64_t id, void *object)
{
	if (stripe->guest_count >= stripe->guest_buckets)
		idtable_resize_guests_locked(stripe, stripe->guest_buckets ?
							     2 * stripe->guest_buckets :
							     IDTABLE_GUEST_BUCKETS_MIN);
	struct idtable_guest *guest = stripe->guest_buckets ? malloc(sizeof(*guest)) : NULL;

	if (!guest)
		return -ENOMEM;
	struct idtable_guest **bucket =
		idtable_guest_bucket(stripe->guests, stripe->guest_buckets, id);

	*guest = (struct idtable_guest){ .next = *bucket, .id = id, .object = object };
	*bucket = guest;
	stripe->guest_count++;
	return 0;
}

/* Several can have one id, of which all but the last refuse to be held. */
static void *idtable_find_guest_locked(struct idtable_stripe *stripe, uint64_t id,
				       bool (*hold)(void *object))
{
	struct idtable_guest *guest =
		stripe->guests ? *idtable_guest_bucket(stripe->guests, stripe->guest_buckets, id) :
				 NULL;

	while (guest && (guest->id != id || !hold(guest->object)))
		guest = guest->next;
	return guest ? guest->object : NULL;
}

static bool idtable_remove_guest_locked(struct idtable_stripe *stripe, uint64_t id,
					const void *object)
{
	if (!stripe->guests)
		return false;
	struct idtable_guest **at = idtable_guest_bucket(stripe->guests, stripe->guest_buckets, id);

	while (*at && ((*at)->id != id || (*at)->object != object))
		at = &(*at)->next;
	if (!*at)
		return false;
	struct idtable_guest *guest = *at;

	*at = guest->next;
	free(guest);
	stripe->guest_count--;
	if (stripe->guest_count == 0)
		idtable_resize_guests_locked(stripe, 0);
	else if (stripe->guest_buckets > IDTABLE_GUEST_BUCKETS_MIN &&
		 stripe->guest_count < stripe->guest_buckets / 8)
		idtable_resize_guests_locked(stripe, stripe->guest_buckets / 2);
	return true;
}

/* ---- by id ---- */

static void *idtable_find_locked(struct idtable_stripe *stripe, uint64_t id,
				 bool (*hold)(void *object))
{
	struct idtable_chunk *chunk;
	struct idtable_slot *slot = idtable_slot_locked(stripe, id, &chunk);

	if (slot && hold(slot->object))
		return slot->object;
	return idtable_find_guest_locked(stripe, id, hold);
}

void *idtable_find(struct idtable *table, uint64_t id, bool (*hold)(void *object))
{
	struct idtable_stripe *stripe = idtable_stripe_of(table, id);

	lock_mutex_lock(&stripe->lock);
	void *object = idtable_find_locked(stripe, id, hold);

	lock_mutex_unlock(&stripe->lock);
	return object;
}

int idtable_restore(struct idtable *table, uint64_t id, void *object,
		    bool (*is_alive)(void *object))
{
	struct idtable_stripe *stripe = idtable_stripe_of(table, id);

	assert(object);
	lock_mutex_lock(&stripe->lock);
	int r = idtable_find_locked(stripe, id, is_alive) ?
			-EEXIST :
			idtable_add_guest_locked(stripe, id, object);

	lock_mutex_unlock(&stripe->lock);
	if (r == 0)
		atomic_fetch_add_explicit(&table->used, 1, memory_order_relaxed);
	return r;
}

static void idtable_remove_locked(struct idtable_stripe *stripe, struct idtable_chunk *chunk,
				  struct idtable_slot *slot)
{
	uint32_t at = (uint32_t)(chunk - stripe->chunks);

	slot->object = NULL;
	slot->generation++;
	/* Serial arithmetic: right also when the generation wraps. */
	if ((int32_t)(slot->generation - chunk->generation) > 0)
		chunk->generation = slot->generation;
	slot->next_free = chunk->first_free;
	chunk->first_free = (uint32_t)(slot - chunk->slots) + 1;
	chunk->used--;
	/* The first one stays: where ids come and go one at a time, each would map it anew. */
	if (chunk->used == 0 && at != 0)
		idtable_chunk_unmap(chunk);
	/* Low chunks fill first, so that high ones run empty. */
	stripe->room_from = MIN(stripe->room_from, at);
}

void idtable_remove(struct idtable *table, uint64_t id, const void *object)
{
	struct idtable_stripe *stripe = idtable_stripe_of(table, id);
	struct idtable_chunk *chunk = NULL;
	struct idtable_slot *slot;

	lock_mutex_lock(&stripe->lock);
	slot = idtable_slot_locked(stripe, id, &chunk);
	bool found = slot && slot->object == object;

	if (found)
		idtable_remove_locked(stripe, chunk, slot);
	else
		found = idtable_remove_guest_locked(stripe, id, object);
	lock_mutex_unlock(&stripe->lock);
	if (ENSURE(found))
		atomic_fetch_sub_explicit(&table->used, 1, memory_order_relaxed);
}

void idtable_trim(struct idtable *table)
{
	for (unsigned int i = 0; i < IDTABLE_STRIPES; i++) {
		struct idtable_stripe *stripe = &table->stripes[i];

		lock_mutex_lock(&stripe->lock);
		if (stripe->count && stripe->chunks[0].slots && stripe->chunks[0].used == 0)
			idtable_chunk_unmap(&stripe->chunks[0]);
		lock_mutex_unlock(&stripe->lock);
	}
}

uint64_t idtable_count(const struct idtable *table)
{
	return atomic_load_explicit(&table->used, memory_order_relaxed);
}

static void idtable_visit_chunk(const struct idtable_chunk *chunk,
				void (*visit)(void *object, void *context), void *context)
{
	for (uint32_t i = 0; chunk->slots && i < chunk->fresh; i++) {
		if (chunk->slots[i].object)
			visit(chunk->slots[i].object, context);
	}
}

static void idtable_visit_guests(const struct idtable_stripe *stripe,
				 void (*visit)(void *object, void *context), void *context)
{
	for (uint64_t i = 0; i < stripe->guest_buckets; i++) {
		for (struct idtable_guest *guest = stripe->guests[i]; guest; guest = guest->next)
			visit(guest->object, context);
	}
}

void idtable_for_each(struct idtable *table, void (*visit)(void *object, void *context),
		      void *context)
{
	for (unsigned int i = 0; i < IDTABLE_STRIPES; i++) {
		struct idtable_stripe *stripe = &table->stripes[i];

		lock_mutex_lock(&stripe->lock);
		for (uint32_t at = 0; at < stripe->count; at++)
			idtable_visit_chunk(&stripe->chunks[at], visit, context);
		idtable_visit_guests(stripe, visit, context);
		lock_mutex_unlock(&stripe->lock);
	}
}

/* ---- sweeping ---- */

/* The slots of one chunk. */
static void idtable_sweep_chunk(const struct idtable_stripe *stripe, struct idtable_hand *hand,
				bool (*visit)(void *object, void *context), void *context)
{
	uint32_t at = hand->slot / IDTABLE_CHUNK_SLOTS;
	const struct idtable_chunk *chunk = &stripe->chunks[at];
	uint32_t end = chunk->slots ? chunk->fresh : 0;

	for (uint32_t i = hand->slot % IDTABLE_CHUNK_SLOTS; i < end; i++) {
		hand->slot++;
		if (chunk->slots[i].object && !visit(chunk->slots[i].object, context))
			return;
	}
	hand->slot = (at + 1) * IDTABLE_CHUNK_SLOTS;
}

/* As many buckets of restored ids as a chunk has slots. */
static void idtable_sweep_guests(const struct idtable_stripe *stripe, struct idtable_hand *hand,
				 bool (*visit)(void *object, void *context), void *context)
{
	uint64_t end = MIN(stripe->guest_buckets, hand->bucket + IDTABLE_CHUNK_SLOTS);
	bool go_on = true;

	while (go_on && hand->bucket < end) {
		struct idtable_guest *guest = stripe->guests[hand->bucket++];

		/* A chain is short: the hand need not stop within one. */
		for (; guest; guest = guest->next)
			go_on &= visit(guest->object, context);
	}
}

bool idtable_sweep(struct idtable *table, struct idtable_hand *hand,
		   bool (*visit)(void *object, void *context), void *context)
{
	struct idtable_stripe *stripe = &table->stripes[hand->stripe];

	lock_mutex_lock(&stripe->lock);
	if (hand->slot < stripe->count * IDTABLE_CHUNK_SLOTS)
		idtable_sweep_chunk(stripe, hand, visit, context);
	else
		idtable_sweep_guests(stripe, hand, visit, context);
	bool is_done = hand->slot >= stripe->count * IDTABLE_CHUNK_SLOTS &&
		       hand->bucket >= stripe->guest_buckets;

	lock_mutex_unlock(&stripe->lock);
	if (is_done)
		*hand = (struct idtable_hand){ .stripe = (hand->stripe + 1) % IDTABLE_STRIPES };
	return !is_done || hand->stripe > 0;
}
