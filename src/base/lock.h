/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and reader-writer locks with a rank.
 *
 * A thread may only take a lock whose rank is higher than that of every lock
 * it holds (equal ranks only where the rank says so: directory locks, whose
 * order docs/locking.md gives).  With VENEER_LOCK_RANKS (the sanitizer builds)
 * a violation aborts with both names; otherwise the ranks cost nothing.
 */
#ifndef VENEER_BASE_LOCK_H
#define VENEER_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Lowest first: the order in which locks may be nested. docs/locking.md explains each. */
enum lock_rank {
	LOCK_RANK_RENAME, /* one directory move at a time: ancestry is stable */
	LOCK_RANK_HANDLE, /* one open directory's stream */
	LOCK_RANK_DIR, /* the names of one directory; several may be held, see locking.md */
	LOCK_RANK_INDEX, /* a change of an indexed file's number of names */
	LOCK_RANK_NODE, /* stripes: fields of one node */
	LOCK_RANK_TABLE, /* stripes: name, identity and id tables */
	LOCK_RANK_LDIR, /* where a layer directory is reachable */
	LOCK_RANK_FDCACHE, /* the descriptor cache's ring */
	LOCK_RANK_LEAF, /* anything that takes no other lock inside */
};

struct lock_mutex {
	pthread_mutex_t mutex;
#ifdef VENEER_LOCK_RANKS
	enum lock_rank rank;
#endif
};

struct lock_rw {
	pthread_rwlock_t rwlock;
#ifdef VENEER_LOCK_RANKS
	enum lock_rank rank;
#endif
};

void lock_mutex_init(struct lock_mutex *lock, enum lock_rank rank);
void lock_mutex_deinit(struct lock_mutex *lock);
void lock_mutex_lock(struct lock_mutex *lock);
void lock_mutex_unlock(struct lock_mutex *lock);

/* Writers are preferred, so a stream of readers cannot starve a change. */
void lock_rw_init(struct lock_rw *lock, enum lock_rank rank);
void lock_rw_deinit(struct lock_rw *lock);
void lock_rw_read(struct lock_rw *lock);
/* False instead of waiting. Of any rank: who does not wait is in nobody's way. */
bool lock_rw_try_read(struct lock_rw *lock);
void lock_rw_read_unlock(struct lock_rw *lock);
void lock_rw_write(struct lock_rw *lock);
void lock_rw_write_unlock(struct lock_rw *lock);

/* Waits on @cond with @lock held; spurious wake-ups happen. */
void lock_cond_wait(pthread_cond_t *cond, struct lock_mutex *lock);
/* The same for at most @timeout_ms. */
void lock_cond_wait_ms(pthread_cond_t *cond, struct lock_mutex *lock, unsigned int timeout_ms);

#endif
