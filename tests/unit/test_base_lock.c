/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/util.h"

/* --- lock ----------------------------------------------------------------------------- */

static void test_lock_cond_wait(void **state)
{
	pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
	struct lock_mutex lock;
	struct timespec before, after;

	(void)state;
	lock_mutex_init(&lock, LOCK_RANK_LEAF);
	lock_mutex_lock(&lock);
	clock_gettime(CLOCK_MONOTONIC, &before);
	lock_cond_wait_ms(&cond, &lock, 30);
	clock_gettime(CLOCK_MONOTONIC, &after);
	lock_mutex_unlock(&lock);
	lock_mutex_deinit(&lock);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec >=
		    29000000);
}

static void test_lock_order_allowed(void **state)
{
	struct lock_rw rename, dir_a, dir_b;
	struct lock_mutex leaf;

	(void)state;
	lock_rw_init(&rename, LOCK_RANK_RENAME);
	lock_rw_init(&dir_a, LOCK_RANK_DIR);
	lock_rw_init(&dir_b, LOCK_RANK_DIR);
	lock_mutex_init(&leaf, LOCK_RANK_LEAF);
	lock_rw_write(&rename);
	lock_rw_read(&dir_a);
	lock_rw_write(&dir_b);
	lock_mutex_lock(&leaf);
	/* Released in any order, and taken again. */
	lock_rw_write_unlock(&rename);
	lock_mutex_unlock(&leaf);
	lock_rw_read_unlock(&dir_a);
	lock_mutex_lock(&leaf);
	lock_rw_write_unlock(&dir_b);
	lock_mutex_unlock(&leaf);
	lock_rw_read(&rename);
	lock_rw_read_unlock(&rename);
	lock_rw_deinit(&rename);
	lock_rw_deinit(&dir_a);
	lock_rw_deinit(&dir_b);
	lock_mutex_deinit(&leaf);
}

#ifdef VENEER_LOCK_RANKS

struct rank_pair {
	enum lock_rank first, second;
};

static int take_pair(void *argument)
{
	const struct rank_pair *pair = argument;
	struct lock_rw first;
	struct lock_mutex second;

	/* The message is expected, the core dump is not wanted. */
	close(STDERR_FILENO);
	lock_rw_init(&first, pair->first);
	lock_mutex_init(&second, pair->second);
	lock_rw_read(&first);
	lock_mutex_lock(&second);
	return 0;
}

static int take_twice(void *argument)
{
	struct lock_rw lock;

	(void)argument;
	close(STDERR_FILENO);
	lock_rw_init(&lock, LOCK_RANK_DIR);
	lock_rw_read(&lock);
	lock_rw_read(&lock);
	return 0;
}

static int unlock_unheld(void *argument)
{
	struct lock_mutex lock;

	(void)argument;
	close(STDERR_FILENO);
	lock_mutex_init(&lock, LOCK_RANK_LEAF);
	lock_mutex_unlock(&lock);
	return 0;
}

static void test_lock_order_violations(void **state)
{
	(void)state;
	for (enum lock_rank a = LOCK_RANK_RENAME; a <= LOCK_RANK_LEAF; a++) {
		for (enum lock_rank b = LOCK_RANK_RENAME; b <= LOCK_RANK_LEAF; b++) {
			struct rank_pair pair = { a, b };
			bool allowed = a < b || (a == b && a == LOCK_RANK_DIR);

			assert_int_equal(unit_fork(take_pair, &pair), allowed ? 0 : 128 + SIGABRT);
		}
	}
	assert_int_equal(unit_fork(take_twice, NULL), 128 + SIGABRT);
	assert_int_equal(unit_fork(unlock_unheld, NULL), 128 + SIGABRT);
}

#else

static void test_lock_order_violations(void **state)
{
	(void)state;
	unit_skip("lock ranks are checked with -Dlock_ranks=true only");
}

#endif

struct counter {
	struct lock_rw lock;
	unsigned long value;
};

static void *counter_thread(void *argument)
{
	struct counter *counter = argument;
	unsigned long seen = 0;

	for (int i = 0; i < 10000; i++) {
		lock_rw_write(&counter->lock);
		counter->value++;
		lock_rw_write_unlock(&counter->lock);
		lock_rw_read(&counter->lock);
		if (counter->value <= seen)
			abort();
		seen = counter->value;
		lock_rw_read_unlock(&counter->lock);
	}
	return NULL;
}

static void test_lock_threads(void **state)
{
	struct counter counter = { .value = 0 };
	pthread_t threads[3];

	(void)state;
	lock_rw_init(&counter.lock, LOCK_RANK_NODE);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, counter_thread, &counter), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counter.value, 30000);
	lock_rw_deinit(&counter.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lock_cond_wait),
		cmocka_unit_test(test_lock_order_allowed),
		cmocka_unit_test(test_lock_order_violations),
		cmocka_unit_test(test_lock_threads),
	};

	return cmocka_run_group_tests_name("base-lock", tests, NULL, NULL);
}
