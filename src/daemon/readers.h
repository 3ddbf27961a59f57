/* SPDX-License-Identifier: MIT */
/*
 * Which listings come with attributes.
 *
 * READDIRPLUS looks up every name it lists, which costs several times the
 * name: time well spent if the caller goes on to ask for each, and wasted on
 * one who wanted names.  The kernel does not know, and always asks for both.
 * So a caller is judged by what it did with the listing before: who looked
 * up what was listed without attributes will get them from then on, until a
 * trial (a few names without) finds that they are not asked for any more.
 */
#ifndef VENEER_DAEMON_READERS_H
#define VENEER_DAEMON_READERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/lock.h"

#define READERS_COUNT 64

/* One thread that lists directories; another one that hashes alike takes its place. */
struct reader {
	struct lock_mutex lock; /* LOCK_RANK_LEAF; what is atomic may be read without */
	_Atomic pid_t pid;
	_Atomic uint64_t directory; /* node listed last */
	unsigned int lookups; /* of what was in it, by now */
	unsigned int listings;
	bool wants; /* attributes */
	bool on_trial; /* files were listed without, and it is not known yet what it makes of it */
	bool judged; /* it was seen to want names alone */
};

struct readers {
	struct reader items[READERS_COUNT];
	_Atomic bool wants; /* what was found out last, of whoever: for those not known yet */
	struct reader *_Atomic tried; /* who was put on trial last, or NULL */
};

/* What one answer shall hold. */
struct readers_plan {
	bool lookup; /* attributes */
	unsigned int plain; /* so many files at first without */
	unsigned int max; /* entries; 0: as many as there is room for */
};

void readers_init(struct readers *readers);
void readers_deinit(struct readers *readers);

/* The thread @pid reads @directory, from the start or further on. */
void readers_plan(struct readers *readers, pid_t pid, uint64_t directory, bool from_start,
		  struct readers_plan *plan);
/* Before the answer goes out: it has files without attributes. */
void readers_note_trial(struct readers *readers, pid_t pid);
/* A file in @directory was looked up by name. */
void readers_note_lookup(struct readers *readers, pid_t pid, uint64_t directory);

#endif
