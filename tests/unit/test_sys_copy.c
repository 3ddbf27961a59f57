/* SPDX-License-Identifier: MIT */
/* Copying data: all of it, holes and all, and to be given up on the way. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "sys/copy.h"
#include "sys/file.h"

/* --- copying -------------------------------------------------------------------------- */

struct copy_watch {
	unsigned int asked, interrupt_at;
	uint64_t done;
	int truncate_fd; /* the source is cut to nothing at the third step */
};

static bool watch_interrupt(void *context)
{
	struct copy_watch *watch = context;

	watch->asked++;
	if (watch->truncate_fd >= 0 && watch->asked == 3)
		assert_int_equal(sys_truncate(watch->truncate_fd, 0), 0);
	return watch->asked == watch->interrupt_at;
}

static void watch_progress(void *context, uint64_t done)
{
	struct copy_watch *watch = context;

	assert_true(done >= watch->done);
	watch->done = done;
}

static void check_same(int a, int b, uint64_t size)
{
	char x[65536], y[65536];

	for (uint64_t at = 0; at < size; at += sizeof(x)) {
		size_t length = MIN(sizeof(x), size - at);
		ssize_t got = sys_pread(a, x, length, (off_t)at);

		/* Behind the end of the source the copy is a hole. */
		assert_true(got >= 0);
		memset(x + got, 0, sizeof(x) - (size_t)got);
		assert_int_equal(sys_pread(b, y, length, (off_t)at), length);
		assert_memory_equal(x, y, length);
	}
	assert_int_equal(sys_seek(b, 0, SEEK_END), size);
}

/* @pieces MiB of data, one in four of them a hole, and 123 bytes. */
static int make_source(int dirfd, const char *name, unsigned int pieces)
{
	int fd = sys_open(dirfd, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	_cleanup_free_ char *piece = malloc(1 << 20);
	unsigned int random = 1;

	assert_true(fd >= 0);
	for (unsigned int i = 0; i < pieces; i++) {
		if (i % 4 == 1)
			continue;
		for (size_t at = 0; at < 1 << 20; at++)
			piece[at] = (char)rand_r(&random);
		assert_int_equal(sys_pwrite(fd, piece, 1 << 20, (off_t)i << 20), 1 << 20);
	}
	assert_int_equal(sys_truncate(fd, ((off_t)pieces << 20) + 123), 0);
	return fd;
}

static void check_copy(int from, int to, uint64_t size)
{
	struct copy_watch watch = { .truncate_fd = -1 };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = size,
				 .context = &watch,
				 .is_interrupted = watch_interrupt,
				 .progress = watch_progress };

	assert_int_equal(sys_truncate(to, 0), 0);
	assert_int_equal(sys_copy_data(&copy), 0);
	check_same(from, to, size);
	assert_true(watch.done == size);
}

static void check_copy_sizes(int from, int to)
{
	struct statx source, copied;

	check_copy(from, to, (8 << 20) + 123);
	assert_int_equal(sys_stat(from, "", &source), 0);
	assert_int_equal(sys_stat(to, "", &copied), 0);
	/* Holes stay holes: 2 of the 8 MiB. */
	assert_true(copied.stx_blocks <= source.stx_blocks + 64);
	check_copy(from, to, 0);
	check_copy(from, to, 1);
	check_copy(from, to, 4096);
	check_copy(from, to, (5 << 20) + 7);
	check_copy(from, to, 9 << 20);
}

static void test_copy(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 8);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);

	check_copy_sizes(from, to);
}

/* Between file systems the kernel refuses to copy, and we copy by hand. */
static void test_copy_across(void **state)
{
	_cleanup_close_ int from = make_source(scratch_fd(state), "from", 8);
	_cleanup_close_ int to = sys_open_path("/dev/shm", O_RDONLY | O_DIRECTORY);

	if (to >= 0) {
		int tmp = sys_open(to, "", O_TMPFILE | O_RDWR, 0600);

		cleanup_close(&to);
		to = tmp;
	}
	if (to < 0)
		unit_skip("no /dev/shm");
	check_copy_sizes(from, to);
}

static void test_copy_interrupted(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 6);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	struct copy_watch watch = { .interrupt_at = 3, .truncate_fd = -1 };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = 6 << 20,
				 .context = &watch,
				 .is_interrupted = watch_interrupt,
				 .progress = watch_progress };
	int r = sys_copy_data(&copy);

	if (r == 0 && watch.asked == 0)
		unit_skip("a reflink is over at once");
	assert_int_equal(r, -EINTR);
	assert_int_equal(watch.asked, 3);
}

static void test_copy_of_shrinking_source(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 8);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	struct copy_watch watch = { .truncate_fd = from };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = (8 << 20) + 123,
				 .context = &watch,
				 .is_interrupted = watch_interrupt };

	assert_int_equal(sys_copy_data(&copy), 0);
	assert_int_equal(sys_seek(to, 0, SEEK_END), (8 << 20) + 123);
}

static void test_copy_errors(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 1);
	_cleanup_close_ int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int read_only = sys_open(dirfd, "from", O_RDONLY, 0);
	struct sys_copy copy = { .from = from, .to = full, .size = 4096 };

	assert_int_equal(sys_copy_data(&copy), -ENOSPC);
	copy.to = read_only;
	assert_true(sys_copy_data(&copy) < 0);
	copy.from = -1;
	assert_int_equal(sys_copy_data(&copy), -EBADF);
}

/* --- reflink, on a file system that has it --------------------------------------------- */

static int copy_on_reflink(void *argument)
{
	const struct unit_scratch *scratch = argument;
	_cleanup_close_ int dirfd = -1, from = -1, to = -1;
	struct copy_watch watch = { .truncate_fd = -1 };
	struct sys_copy copy = { .size = (8 << 20) + 123,
				 .context = &watch,
				 .is_interrupted = watch_interrupt };

	if (!unit_own_mounts() || chdir(scratch->path) < 0 || mkdir("m", 0755) < 0 ||
	    system("truncate -s 400M image && mkfs.xfs -q image && mount -o loop image m") != 0)
		return CHILD_NO_RIGHTS;
	dirfd = sys_open(AT_FDCWD, "m", O_RDONLY | O_DIRECTORY, 0);
	from = make_source(dirfd, "from", 8);
	to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	copy.from = from;
	copy.to = to;
	if (sys_copy_data(&copy) != 0 || watch.asked != 0)
		return CHILD_WRONG;
	check_copy_sizes(from, to);
	return CHILD_OK;
}

static void test_copy_reflink(void **state)
{
	int result = unit_fork(copy_on_reflink, *state);

	if (result == CHILD_NO_RIGHTS)
		unit_skip("cannot make and mount an xfs image here");
	assert_int_equal(result, CHILD_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_scratch(test_copy),
		with_scratch(test_copy_across),
		with_scratch(test_copy_interrupted),
		with_scratch(test_copy_of_shrinking_source),
		with_scratch(test_copy_errors),
		with_scratch(test_copy_reflink),
	};

	return cmocka_run_group_tests_name("sys copy", tests, NULL, NULL);
}
