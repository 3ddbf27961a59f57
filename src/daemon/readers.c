/* SPDX-License-Identifier: MIT */
#include "daemon/readers.h"

#include <stdatomic.h>

#include "base/hash.h"

/* So many lookups tell that attributes are wanted. */
#define READERS_CONVINCED 2
/* One listing in so many is a trial, the first one included. */
#define READERS_TRIAL_EVERY 8
#define READERS_TRIAL_FILES 2
/* The first answer to somebody not known: who looks at each name in turn is found out by these. */
#define READERS_FIRST_MAX 16

void readers_init(struct readers *readers)
{
	*readers = (struct readers){ 0 };
	for (unsigned int i = 0; i < READERS_COUNT; i++)
		lock_mutex_init(&readers->items[i].lock, LOCK_RANK_LEAF);
}

void readers_deinit(struct readers *readers)
{
	for (unsigned int i = 0; i < READERS_COUNT; i++)
		lock_mutex_deinit(&readers->items[i].lock);
}

static struct reader *readers_find(struct readers *readers, pid_t pid)
{
	return &readers->items[hash_u64((uint64_t)pid, 0) % READERS_COUNT];
}

/* What to think of somebody who was not seen before. */
static bool readers_expect(struct readers *readers, const struct reader *except)
{
	struct reader *tried = atomic_load(&readers->tried);

	/* Its thread may have ended since, and will not be judged by its next listing. */
	if (tried && tried != except) {
		lock_mutex_lock(&tried->lock);
		if (tried->on_trial && !tried->lookups)
			atomic_store(&readers->wants, false);
		lock_mutex_unlock(&tried->lock);
		atomic_store(&readers->tried, NULL);
	}
	return atomic_load(&readers->wants);
}

static void reader_take_over(struct reader *reader, pid_t pid, bool wants)
{
	atomic_store(&reader->pid, pid);
	reader->wants = wants;
	reader->on_trial = reader->judged = false;
	reader->listings = 0;
	reader->lookups = 0;
}

/* It begins to list; its lock is held. */
static void reader_begin(struct readers *readers, struct reader *reader, uint64_t directory,
			 struct readers_plan *plan)
{
	if (reader->on_trial && !reader->lookups) {
		reader->judged = true;
		reader->wants = false;
		atomic_store(&readers->wants, false);
	}
	if (reader->wants)
		reader->lookups = 0;
	reader->on_trial = false;
	atomic_store(&reader->directory, directory);
	if (!reader->wants)
		plan->max = reader->judged ? 0 : READERS_FIRST_MAX;
	else if (reader->listings % READERS_TRIAL_EVERY == 0)
		plan->plain = READERS_TRIAL_FILES;
	if (!plan->plain) /* a trial that finds no file is tried again */
		reader->listings++;
}

void readers_plan(struct readers *readers, pid_t pid, uint64_t directory, bool from_start,
		  struct readers_plan *plan)
{
	struct reader *reader = readers_find(readers, pid);
	bool is_new = atomic_load(&reader->pid) != pid;
	bool expected = is_new && readers_expect(readers, reader);

	*plan = (struct readers_plan){ 0 };
	lock_mutex_lock(&reader->lock);
	if (is_new)
		reader_take_over(reader, pid, expected);
	if (from_start)
		reader_begin(readers, reader, directory, plan);
	plan->lookup = reader->wants;
	lock_mutex_unlock(&reader->lock);
}

void readers_note_trial(struct readers *readers, pid_t pid)
{
	struct reader *reader = readers_find(readers, pid);

	lock_mutex_lock(&reader->lock);
	if (atomic_load(&reader->pid) == pid) {
		reader->on_trial = true;
		reader->listings += reader->wants;
		atomic_store(&readers->tried, reader);
	}
	lock_mutex_unlock(&reader->lock);
}

void readers_note_lookup(struct readers *readers, pid_t pid, uint64_t directory)
{
	struct reader *reader = readers_find(readers, pid);

	if (atomic_load_explicit(&reader->pid, memory_order_relaxed) != pid ||
	    atomic_load_explicit(&reader->directory, memory_order_relaxed) != directory)
		return;
	lock_mutex_lock(&reader->lock);
	reader->lookups++;
	if (!reader->wants && reader->lookups >= READERS_CONVINCED) {
		reader->wants = true;
		reader->judged = false;
		atomic_store(&readers->wants, true);
	}
	lock_mutex_unlock(&reader->lock);
}
