/* SPDX-License-Identifier: MIT */
/*
 * A region is an aligned piece of memory that begins with its description, so
 * that an object's address tells which it is in.
 */
#include "base/pool.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

/* Small, as one object keeps all of it; large enough that mapping it does not count. */
#define POOL_REGION_SIZE ((size_t)16 << 10)

#if defined(__SANITIZE_ADDRESS__)
#define POOL_USES_MALLOC true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_USES_MALLOC true
#endif
#endif
#ifndef POOL_USES_MALLOC
/* Where a sanitizer looks after each object by itself. */
#define POOL_USES_MALLOC false
#endif

struct pool_region {
	struct list link; /* of the class, while it has room */
	void *first_free; /* freed objects, each of which begins with a pointer to the next */
	uint32_t used; /* objects in use */
	uint32_t fresh; /* offset from which on nothing was ever used: it is zero */
} __attribute__((aligned(POOL_ALIGN)));

static size_t pool_rounded(size_t size)
{
	return (size + POOL_ALIGN - 1) / POOL_ALIGN * POOL_ALIGN;
}

static struct pool_class *pool_class_of(struct pool *pool, size_t size)
{
	assert(size > 0);
	return &pool->classes[pool_rounded(size) / POOL_ALIGN - 1];
}

static struct pool_region *pool_region_of(void *object)
{
	return (void *)((uintptr_t)object & ~(POOL_REGION_SIZE - 1));
}

static bool pool_region_has_room(const struct pool_region *region, size_t size)
{
	return region->first_free || region->fresh + size <= POOL_REGION_SIZE;
}

/* Aligned to its size: twice as much is mapped, and what is too much is taken away. */
static struct pool_region *pool_region_map(void)
{
	unsigned char *all = mmap(NULL, 2 * POOL_REGION_SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)all & (POOL_REGION_SIZE - 1);
	struct pool_region *region = (void *)(all + before);

	if (before)
		munmap(all, before);
	munmap(all + before + POOL_REGION_SIZE, POOL_REGION_SIZE - before);
	region->fresh = sizeof(*region);
	return region;
}

static void *pool_region_take(struct pool_region *region, size_t size)
{
	void *object = region->first_free;

	region->used++;
	if (!object) {
		object = (unsigned char *)region + region->fresh;
		region->fresh += size;
		return object;
	}
	memcpy(&region->first_free, object, sizeof(region->first_free));
	memset(object, 0, size);
	return object;
}

/* A region with room, the first of the list; NULL: out of memory. */
static struct pool_region *pool_find_room_locked(struct pool_class *class)
{
	if (!list_is_empty(&class->regions))
		return list_entry(class->regions.next, struct pool_region, link);
	struct pool_region *region = pool_region_map();

	if (!region)
		return NULL;
	list_add_tail(&class->regions, &region->link);
	class->empty++;
	return region;
}

static void *pool_alloc_locked(struct pool_class *class, size_t size)
{
	struct pool_region *region = pool_find_room_locked(class);

	if (!region)
		return NULL;
	if (region->used == 0)
		class->empty--;
	void *object = pool_region_take(region, size);

	if (!pool_region_has_room(region, size))
		list_remove(&region->link);
	return object;
}

void *pool_alloc(struct pool *pool, size_t size)
{
	if (POOL_USES_MALLOC || size > POOL_SIZE_MAX)
		return calloc(1, size);
	struct pool_class *class = pool_class_of(pool, size);

	lock_mutex_lock(&class->lock);
	void *object = pool_alloc_locked(class, pool_rounded(size));

	lock_mutex_unlock(&class->lock);
	return object;
}

/* The region that goes, now that @object does; or NULL. */
static struct pool_region *pool_free_locked(struct pool_class *class, void *object, size_t size)
{
	struct pool_region *region = pool_region_of(object);

	if (!pool_region_has_room(region, size))
		list_add_tail(&class->regions, &region->link);
	memcpy(object, &region->first_free, sizeof(region->first_free));
	region->first_free = object;
	if (--region->used > 0)
		return NULL;
	/* One stays, for who takes and frees one object again and again. */
	if (class->empty == 0) {
		class->empty++;
		return NULL;
	}
	list_remove(&region->link);
	return region;
}

void pool_free(struct pool *pool, void *object, size_t size)
{
	if (!object)
		return;
	if (POOL_USES_MALLOC || size > POOL_SIZE_MAX) {
		free(object);
		return;
	}
	struct pool_class *class = pool_class_of(pool, size);

	lock_mutex_lock(&class->lock);
	struct pool_region *unused = pool_free_locked(class, object, pool_rounded(size));

	lock_mutex_unlock(&class->lock);
	if (unused)
		munmap(unused, POOL_REGION_SIZE);
}

/* Unmaps the region that nothing is in, if there is one. */
static void pool_class_trim_locked(struct pool_class *class)
{
	struct list *at;

	list_for_each(at, &class->regions) {
		struct pool_region *region = list_entry(at, struct pool_region, link);

		if (region->used == 0) {
			list_remove(&region->link);
			munmap(region, POOL_REGION_SIZE);
			class->empty--;
			return;
		}
	}
}

void pool_trim(struct pool *pool)
{
	for (size_t i = 0; i < ARRAY_SIZE(pool->classes); i++) {
		struct pool_class *class = &pool->classes[i];

		lock_mutex_lock(&class->lock);
		if (class->empty > 0)
			pool_class_trim_locked(class);
		lock_mutex_unlock(&class->lock);
	}
}

void pool_init(struct pool *pool)
{
	for (size_t i = 0; i < ARRAY_SIZE(pool->classes); i++) {
		struct pool_class *class = &pool->classes[i];

		lock_mutex_init(&class->lock, LOCK_RANK_LEAF);
		list_init(&class->regions);
		class->empty = 0;
	}
}

void pool_deinit(struct pool *pool)
{
	pool_trim(pool);
	for (size_t i = 0; i < ARRAY_SIZE(pool->classes); i++) {
		assert(list_is_empty(&pool->classes[i].regions));
		lock_mutex_deinit(&pool->classes[i].lock);
	}
}
