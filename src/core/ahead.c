/* SPDX-License-Identifier: MIT */
#include "core/ahead.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/internal.h"
#include "sys/dir.h"
#include "sys/file.h"

/* So many lookups are timed. From cached inodes each takes 3 us or less, from a cached disk
 * three times that. */
#define AHEAD_SAMPLE 8
#define AHEAD_SLOW_NS 5000
/* They wait for a device: several of them do so better. */
#define AHEAD_WAITS_NS 40000
/* For fewer names it takes longer to wake somebody. */
#define AHEAD_NAMES_MIN 24
#define AHEAD_NAMES_MAX 1024
#define AHEAD_STACK_SIZE (64U * 1024)

struct ahead_job {
	struct list link; /* in ahead->jobs until somebody finds no name left */
	unsigned int refs; /* ahead->lock */
	struct core *core;
	struct ldir *ldir; /* counted */
	_Atomic unsigned int left; /* names not taken yet */
	uint16_t names[AHEAD_NAMES_MAX]; /* where each begins in text */
	char text[];
};

void ahead_init(struct ahead *ahead)
{
	*ahead = (struct ahead){ 0 };
	lock_mutex_init(&ahead->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&ahead->wake, NULL);
	list_init(&ahead->jobs);
}

/* ---- jobs ---- */

static void ahead_job_free(struct ahead_job *job)
{
	ldir_unref(&job->core->fds, job->ldir);
	free(job);
}

/* The names of the records between @at and @end; NULL: too few, or out of memory. */
static struct ahead_job *ahead_job_new(struct core *core, struct ldir *ldir, const char *buf,
				       size_t at, size_t end)
{
	struct ahead_job *job;
	struct sys_dirent entry;
	unsigned int count = 0;
	size_t used = 0;

	if (end - at > UINT16_MAX)
		return NULL;
	/* A name is shorter than its record. */
	job = malloc(sizeof(*job) + (end - at));
	if (!job)
		return NULL;
	while (count < AHEAD_NAMES_MAX && sys_dirent_next(buf, end, &at, &entry) > 0) {
		memcpy(job->text + used, entry.name, entry.name_length + 1U);
		job->names[count++] = (uint16_t)used;
		used += entry.name_length + 1U;
	}
	if (count < AHEAD_NAMES_MIN) {
		free(job);
		return NULL;
	}
	atomic_init(&job->left, count);
	job->refs = 1; /* the list's */
	job->core = core;
	job->ldir = ldir_ref(ldir);
	return job;
}

/* The next name, from the end; NULL: there is none. */
static const char *ahead_job_take(struct ahead_job *job)
{
	unsigned int left = atomic_load(&job->left);

	while (left && !atomic_compare_exchange_weak(&job->left, &left, left - 1))
		;
	return left ? job->text + job->names[left - 1] : NULL;
}

static void ahead_job_run(struct ahead_job *job)
{
	int fd = ldir_pin(&job->core->fds, job->ldir);
	const char *name;
	struct statx st;

	while ((name = ahead_job_take(job))) {
		if (fd >= 0)
			sys_stat_local(fd, name, STATX_BASIC_STATS, &st);
	}
	if (fd >= 0)
		ldir_unpin(job->ldir);
}

/* ---- threads ---- */

/* The first job, with a reference; NULL: the end. */
static struct ahead_job *ahead_wait(struct ahead *ahead)
{
	struct ahead_job *job = NULL;

	lock_mutex_lock(&ahead->lock);
	ahead->idle++;
	while (list_is_empty(&ahead->jobs) && !ahead->is_stopping)
		lock_cond_wait(&ahead->wake, &ahead->lock);
	ahead->idle--;
	if (!ahead->is_stopping) {
		job = list_entry(ahead->jobs.next, struct ahead_job, link);
		job->refs++;
	}
	lock_mutex_unlock(&ahead->lock);
	return job;
}

/* The job has no names left. */
static void ahead_finish(struct ahead *ahead, struct ahead_job *job)
{
	lock_mutex_lock(&ahead->lock);
	if (!list_is_empty(&job->link)) {
		list_remove(&job->link);
		job->refs--;
	}
	bool is_last = --job->refs == 0;

	lock_mutex_unlock(&ahead->lock);
	if (is_last)
		ahead_job_free(job);
}

static void *ahead_main(void *arg)
{
	struct ahead *ahead = arg;
	struct ahead_job *job;

	while ((job = ahead_wait(ahead))) {
		ahead_job_run(job);
		ahead_finish(ahead, job);
	}
	return NULL;
}

/* Deaf to signals, which are for the main thread. The lock is held. */
static void ahead_start_thread(struct ahead *ahead)
{
	pthread_attr_t attr;
	sigset_t all, old;

	if (pthread_attr_init(&attr) != 0)
		return;
	pthread_attr_setstacksize(&attr, AHEAD_STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&ahead->threads[ahead->count], &attr, ahead_main, ahead) == 0)
		ahead->count++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

void ahead_deinit(struct ahead *ahead)
{
	lock_mutex_lock(&ahead->lock);
	ahead->is_stopping = true;
	for (struct list *at = ahead->jobs.next; at != &ahead->jobs; at = at->next)
		atomic_store(&list_entry(at, struct ahead_job, link)->left, 0);
	pthread_cond_broadcast(&ahead->wake);
	lock_mutex_unlock(&ahead->lock);
	for (unsigned int i = 0; i < ahead->count; i++)
		pthread_join(ahead->threads[i], NULL);
	while (!list_is_empty(&ahead->jobs)) {
		struct ahead_job *job = list_entry(ahead->jobs.next, struct ahead_job, link);

		list_remove(&job->link);
		ahead_job_free(job);
	}
	pthread_cond_destroy(&ahead->wake);
	lock_mutex_deinit(&ahead->lock);
}

/* At most @threads work on it, started on first use. */
static void ahead_submit(struct ahead *ahead, struct ahead_job *job, unsigned int threads)
{
	lock_mutex_lock(&ahead->lock);
	list_add_tail(&ahead->jobs, &job->link);
	for (unsigned int i = 0; i < threads; i++) {
		if (ahead->idle > i)
			pthread_cond_signal(&ahead->wake);
		else if (ahead->count < threads)
			ahead_start_thread(ahead);
	}
	bool has_none = ahead->count == 0;

	if (has_none)
		list_remove(&job->link);
	lock_mutex_unlock(&ahead->lock);
	if (has_none)
		ahead_job_free(job);
}

/* ---- when ---- */

static uint64_t ahead_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void ahead_watch_start(struct ahead_watch *watch)
{
	*watch = (struct ahead_watch){ .since_ns = ahead_now_ns() };
}

void ahead_watch_step(struct ahead_watch *watch, struct core *core, struct ldir *ldir,
		      const char *buf, size_t at, size_t end)
{
	if (!watch->since_ns || ++watch->count < AHEAD_SAMPLE)
		return;
	uint64_t each_ns = (ahead_now_ns() - watch->since_ns) / watch->count;

	watch->since_ns = 0;
	if (each_ns < AHEAD_SLOW_NS)
		return;
	bool waits = each_ns >= AHEAD_WAITS_NS;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (!waits && cpus < 2)
		return;
	struct ahead_job *job = ahead_job_new(core, ldir, buf, at, end);

	if (job)
		ahead_submit(&core->ahead, job, waits ? AHEAD_THREADS_MAX : 1);
}
