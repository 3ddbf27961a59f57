/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/util.h"

/* These calls fail only on a programmer's error (destroyed lock, deadlock with oneself). */
static void lock_check(int error)
{
	assert(error == 0);
	(void)error;
}

#ifdef VENEER_LOCK_RANKS

/* More than any operation holds: the deepest is a rename over directories. */
#define LOCK_HELD_MAX 64

static const char *const lock_rank_names[] = {
	[LOCK_RANK_RENAME] = "RENAME",	 [LOCK_RANK_HANDLE] = "HANDLE", [LOCK_RANK_DIR] = "DIR",
	[LOCK_RANK_NODE] = "NODE",	 [LOCK_RANK_TABLE] = "TABLE",	[LOCK_RANK_LDIR] = "LDIR",
	[LOCK_RANK_FDCACHE] = "FDCACHE", [LOCK_RANK_LEAF] = "LEAF",
};

struct lock_held {
	const void *lock;
	enum lock_rank rank;
};

static _Thread_local struct lock_held lock_held[LOCK_HELD_MAX];
static _Thread_local unsigned int lock_held_count;

static _Noreturn void lock_violation(const char *what, enum lock_rank held, enum lock_rank wanted)
{
	fprintf(stderr, "veneer: lock order: %s: %s held, %s wanted\n", what, lock_rank_names[held],
		lock_rank_names[wanted]);
	abort();
}

/* The lock is held: what is wanted from here on is compared with it. */
static void lock_rank_note(const void *lock, enum lock_rank rank)
{
	if (lock_held_count == LOCK_HELD_MAX)
		lock_violation("too many locks", rank, rank);
	lock_held[lock_held_count++] = (struct lock_held){ .lock = lock, .rank = rank };
}

/* Called before waiting, so that a wrong order is found even when it does not deadlock. */
static void lock_rank_push(const void *lock, enum lock_rank rank)
{
	for (unsigned int i = 0; i < lock_held_count; i++) {
		const struct lock_held *held = &lock_held[i];

		if (held->lock == lock)
			lock_violation("taken twice", held->rank, rank);
		if (held->rank > rank)
			lock_violation("rank too low", held->rank, rank);
		if (held->rank == rank && rank != LOCK_RANK_DIR)
			lock_violation("two of one rank", held->rank, rank);
	}
	lock_rank_note(lock, rank);
}

static void lock_rank_pop(const void *lock, enum lock_rank rank)
{
	unsigned int i = lock_held_count;

	while (i > 0 && lock_held[i - 1].lock != lock)
		i--;
	if (i == 0)
		lock_violation("not held", rank, rank);
	/* Locks need not be released in reverse; the order of the list means nothing. */
	lock_held[i - 1] = lock_held[--lock_held_count];
}

#define lock_set_rank(lock, value) ((lock)->rank = (value))
#define lock_push(lock) lock_rank_push((lock), (lock)->rank)
#define lock_note(lock) lock_rank_note((lock), (lock)->rank)
#define lock_pop(lock) lock_rank_pop((lock), (lock)->rank)

#else

#define lock_set_rank(lock, value) ((void)(value))
#define lock_push(lock) ((void)0)
#define lock_note(lock) ((void)0)
#define lock_pop(lock) ((void)0)

#endif

void lock_mutex_init(struct lock_mutex *lock, enum lock_rank rank)
{
	lock_check(pthread_mutex_init(&lock->mutex, NULL));
	lock_set_rank(lock, rank);
}

void lock_mutex_deinit(struct lock_mutex *lock)
{
	lock_check(pthread_mutex_destroy(&lock->mutex));
}

void lock_mutex_lock(struct lock_mutex *lock)
{
	lock_push(lock);
	lock_check(pthread_mutex_lock(&lock->mutex));
}

void lock_mutex_unlock(struct lock_mutex *lock)
{
	lock_pop(lock);
	lock_check(pthread_mutex_unlock(&lock->mutex));
}

void lock_rw_init(struct lock_rw *lock, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	lock_check(pthread_rwlockattr_init(&attr));
	/* The plain PREFER_WRITER kind still prefers readers (glibc keeps it recursive). */
	lock_check(
		pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	lock_check(pthread_rwlock_init(&lock->rwlock, &attr));
	lock_check(pthread_rwlockattr_destroy(&attr));
	lock_set_rank(lock, rank);
}

void lock_rw_deinit(struct lock_rw *lock)
{
	lock_check(pthread_rwlock_destroy(&lock->rwlock));
}

void lock_rw_read(struct lock_rw *lock)
{
	int error;

	lock_push(lock);
	/* EAGAIN: more readers than the counter holds; one of them will leave. */
	do
		error = pthread_rwlock_rdlock(&lock->rwlock);
	while (error == EAGAIN);
	lock_check(error);
}

bool lock_rw_try_read(struct lock_rw *lock)
{
	if (pthread_rwlock_tryrdlock(&lock->rwlock) != 0)
		return false;
	lock_note(lock);
	return true;
}

void lock_rw_read_unlock(struct lock_rw *lock)
{
	lock_pop(lock);
	lock_check(pthread_rwlock_unlock(&lock->rwlock));
}

void lock_rw_write(struct lock_rw *lock)
{
	lock_push(lock);
	lock_check(pthread_rwlock_wrlock(&lock->rwlock));
}

void lock_rw_write_unlock(struct lock_rw *lock)
{
	lock_pop(lock);
	lock_check(pthread_rwlock_unlock(&lock->rwlock));
}

void lock_cond_wait(pthread_cond_t *cond, struct lock_mutex *lock)
{
	pthread_cond_wait(cond, &lock->mutex);
}

void lock_cond_wait_ms(pthread_cond_t *cond, struct lock_mutex *lock, unsigned int timeout_ms)
{
	struct timespec until;
	int error;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	/* Monotonic: a step of the wall clock must not make a waiter sleep for years. */
	error = pthread_cond_clockwait(cond, &lock->mutex, CLOCK_MONOTONIC, &until);
	lock_check(error == ETIMEDOUT ? 0 : error);
}
