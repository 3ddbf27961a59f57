/* SPDX-License-Identifier: MIT */
/*
 * Every mutation of the upper and of the work directory.
 *
 * Compiled a second time with VENEER_FAULTS for the fault loops of the tests;
 * without it upper_mutate() is the call and nothing else.
 */
#include "core/upper.h"

#include <fcntl.h>

#include "sys/file.h"
#include "sys/xattr.h"

#ifdef VENEER_FAULTS

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

enum upper_fault_kind {
	UPPER_FAULT_ERROR,
	UPPER_FAULT_KILL,
	UPPER_FAULT_KILL_AFTER,
};

/* Written once by upper_faults_arm(); `at` is published last. */
static struct {
	_Atomic uint64_t at; /* 0: never */
	_Atomic uint64_t count;
	enum upper_fault_kind kind;
	int error;
} upper_fault;

static const struct {
	const char *name;
	enum upper_fault_kind kind;
	int error;
} upper_fault_names[] = {
	{ "kill", UPPER_FAULT_KILL, 0 },	  { "killafter", UPPER_FAULT_KILL_AFTER, 0 },
	{ "ENOSPC", UPPER_FAULT_ERROR, -ENOSPC }, { "EDQUOT", UPPER_FAULT_ERROR, -EDQUOT },
	{ "EIO", UPPER_FAULT_ERROR, -EIO },	  { "ENOMEM", UPPER_FAULT_ERROR, -ENOMEM },
	{ "EROFS", UPPER_FAULT_ERROR, -EROFS },	  { "EACCES", UPPER_FAULT_ERROR, -EACCES },
	{ "EPERM", UPPER_FAULT_ERROR, -EPERM },	  { "EOPNOTSUPP", UPPER_FAULT_ERROR, -EOPNOTSUPP },
};

/* Owned, for as long as this process lives; -1: nothing is asked for. */
static int upper_commit_fd = -1;
static pthread_once_t upper_commit_once = PTHREAD_ONCE_INIT;

static void upper_commit_open(void)
{
	const char *path = getenv("VENEER_COMMIT");

	if (!path)
		return;
	upper_commit_fd = sys_open_path(path, O_RDWR);
	if (upper_commit_fd < 0)
		abort(); /* a test that commits nothing would pass for the wrong reason */
}

/*
 * As if some other process had synced a file of its own: the journal reaches the disk with all
 * that was done so far, but nobody else's data does.
 */
static void upper_commit(void)
{
	static atomic_uint size;

	pthread_once(&upper_commit_once, upper_commit_open);
	if (upper_commit_fd >= 0 &&
	    (sys_truncate(upper_commit_fd, (off_t)atomic_fetch_add(&size, 1) + 1) < 0 ||
	     sys_fsync(upper_commit_fd, false) < 0))
		abort();
}

void upper_faults_arm(void)
{
	const char *value = getenv("VENEER_FAULT");
	char *what;

	if (!value)
		return;
	uint64_t at = strtoull(value, &what, 10);

	for (size_t i = 0; *what == ':' && i < ARRAY_SIZE(upper_fault_names); i++) {
		if (strcmp(what + 1, upper_fault_names[i].name) != 0)
			continue;
		upper_fault.kind = upper_fault_names[i].kind;
		upper_fault.error = upper_fault_names[i].error;
		atomic_store(&upper_fault.count, 0);
		atomic_store(&upper_fault.at, at);
		return;
	}
	abort(); /* a test that injects nothing would pass for the wrong reason */
}

/* Counts one mutation; true if it is the one to hit. */
static bool upper_fault_is_due(void)
{
	uint64_t at = atomic_load(&upper_fault.at);

	return at != 0 && atomic_fetch_add(&upper_fault.count, 1) + 1 == at;
}

/* Before the mutation: 0 or the error to fail with. */
static int upper_fault_before(bool due)
{
	if (due && upper_fault.kind == UPPER_FAULT_KILL)
		raise(SIGKILL);
	if (due) /* the tests ask whether it has come */
		dprintf(STDERR_FILENO, "fault: mutation %" PRIu64 "\n",
			atomic_load(&upper_fault.at));
	return due && upper_fault.kind == UPPER_FAULT_ERROR ? upper_fault.error : 0;
}

static void upper_fault_after(bool due)
{
	if (due && upper_fault.kind == UPPER_FAULT_KILL_AFTER)
		raise(SIGKILL);
	upper_commit();
}

#define upper_mutate(call)                                      \
	({                                                      \
		bool _due = upper_fault_is_due();               \
		__typeof__(call) _r = upper_fault_before(_due); \
		if (_r == 0) {                                  \
			_r = (call);                            \
			upper_fault_after(_due);                \
		}                                               \
		_r;                                             \
	})

