/* SPDX-License-Identifier: MIT */
#include "sys/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "sys/file.h"

enum fault_kind {
	FAULT_ERROR,
	FAULT_KILL,
	FAULT_KILL_AFTER,
};

/* Written once by fault_arm(); `at` is published last. */
static struct {
	_Atomic uint64_t at; /* 0: never */
	_Atomic uint64_t count;
	enum fault_kind kind;
	int error;
} fault;

static const struct {
	const char *name;
	enum fault_kind kind;
	int error;
} fault_names[] = {
	{ "kill", FAULT_KILL, 0 },	    { "killafter", FAULT_KILL_AFTER, 0 },
	{ "ENOSPC", FAULT_ERROR, -ENOSPC }, { "EDQUOT", FAULT_ERROR, -EDQUOT },
	{ "EIO", FAULT_ERROR, -EIO },	    { "ENOMEM", FAULT_ERROR, -ENOMEM },
	{ "EROFS", FAULT_ERROR, -EROFS },   { "EACCES", FAULT_ERROR, -EACCES },
	{ "EPERM", FAULT_ERROR, -EPERM },   { "EOPNOTSUPP", FAULT_ERROR, -EOPNOTSUPP },
};

/* Owned, for as long as this process lives; -1: nothing is asked for. */
static int fault_commit_fd = -1;
static pthread_once_t fault_commit_once = PTHREAD_ONCE_INIT;

static void fault_commit_open(void)
{
	const char *path = getenv("VENEER_COMMIT");

	if (!path)
		return;
	fault_commit_fd = sys_open_path(path, O_RDWR);
	if (fault_commit_fd < 0)
		abort(); /* a test that commits nothing would pass for the wrong reason */
}

/*
 * As if some other process had synced a file of its own: the journal reaches the disk with all
 * that was done so far, but nobody else's data does.
 */
static void fault_commit(void)
{
	static atomic_uint size;

	pthread_once(&fault_commit_once, fault_commit_open);
	if (fault_commit_fd >= 0 &&
	    (sys_truncate(fault_commit_fd, (off_t)atomic_fetch_add(&size, 1) + 1) < 0 ||
	     sys_fsync(fault_commit_fd, false) < 0))
		abort();
}

void fault_arm(void)
{
	const char *value = getenv("VENEER_FAULT");
	char *what;

	if (!value)
		return;
	uint64_t at = strtoull(value, &what, 10);

	for (size_t i = 0; *what == ':' && i < ARRAY_SIZE(fault_names); i++) {
		if (strcmp(what + 1, fault_names[i].name) != 0)
			continue;
		fault.kind = fault_names[i].kind;
		fault.error = fault_names[i].error;
		atomic_store(&fault.count, 0);
		atomic_store(&fault.at, at);
		return;
	}
	abort(); /* a test that injects nothing would pass for the wrong reason */
}

bool fault_is_due(void)
{
	uint64_t at = atomic_load(&fault.at);

	return at != 0 && atomic_fetch_add(&fault.count, 1) + 1 == at;
}

int fault_before(bool due)
{
	if (due && fault.kind == FAULT_KILL)
		raise(SIGKILL);
	if (due) /* the tests ask whether it has come */
		dprintf(STDERR_FILENO, "fault: mutation %" PRIu64 "\n", atomic_load(&fault.at));
	return due && fault.kind == FAULT_ERROR ? fault.error : 0;
}

void fault_after(bool due)
{
	if (due && fault.kind == FAULT_KILL_AFTER)
		raise(SIGKILL);
	fault_commit();
}

struct fault_copy_steps {
	const struct sys_copy *copy;
	int error;
};

static bool fault_copy_is_interrupted(void *context)
{
	struct fault_copy_steps *steps = context;
	const struct sys_copy *copy = steps->copy;
	bool due = fault_is_due();

	steps->error = fault_before(due);
	fault_after(due);
	return steps->error < 0 || (copy->is_interrupted && copy->is_interrupted(copy->context));
}

static void fault_copy_progress(void *context, uint64_t done)
{
	const struct sys_copy *copy = ((struct fault_copy_steps *)context)->copy;

	if (copy->progress)
		copy->progress(copy->context, done);
}

int fault_copy_data(const struct sys_copy *copy)
{
	struct fault_copy_steps steps = { .copy = copy };
	struct sys_copy counted = *copy;

	counted.is_interrupted = fault_copy_is_interrupted;
	counted.progress = fault_copy_progress;
	counted.context = &steps;
	int r = sys_copy_data(&counted);

	return steps.error < 0 ? steps.error : r;
}
