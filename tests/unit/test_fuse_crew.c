/* SPDX-License-Identifier: MIT */
/* Whatever the threads of /dev/fuse do, one of them waits for messages if it can. */
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "fuse/dev_crew.h"
#include "fuse/thread.h"
#include "sys/cpu.h"

#define NOW 1000000000U

/* Instead of what dev_worker.c does: the thread parks, and ends when it is called. */
void *dev_worker_main(void *arg)
{
	struct dev_worker *worker = arg;

	worker->thread = pthread_self();
	dev_crew_join(worker);
	if (!worker->starts_parked || dev_crew_park(worker))
		atomic_fetch_sub(&worker->dev->waiting, 1);
	dev_crew_quit(worker);
	free(worker);
	return NULL;
}

struct fixture {
	struct dev dev;
	struct dev_worker common, near; /* at work; whoever calls is one of them */
};

static void count_threads(struct dev *dev, int change)
{
	lock_mutex_lock(&dev->lock);
	dev->threads += (unsigned int)change;
	lock_mutex_unlock(&dev->lock);
}

static int crew_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dev.max_threads = 4;
	f->dev.max_idle = 1;
	dev_crews_init(&f->dev);
	f->common =
		(struct dev_worker){ .dev = &f->dev, .kind = DEV_COMMON, .pinned = DEV_NO_HOME };
	f->near = (struct dev_worker){ .dev = &f->dev, .kind = DEV_NEAR, .pinned = DEV_NO_HOME };
	f->dev.threads = 2;
	for (unsigned int i = 0; i < DEV_CREWS; i++)
		f->dev.crews[i].threads = 1;
	thread_enable_kicks();
	*state = f;
	/* A fault here is a wait for ever. */
	alarm(60);
	return 0;
}

static int crew_teardown(void **state)
{
	struct fixture *f = *state;

	alarm(0);
	count_threads(&f->dev, -2);
	dev_crews_stop(&f->dev);
	dev_crews_deinit(&f->dev);
	free(f);
	return 0;
}

static void wait_for_parked(struct dev *dev, enum dev_crew_kind kind)
{
	while (atomic_load(&dev->crews[kind].parked) == 0)
		thread_sleep_ms(1);
}

/* A thread that parks although one of the other two waits. */
static void park_another(struct dev *dev, enum dev_crew_kind kind)
{
	struct dev_worker *worker = calloc(1, sizeof(*worker));

	*worker = (struct dev_worker){
		.dev = dev, .kind = kind, .pinned = DEV_NO_HOME, .starts_parked = true
	};
	atomic_fetch_add(&dev->waiting, 1);
	count_threads(dev, 1);
	dev->crews[kind].threads++;
	assert_int_equal(thread_create(dev_worker_main, worker), 0);
	wait_for_parked(dev, kind);
	atomic_fetch_sub(&dev->waiting, 1);
}

static void test_who_finds_none_waiting_does_not_park(void **state)
{
	struct fixture *f = *state;

	/* Who took the last message called while the other was on its way to park. */
	f->dev.max_threads = 2;
	assert_false(dev_crew_call(&f->common));
	assert_true(dev_crew_park(&f->common));
	assert_int_equal(f->dev.waiting, 1);
	atomic_store(&f->dev.waiting, 0);
	assert_true(dev_crew_park(&f->near));
	assert_int_equal(f->dev.waiting, 1);
}

static void test_near_workers_serve_where_nobody_else_can(void **state)
{
	struct fixture *f = *state;

	f->dev.max_threads = 3;
	park_another(&f->dev, DEV_NEAR);
	assert_int_equal(f->dev.home, DEV_NO_HOME);
	assert_true(dev_crew_call(&f->common));
	assert_int_equal(f->dev.crews[DEV_NEAR].parked, 0);
}

static void test_a_near_worker_leaves_a_common_one_in_its_place(void **state)
{
	struct fixture *f = *state;

	park_another(&f->dev, DEV_COMMON);
	atomic_store(&f->dev.waiting, 1);
	f->near.is_counted = true;
	/* It would park now, but that the other ends at once. */
	atomic_store(&f->dev.stopping, true);
	dev_crew_stay(&f->near);
	assert_false(f->near.is_counted);
	assert_int_equal(f->dev.crews[DEV_COMMON].parked, 0);
}

static void test_no_home_without_a_common_worker_to_call(void **state)
{
	struct fixture *f = *state;

	if (!f->dev.may_gather || !f->dev.is_ours[0])
		unit_skip("near workers are of no use here");
	atomic_store(&f->dev.waiting, 1);
	dev_crew_gather(&f->near, 0, NOW);
	assert_int_equal(f->dev.home, DEV_NO_HOME);
	/* A common worker starts one. */
	dev_crew_gather(&f->common, 0, NOW);
	assert_int_equal(f->dev.home, DEV_NO_HOME);
	wait_for_parked(&f->dev, DEV_COMMON);
	dev_crew_gather(&f->near, 0, NOW);
	assert_int_equal(f->dev.home, 0);
	/* Whoever takes a message starts the next. */
	assert_true(dev_crew_call(&f->near));
	dev_crew_keep_spare(&f->common);
	wait_for_parked(&f->dev, DEV_COMMON);
}

static void test_the_last_to_be_called_stays(void **state)
{
	struct fixture *f = *state;

	park_another(&f->dev, DEV_COMMON);
	/* The common one that is at work cannot be called, and a near one may wait. */
	dev_crews_trim(&f->dev);
	thread_sleep_ms(50);
	assert_int_equal(f->dev.crews[DEV_COMMON].parked, 1);
	/* Now it can start others itself. */
	f->dev.crews[DEV_NEAR].threads = 0;
	count_threads(&f->dev, -1);
	dev_crews_trim(&f->dev);
	while (atomic_load(&f->dev.crews[DEV_COMMON].threads) > 1)
		thread_sleep_ms(1);
	count_threads(&f->dev, 1);
}

#define crew_test(test) cmocka_unit_test_setup_teardown(test, crew_setup, crew_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		crew_test(test_who_finds_none_waiting_does_not_park),
		crew_test(test_near_workers_serve_where_nobody_else_can),
		crew_test(test_a_near_worker_leaves_a_common_one_in_its_place),
		crew_test(test_no_home_without_a_common_worker_to_call),
		crew_test(test_the_last_to_be_called_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