struct upper_copy_steps {
	const struct sys_copy *copy;
	int error;
};

/* One step of a copy is one mutation, so that a copy can also fail half-way. */
static bool upper_copy_is_interrupted(void *context)
{
	struct upper_copy_steps *steps = context;
	const struct sys_copy *copy = steps->copy;
	bool due = upper_fault_is_due();

	steps->error = upper_fault_before(due);
	upper_fault_after(due);
	return steps->error < 0 || (copy->is_interrupted && copy->is_interrupted(copy->context));
}

static void upper_copy_progress(void *context, uint64_t done)
{
	const struct sys_copy *copy = ((struct upper_copy_steps *)context)->copy;

	if (copy->progress)
		copy->progress(copy->context, done);
}

static int upper_copy_in_steps(const struct sys_copy *copy)
{
	struct upper_copy_steps steps = { .copy = copy };
	struct sys_copy counted = *copy;

	counted.is_interrupted = upper_copy_is_interrupted;
	counted.progress = upper_copy_progress;
	counted.context = &steps;
	int r = sys_copy_data(&counted);

	return steps.error < 0 ? steps.error : r;
}

int upper_copy_data(const struct sys_copy *copy)
{
	return upper_mutate(upper_copy_in_steps(copy));
}

#else

#define upper_mutate(call) (call)

void upper_faults_arm(void)
{
}

int upper_copy_data(const struct sys_copy *copy)
{
	return sys_copy_data(copy);
}

#endif

int upper_create(int dirfd, const char *name, int flags, mode_t mode)
{
	return upper_mutate(sys_open(dirfd, name, flags | O_CREAT | O_EXCL, mode));
}

int upper_tmpfile(int dirfd, int flags, mode_t mode)
{
	return upper_mutate(sys_open(dirfd, ".", flags | O_TMPFILE, mode));
}

int upper_mkdir(int dirfd, const char *name, mode_t mode)
{
	return upper_mutate(sys_mkdir(dirfd, name, mode));
}

int upper_mknod(int dirfd, const char *name, mode_t mode, dev_t rdev)
{
	return upper_mutate(sys_mknod(dirfd, name, mode, rdev));
}

int upper_symlink(const char *target, int dirfd, const char *name)
{
	return upper_mutate(sys_symlink(target, dirfd, name));
}

int upper_link(int olddirfd, const char *oldname, int newdirfd, const char *newname)
{
	return upper_mutate(sys_link(olddirfd, oldname, newdirfd, newname));
}

int upper_link_fd(int fd, int newdirfd, const char *newname)
{
	return upper_mutate(sys_link_fd(fd, newdirfd, newname));
}

int upper_unlink(int dirfd, const char *name)
{
	return upper_mutate(sys_unlink(dirfd, name));
}

int upper_rmdir(int dirfd, const char *name)
{
	return upper_mutate(sys_rmdir(dirfd, name));
}

int upper_rename(int olddirfd, const char *oldname, int newdirfd, const char *newname,
		 unsigned int flags)
{
	return upper_mutate(sys_rename(olddirfd, oldname, newdirfd, newname, flags));
}

int upper_chmod(int fd, mode_t mode)
{
	return upper_mutate(sys_chmod(fd, mode));
}

int upper_chown(int fd, uid_t uid, gid_t gid)
{
	return upper_mutate(sys_chown(fd, uid, gid));
}

int upper_utimens(int fd, const struct timespec times[2])
{
	return upper_mutate(sys_utimens(fd, times));
}

int upper_truncate(int fd, uint64_t size)
{
	return upper_mutate(sys_truncate(fd, (off_t)size));
}

int upper_fallocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	return upper_mutate(sys_fallocate(fd, mode, (off_t)offset, (off_t)length));
}

ssize_t upper_write(int fd, const void *buf, size_t size, uint64_t offset)
{
	return upper_mutate(sys_pwrite(fd, buf, size, (off_t)offset));
}

ssize_t upper_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size)
{
	return upper_mutate(sys_copy_range(from, from_offset, to, to_offset, size));
}

int upper_setxattr(int fd, const char *key, const void *value, size_t size, int flags)
{
	return upper_mutate(sys_setxattr(fd, key, value, size, flags));
}

int upper_removexattr(int fd, const char *key)
{
	return upper_mutate(sys_removexattr(fd, key));
}

int upper_set_fsflags(int fd, unsigned int flags)
{
	return upper_mutate(sys_set_fsflags(fd, flags));
}

int upper_fsync(int fd, bool data_only)
{
	return upper_mutate(sys_fsync(fd, data_only));
}
