/* SPDX-License-Identifier: MIT */
/* Who asks, from where, and when threads give way. */
#include "unit.h"

#include <linux/fuse.h>
#include <sched.h>
#include <unistd.h>

#include "fuse/callers.h"
#include "fuse/giveway.h"
#include "sys/cpu.h"

#define MS 1000000U

static int callers_setup(void **state)
{
	static struct callers callers;

	callers_init(&callers);
	*state = &callers;
	return 0;
}

static int callers_teardown(void **state)
{
	callers_deinit(*state);
	return 0;
}

/* News of several requests of one thread, one each 10 us from @now on: the last that was any. */
static int note(struct callers *callers, uint32_t thread, unsigned int count, uint64_t now)
{
	int news = CALLERS_NO_NEWS;

	for (unsigned int i = 0; i < count; i++) {
		int one = callers_note(callers, thread, now + i * 10000);

		if (one != CALLERS_NO_NEWS)
			news = one;
	}
	return news;
}

static void test_one_caller(void **state)
{
	struct callers *callers = *state;
	const uint32_t self = (uint32_t)gettid();
	uint64_t now = 1000 * MS;
	cpu_set_t before;

	if (!sys_cpu_knows_threads())
		skip();
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	for (unsigned int cpu = 0; cpu < sys_cpu_possible() && cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &before))
			continue;
		assert_int_equal(sys_cpu_pin(cpu), 0);
		now += 5 * MS;
		assert_int_equal(note(callers, self, 10, now), (int)cpu);
		/* Not with each request. */
		assert_int_equal(note(callers, self, 10, now + MS / 2), CALLERS_NO_NEWS);
		assert_int_equal(note(callers, self, 10, now + 2 * MS), (int)cpu);
	}
	sched_setaffinity(0, sizeof(before), &before);
}

static void test_who_is_not_to_be_found(void **state)
{
	/* No thread has it: larger than the kernel's limit. */
	assert_int_equal(note(*state, 0x7fffffff, 10, 1000 * MS), CALLERS_NO_NEWS);
	assert_int_equal(note(*state, 0, 10, 1100 * MS), CALLERS_NO_NEWS);
}

static void test_several_in_turn(void **state)
{
	struct callers *callers = *state;
	uint64_t now = 1000 * MS;

	for (uint32_t count = 2; count <= CALLERS_MAX; count++) {
		for (uint32_t i = 0; i < count; i++)
			callers_note(callers, 0x7fffff00 + i, now + i * 10000);
		assert_int_equal(callers_note(callers, 0x7fffff00, now + MS / 2), CALLERS_SEVERAL);
		/* For a while after. */
		assert_int_equal(callers_note(callers, 0x7fffff00, now + 5 * MS), CALLERS_SEVERAL);
		assert_int_equal(callers_note(callers, 0x7fffff00, now + 50 * MS), CALLERS_NO_NEWS);
		now += 100 * MS;
	}
}

static void test_one_after_another(void **state)
{
	/* As the programs a script starts. */
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(note(*state, 0x7fffff00 + i, 20, (1000 + i) * MS),
				 CALLERS_NO_NEWS);
}

static void test_pauses_get_longer(void **state)
{
	struct giveway_pause pause = { 0 };
	uint64_t now = 1000 * MS, length = 1000 * MS;

	assert_true(giveway_pause_is_over(&pause, now));
	for (int i = 0; i < 10; i++) {
		giveway_pause_finish(&pause, now);
		giveway_pause_finish(&pause, now + 1);
		now += MS;
		giveway_pause_begin(&pause, now);
		assert_false(giveway_pause_is_over(&pause, now + length - 1));
		now += length;
		assert_true(giveway_pause_is_over(&pause, now));
		length = length < 64000ULL * MS ? 2 * length : length;
	}
	/* It went well for longer than that. */
	giveway_pause_finish(&pause, now);
	now += 100000ULL * MS;
	giveway_pause_begin(&pause, now);
	assert_true(giveway_pause_is_over(&pause, now + 1000ULL * MS));
}

static void test_a_quiet_thread_is_not_starved(void **state)
{
	struct giveway_watch watch;

	giveway_watch_begin(&watch);
	assert_false(giveway_watch_is_starved(&watch, 0, 10));
	usleep(2000);
	/* A wait of 1000 ms, of which the thread could not have run for long. */
	for (int i = 0; i < 1000; i++)
		assert_false(giveway_watch_is_starved(&watch, 0, 10));
	assert_false(giveway_watch_is_starved(&watch, 0, 1000 * MS));
	assert_true(giveway_is_out_of_place(FUSE_FSYNC));
	assert_false(giveway_is_out_of_place(FUSE_LOOKUP));
}

#define with_callers(test) cmocka_unit_test_setup_teardown(test, callers_setup, callers_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_callers(test_one_caller),
		with_callers(test_who_is_not_to_be_found),
		with_callers(test_several_in_turn),
		with_callers(test_one_after_another),
		cmocka_unit_test(test_pauses_get_longer),
		cmocka_unit_test(test_a_quiet_thread_is_not_starved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
