/* SPDX-License-Identifier: MIT */
#include "core/ahead.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "core/internal.h"
#include "sys/cpu.h"
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
/* More wait only if the threads hang, as with a server that does not answer. */
#define AHEAD_JOBS_MAX 16
/* Directories: fewer are not worth it; so many are timed; more names of one are left to who lists it. */
#define AHEAD_DIRS_MIN 16
#define AHEAD_DIRS_SAMPLE 4
#define AHEAD_DIR_NAMES_MAX 4096

/* Things to ask for, by number. */
struct ahead_job {
	struct list link; /* in ahead->jobs until somebody finds nothing left */
	unsigned int refs; /* ahead->lock */
	struct core *core;
	_Atomic unsigned int left; /* things not taken yet */
	void (*run)(struct ahead_job *job);
	void (*free)(struct ahead_job *job);
};

void ahead_init(struct ahead *ahead)
{
	/* Once: the C library reads a file for it. */
	*ahead = (struct ahead){ .has_cpus = sysconf(_SC_NPROCESSORS_ONLN) > 1 };
	lock_mutex_init(&ahead->lock, LOCK_RANK_LEAF);
	pthread_cond_init(&ahead->wake, NULL);
	list_init(&ahead->jobs);
}

/* The number of the next thing and one, from the end; 0: there is none. */
static unsigned int ahead_job_take(struct ahead_job *job)
{
	unsigned int left = atomic_load(&job->left);

	while (left && !atomic_compare_exchange_weak(&job->left, &left, left - 1))
		;
	return left;
}

/* ---- jobs: many names in one directory ---- */

struct ahead_names {
	struct ahead_job job;
	struct ldir *ldir; /* counted */
	uint16_t names[AHEAD_NAMES_MAX]; /* where each begins in text */
	char text[];
};

static void ahead_names_free(struct ahead_job *job)
{
	struct ahead_names *names = container_of(job, struct ahead_names, job);

	ldir_unref(&job->core->fds, names->ldir);
	free(names);
}

static void ahead_names_run(struct ahead_job *job)
{
	const struct ahead_names *names = container_of(job, struct ahead_names, job);
	int fd = ldir_pin(&job->core->fds, names->ldir);
	struct statx st;

	for (unsigned int left; (left = ahead_job_take(job));) {
		if (fd >= 0)
			sys_stat_local(fd, names->text + names->names[left - 1], STATX_BASIC_STATS,
				       &st);
	}
	if (fd >= 0)
		ldir_unpin(names->ldir);
}

/* The names of the records between @at and @end; NULL: too few, or out of memory. */
static struct ahead_job *ahead_names_new(struct core *core, struct ldir *ldir, const char *buf,
					 size_t at, size_t end)
{
	struct ahead_names *job;
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
	job->job = (struct ahead_job){
		.refs = 1, /* the list's */
		.core = core,
		.left = count,
		.run = ahead_names_run,
		.free = ahead_names_free,
	};
	job->ldir = ldir_ref(ldir);
	return &job->job;
}

/* ---- jobs: the same in many directories ---- */

struct ahead_same {
	struct ahead_job job;
	char name[NAME_MAX + 1]; /* empty: all names */
	unsigned int count;
	struct ldir *dirs[]; /* counted */
};

static void ahead_same_free(struct ahead_job *job)
{
	struct ahead_same *same = container_of(job, struct ahead_same, job);

	for (unsigned int i = 0; i < same->count; i++)
		ldir_unref(&job->core->fds, same->dirs[i]);
	free(same);
}

static int ahead_count_name(const struct sys_dirent *entry, void *context)
{
	unsigned int *count = context;

	(void)entry;
	return ++*count == AHEAD_DIR_NAMES_MAX;
}

static void ahead_list(struct core *core, struct ldir *ldir)
{
	_cleanup_close_ int fd = ldir_open(&core->fds, ldir);
	unsigned int count = 0;

	if (fd < 0)
		return;
	sys_keep_atime(fd);
	sys_dir_for_each(fd, ahead_count_name, &count);
}

static void ahead_stat(struct core *core, struct ldir *ldir, const char *name)
{
	int fd = ldir_pin(&core->fds, ldir);
	struct statx st;

	if (fd < 0)
		return;
	sys_stat_local(fd, name, STATX_BASIC_STATS, &st);
	ldir_unpin(ldir);
}

static void ahead_same_run(struct ahead_job *job)
{
	const struct ahead_same *same = container_of(job, struct ahead_same, job);

	for (unsigned int left; (left = ahead_job_take(job));) {
		if (same->name[0])
			ahead_stat(job->core, same->dirs[left - 1], same->name);
		else
			ahead_list(job->core, same->dirs[left - 1]);
	}
}

