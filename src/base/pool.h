/* SPDX-License-Identifier: MIT */
/*
 * Memory for small objects of which there are many, that live long and go in
 * any order.
 *
 * Each size has regions of its own, and a region goes back to the system with
 * the last object in it.  malloc() keeps some of what a thread freed for that
 * thread, and so the page that it lies on: with a hundred pages for each, what
 * was tens of megabytes never becomes small again.
 */
#ifndef VENEER_BASE_POOL_H
#define VENEER_BASE_POOL_H

#include <stddef.h>

#include "base/list.h"
#include "base/lock.h"

#define POOL_ALIGN 16
/* Larger objects come from malloc(). */
#define POOL_SIZE_MAX 512

/* Objects of one size. */
struct pool_class {
	struct lock_mutex lock; /* LOCK_RANK_LEAF: guards the rest, and the regions */
	struct list regions; /* those with room, the one to use next first */
	unsigned int empty; /* of these: nothing is in them; at most one */
};

struct pool {
	struct pool_class classes[POOL_SIZE_MAX / POOL_ALIGN];
};

void pool_init(struct pool *pool);
/* Every object must have been freed (asserted). */
void pool_deinit(struct pool *pool);

/* Gives back what is kept for the next object. */
void pool_trim(struct pool *pool);

/* @size bytes, more than 0, all zero; NULL: out of memory. */
void *pool_alloc(struct pool *pool, size_t size);
/* Takes back what pool_alloc() gave for the same size. */
void pool_free(struct pool *pool, void *object, size_t size);

#endif
