/* SPDX-License-Identifier: MIT */
/*
 * A bounded set of open descriptors.
 *
 * Whatever the core reaches by descriptor can be opened again from its parent,
 * so descriptors are only a cache: slots lie in their owners, and when the
 * budget is spent the least recently used slot that nobody has pinned is
 * closed.  Pinning an open slot takes no lock.
 */
#ifndef VENEER_CORE_FDCACHE_H
#define VENEER_CORE_FDCACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"

struct fdcache {
	struct lock_mutex lock; /* guards ring, open and every slot's change of state */
	struct list ring; /* open slots; the hand of the clock is its head */
	unsigned int open, max;
};

struct fdslot {
	_Atomic int32_t pins; /* -1: closed; else how many hold it open */
	_Atomic bool used; /* since the hand last passed */
	int fd;
	struct list ring;
};

/* From now on descriptors of the cache are given back when the process has none left. */
void fdcache_init(struct fdcache *cache, unsigned int max);
/* Every slot must be closed (asserted). */
void fdcache_deinit(struct fdcache *cache);

/* Closes every descriptor that nobody holds. */
void fdcache_trim(struct fdcache *cache);

void fdslot_init(struct fdslot *slot);
/* The descriptor, pinned, or -1 if the slot is closed. Never blocks. */
int fdslot_pin(struct fdslot *slot);
void fdslot_unpin(struct fdslot *slot);
/*
 * Gives the closed slot the descriptor @fd, which the cache now owns, and pins it. If another
 * thread was first, @fd is closed and theirs returned, pinned.
 */
int fdslot_install(struct fdcache *cache, struct fdslot *slot, int fd);
/* Closes the slot, if open; nobody may have it pinned or pin it meanwhile. */
void fdslot_close(struct fdcache *cache, struct fdslot *slot);

#endif