static struct ahead_same *ahead_same_new(struct core *core, struct ldir *const *dirs,
					 unsigned int count, const char *name)
{
	struct ahead_same *same = malloc(sizeof(*same) + count * sizeof(struct ldir *));

	if (!same)
		return NULL;
	same->job = (struct ahead_job){
		.refs = 2, /* the list's and the caller's */
		.core = core,
		.left = count,
		.run = ahead_same_run,
		.free = ahead_same_free,
	};
	strcpy(same->name, name ? name : "");
	same->count = count;
	for (unsigned int i = 0; i < count; i++)
		same->dirs[i] = ldir_ref(dirs[i]);
	return same;
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

/* The job has nothing left; gives up a reference. */
static void ahead_finish(struct ahead *ahead, struct ahead_job *job)
{
	lock_mutex_lock(&ahead->lock);
	if (!list_is_empty(&job->link)) {
		list_remove(&job->link);
		ahead->queued--;
		job->refs--;
	}
	bool is_last = --job->refs == 0;

	lock_mutex_unlock(&ahead->lock);
	if (is_last)
		job->free(job);
}

static void *ahead_main(void *arg)
{
	struct ahead *ahead = arg;
	struct ahead_job *job;

	sys_cpu_roam();
	while ((job = ahead_wait(ahead))) {
		job->run(job);
		ahead_finish(ahead, job);
	}
	return NULL;
}

/* Deaf to signals, which are for the main thread. The lock is held. */
static void ahead_start_thread(struct ahead *ahead)
{
	pthread_attr_t attr;
	sigset_t all, old;

	/* Held up by whoever needs its processor, it would hold up those who need its locks. */
	if (sys_cpu_is_stuck() || pthread_attr_init(&attr) != 0)
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
		job->free(job);
	}
	pthread_cond_destroy(&ahead->wake);
	lock_mutex_deinit(&ahead->lock);
}

/* Wakes up to @threads, started on first use. True: some thread will look. The lock is held. */
static bool ahead_wake(struct ahead *ahead, unsigned int threads)
{
	for (unsigned int i = 0; i < threads; i++) {
		if (ahead->idle > i)
			pthread_cond_signal(&ahead->wake);
		else if (ahead->count < threads)
			ahead_start_thread(ahead);
	}
	return ahead->count > 0;
}

/* At most @threads work on it; nobody, if there are too many jobs or no threads. */
static void ahead_submit(struct ahead *ahead, struct ahead_job *job, unsigned int threads)
{
	bool is_last = false;

	list_init(&job->link);
	lock_mutex_lock(&ahead->lock);
	if (ahead->queued < AHEAD_JOBS_MAX && ahead_wake(ahead, threads)) {
		list_add_tail(&ahead->jobs, &job->link);
		ahead->queued++;
	} else {
		is_last = --job->refs == 0;
	}
	lock_mutex_unlock(&ahead->lock);
	if (is_last)
		job->free(job);
}

/* ---- when ---- */

static uint64_t ahead_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

void ahead_watch_start(struct ahead_watch *watch)
{
	*watch = (struct ahead_watch){ .since_ns = ahead_clock_ns(CLOCK_MONOTONIC) };
}

void ahead_watch_step(struct ahead_watch *watch, struct core *core, struct ldir *ldir,
		      const char *buf, size_t at, size_t end)
{
	if (!watch->since_ns || ++watch->count < AHEAD_SAMPLE)
		return;
	uint64_t each_ns = (ahead_clock_ns(CLOCK_MONOTONIC) - watch->since_ns) / watch->count;

	watch->since_ns = 0;
	if (each_ns < AHEAD_SLOW_NS)
		return;
	bool waits = each_ns >= AHEAD_WAITS_NS;

	if (!waits && !core->ahead.has_cpus)
		return;
	struct ahead_job *job = ahead_names_new(core, ldir, buf, at, end);

	if (job)
		ahead_submit(&core->ahead, job, waits ? AHEAD_THREADS_MAX : 1);
}

void ahead_dirs_start(struct ahead_dirs *dirs, unsigned int count)
{
	*dirs = (struct ahead_dirs){ .is_timed = count >= AHEAD_DIRS_MIN };
}

bool ahead_dirs_step(struct ahead_dirs *dirs)
{
	if (!dirs->is_timed || (dirs->count > 0 && dirs->count < AHEAD_DIRS_SAMPLE)) {
		dirs->count++;
		return false;
	}
	uint64_t now_ns = ahead_clock_ns(CLOCK_MONOTONIC);
	uint64_t work_ns = ahead_clock_ns(CLOCK_THREAD_CPUTIME_ID);

	if (dirs->count++ == 0) { /* not at the start: a walk of one step is not slowed by this */
		dirs->since_ns = now_ns;
		dirs->work_ns = work_ns;
		return false;
	}
	/* A large directory takes its time; others help only with waiting for a small one. */
	uint64_t all_ns = now_ns - dirs->since_ns, busy_ns = work_ns - dirs->work_ns;

	dirs->is_timed = false;
	return all_ns > busy_ns && (all_ns - busy_ns) / AHEAD_DIRS_SAMPLE >= AHEAD_WAITS_NS;
}

void ahead_dirs_ask(struct ahead_dirs *dirs, struct core *core, struct ldir *const *rest,
		    unsigned int count, const char *name)
{
	struct ahead_same *same = count ? ahead_same_new(core, rest, count, name) : NULL;

	if (!same)
		return;
	dirs->job = &same->job;
	ahead_submit(&core->ahead, dirs->job, AHEAD_THREADS_MAX);
}

void ahead_dirs_end(struct ahead_dirs *dirs, struct core *core)
{
	if (!dirs->job)
		return;
	atomic_store(&dirs->job->left, 0);
	ahead_finish(&core->ahead, dirs->job);
}
