/* SPDX-License-Identifier: MIT */
/*
 * What layers will be asked for, asked ahead by other threads.
 *
 * Looking up all names of a directory for READDIRPLUS is one thread's work,
 * most of which, the first time, is spent in the layer's file system reading
 * inodes.  Where that is seen to be slow, other threads stat the rest of the
 * names from their end, and when the first one gets there it finds them in the
 * kernel's caches.  On two processors this halves the time; on a disk or a
 * network file system that answers several at once it does more.
 *
 * So it is with a name that is looked up in many layers, and with a directory
 * of many layers that is listed: one layer after the other has to be read from
 * its disk.
 *
 * Nothing depends on it: it makes no nodes, holds no lock of the union, and
 * what it finds is thrown away.
 */
#ifndef VENEER_CORE_AHEAD_H
#define VENEER_CORE_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"

struct core;
struct ldir;

#define AHEAD_THREADS_MAX 4

struct ahead {
	struct lock_mutex lock; /* LOCK_RANK_LEAF; guards the rest */
	pthread_cond_t wake; /* a job came, or the end */
	struct list jobs;
	pthread_t threads[AHEAD_THREADS_MAX];
	unsigned int count, idle; /* threads */
	unsigned int queued; /* jobs in the list */
	bool is_stopping;
	bool has_cpus; /* more than one; constant */
};

void ahead_init(struct ahead *ahead);
/* Ends the threads; no call that may start a job runs. */
void ahead_deinit(struct ahead *ahead);

/* Times the lookups of what one read of a directory gave. */
struct ahead_watch {
	uint64_t since_ns; /* 0: no more */
	unsigned int count;
};

void ahead_watch_start(struct ahead_watch *watch);
/*
 * One more name was looked up. If that has been slow so far, the names in @buf from @at to @end
 * (of sys_getdents(), in @ldir) are asked for by others; that may fail, which is not told.
 */
void ahead_watch_step(struct ahead_watch *watch, struct core *core, struct ldir *ldir,
		      const char *buf, size_t at, size_t end);

struct ahead_job;

/* Times a walk through directories of which each is asked for the same. */
struct ahead_dirs {
	bool is_timed;
	unsigned int count;
	uint64_t since_ns, work_ns; /* at the first: of the clock, and of this thread's work */
	struct ahead_job *job; /* counted; or NULL */
};

/* The walk is through at most @count directories. ahead_dirs_end() follows. */
void ahead_dirs_start(struct ahead_dirs *dirs, unsigned int count);
/* One more was asked. True, once, if they keep it waiting: ahead_dirs_ask() is worth it. */
bool ahead_dirs_step(struct ahead_dirs *dirs);
/* Others ask the @count directories in @rest: for @name, or (NULL) for all their names. */
void ahead_dirs_ask(struct ahead_dirs *dirs, struct core *core, struct ldir *const *rest,
		    unsigned int count, const char *name);
/* What nobody has asked for by now need not be. */
void ahead_dirs_end(struct ahead_dirs *dirs, struct core *core);

#endif
