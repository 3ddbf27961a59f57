/* SPDX-License-Identifier: MIT */
/*
 * A bounded set of open descriptors: a clock (second chance) over the open
 * slots.  A slot changes between open and closed only under the cache's lock;
 * pinning races with eviction through `pins` alone (0 -> -1 against n -> n + 1).
 */
#include "core/fdcache.h"

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <unistd.h>

#include "sys/shortage.h"

/* How many are closed at once, so that others need not ask right after. */
#define FDCACHE_ROOM 16

void fdslot_init(struct fdslot *slot)
{
	atomic_init(&slot->pins, -1);
	atomic_init(&slot->used, false);
	slot->fd = -1;
	list_init(&slot->ring);
}

int fdslot_pin(struct fdslot *slot)
{
	int32_t pins = atomic_load_explicit(&slot->pins, memory_order_relaxed);

	while (pins >= 0) {
		/* acquire: slot->fd was written before pins became non-negative */
		if (atomic_compare_exchange_weak_explicit(&slot->pins, &pins, pins + 1,
							  memory_order_acquire,
							  memory_order_relaxed)) {
			atomic_store_explicit(&slot->used, true, memory_order_relaxed);
			return slot->fd;
		}
	}
	return -1;
}

void fdslot_unpin(struct fdslot *slot)
{
	int32_t pins = atomic_fetch_sub_explicit(&slot->pins, 1, memory_order_release);

	assert(pins > 0);
	(void)pins;
}

/* Closes one slot if nobody uses it; returns its descriptor, or -1. */
static int fdcache_evict_locked(struct fdcache *cache, struct fdslot *slot)
{
	int32_t unpinned = 0;

	if (!atomic_compare_exchange_strong_explicit(&slot->pins, &unpinned, -1,
						     memory_order_acquire, memory_order_relaxed))
		return -1;
	list_remove(&slot->ring);
	cache->open--;
	int fd = slot->fd;

	slot->fd = -1;
	return fd;
}

/* Turns the clock until a descriptor is free; -1 after two rounds without one. */
static int fdcache_reclaim_locked(struct fdcache *cache)
{
	for (unsigned int steps = 2 * cache->open; steps; steps--) {
		struct fdslot *slot = list_entry(cache->ring.next, struct fdslot, ring);

		list_remove(&slot->ring);
		list_add_tail(&cache->ring, &slot->ring);
		if (atomic_exchange_explicit(&slot->used, false, memory_order_relaxed))
			continue;
		int fd = fdcache_evict_locked(cache, slot);

		if (fd >= 0)
			return fd;
	}
	return -1;
}

/* Closes up to @count; how many there were. */
static unsigned int fdcache_close(struct fdcache *cache, unsigned int count)
{
	unsigned int closed = 0;

	for (; closed < count; closed++) {
		lock_mutex_lock(&cache->lock);
		int fd = fdcache_reclaim_locked(cache);

		lock_mutex_unlock(&cache->lock);
		if (fd < 0)
			break;
		close(fd);
	}
	return closed;
}

/* When the process has no descriptor left. */
static bool fdcache_make_room(void *context)
{
	return fdcache_close(context, FDCACHE_ROOM) > 0;
}

void fdcache_trim(struct fdcache *cache)
{
	fdcache_close(cache, UINT_MAX);
}

void fdcache_init(struct fdcache *cache, unsigned int max)
{
	lock_mutex_init(&cache->lock, LOCK_RANK_FDCACHE);
	list_init(&cache->ring);
	cache->open = 0;
	cache->max = max;
	sys_shortage_set(fdcache_make_room, cache);
}

void fdcache_deinit(struct fdcache *cache)
{
	assert(list_is_empty(&cache->ring));
	sys_shortage_clear(cache);
	lock_mutex_deinit(&cache->lock);
}

int fdslot_install(struct fdcache *cache, struct fdslot *slot, int fd)
{
	int surplus = -1;

	lock_mutex_lock(&cache->lock);
	int winner = fdslot_pin(slot);

	if (winner >= 0) {
		surplus = fd;
	} else {
		if (cache->open >= cache->max)
			surplus = fdcache_reclaim_locked(cache);
		slot->fd = winner = fd;
		list_add_tail(&cache->ring, &slot->ring);
		cache->open++;
		atomic_store_explicit(&slot->pins, 1, memory_order_release);
	}
	lock_mutex_unlock(&cache->lock);
	if (surplus >= 0)
		close(surplus);
	return winner;
}

void fdslot_close(struct fdcache *cache, struct fdslot *slot)
{
	lock_mutex_lock(&cache->lock);
	int fd = fdcache_evict_locked(cache, slot);

	assert(fd >= 0 || atomic_load(&slot->pins) == -1);
	lock_mutex_unlock(&cache->lock);
	if (fd >= 0)
		close(fd);
}
