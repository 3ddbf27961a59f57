/* SPDX-License-Identifier: MIT */
/* Directories asked ahead by other threads: all of them, or as many as there was time for. */
#include "unit.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/internal.h"
#include "sys/file.h"

#define DIRS 40

/* A union of which nothing exists but what such a job needs. */
struct stage {
	struct core core;
	struct layer layer;
	struct ldir *dirs[DIRS];
};

static struct stage *stage_open(const struct unit_scratch *scratch)
{
	struct stage *stage = calloc(1, sizeof(*stage));

	assert_non_null(stage);
	fdcache_init(&stage->core.fds, DIRS / 2);
	ahead_init(&stage->core.ahead);
	lock_mutex_init(&stage->layer.places, LOCK_RANK_LDIR);
	stage->layer.root = ldir_new_root(&stage->core.fds, &stage->layer,
					  sys_reopen(scratch->fd, O_RDONLY | O_DIRECTORY));
	assert_non_null(stage->layer.root);
	for (int i = 0; i < DIRS; i++) {
		char name[16], file[32];
		struct statx st;

		snprintf(name, sizeof(name), "d%d", i);
		snprintf(file, sizeof(file), "d%d/f", i);
		mkdirat(scratch->fd, name, 0755);
		unit_write(scratch->fd, file, "");
		assert_int_equal(sys_stat(scratch->fd, name, &st), 0);
		stage->dirs[i] = ldir_new(stage->layer.root, name, &st);
		assert_non_null(stage->dirs[i]);
	}
	return stage;
}

/* What is still counted is asserted to be gone. */
static void stage_close(struct stage *stage)
{
	ahead_deinit(&stage->core.ahead);
	for (int i = 0; i < DIRS; i++) {
		assert_int_equal(stage->dirs[i]->refs, 1);
		ldir_unref(&stage->core.fds, stage->dirs[i]);
	}
	ldir_unref(&stage->core.fds, stage->layer.root);
	fdcache_deinit(&stage->core.fds);
	lock_mutex_deinit(&stage->layer.places);
	free(stage);
}

static void wait_until_asked(struct stage *stage)
{
	for (bool is_done = false; !is_done; usleep(1000)) {
		lock_mutex_lock(&stage->core.ahead.lock);
		is_done = list_is_empty(&stage->core.ahead.jobs) &&
			  stage->core.ahead.idle == stage->core.ahead.count;
		lock_mutex_unlock(&stage->core.ahead.lock);
	}
}

static void test_all_are_asked(void **state)
{
	struct stage *stage = stage_open(*state);
	struct ahead_dirs dirs;

	for (int i = 0; i < 4; i++) {
		ahead_dirs_start(&dirs, DIRS);
		ahead_dirs_ask(&dirs, &stage->core, stage->dirs, DIRS, i % 2 ? "f" : NULL);
		assert_non_null(dirs.job);
		wait_until_asked(stage);
		ahead_dirs_end(&dirs, &stage->core);
		assert_true(stage->core.fds.open > DIRS / 4);
	}
	stage_close(stage);
}

/* The end may come at any moment, and for several at once. */
static void test_end_at_any_time(void **state)
{
	struct stage *stage = stage_open(*state);
	struct ahead_dirs dirs[3];

	for (int i = 0; i < 200; i++) {
		for (int k = 0; k < 3; k++) {
			ahead_dirs_start(&dirs[k], DIRS);
			ahead_dirs_ask(&dirs[k], &stage->core, stage->dirs, (i + k) % DIRS,
				       k == 1 ? "f" : NULL);
		}
		usleep(i % 10 * 20);
		for (int k = 0; k < 3; k++)
			ahead_dirs_end(&dirs[k], &stage->core);
	}
	stage_close(stage);
}

static bool walk(unsigned int count, unsigned int sleep_us)
{
	struct ahead_dirs dirs;
	unsigned int told = 0;

	ahead_dirs_start(&dirs, count);
	for (unsigned int i = 0; i < count; i++) {
		usleep(sleep_us);
		told += ahead_dirs_step(&dirs);
	}
	assert_true(told <= 1);
	return told;
}

static void test_only_waiting_counts(void **state)
{
	(void)state;
	assert_true(walk(64, 1000));
	assert_false(walk(4, 1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_scratch(test_all_are_asked),
		with_scratch(test_end_at_any_time),
		cmocka_unit_test(test_only_waiting_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
