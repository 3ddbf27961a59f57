/* SPDX-License-Identifier: MIT */
/* Which listings come with attributes: callers are judged by what they did before. */
#include "unit.h"

#include "daemon/readers.h"

#define SOMEBODY 100
#define DIRECTORY 7

static struct readers_plan list(struct readers *readers, pid_t pid, uint64_t directory)
{
	struct readers_plan plan;

	readers_plan(readers, pid, directory, true, &plan);
	/* Every directory here has files enough, and shows some without attributes if told so. */
	if (!plan.lookup || plan.plain)
		readers_note_trial(readers, pid);
	return plan;
}

static void look_up(struct readers *readers, pid_t pid, uint64_t directory, int count)
{
	while (count--)
		readers_note_lookup(readers, pid, directory);
}

static int setup(void **state)
{
	static struct readers readers;

	readers_init(&readers);
	*state = &readers;
	return 0;
}

static int teardown(void **state)
{
	readers_deinit(*state);
	return 0;
}

static void names_are_enough_at_first(void **state)
{
	struct readers_plan plan = list(*state, SOMEBODY, DIRECTORY);

	assert_false(plan.lookup);
	assert_true(plan.max > 0);
	/* Who asked for nothing of what was listed is given all there is room for. */
	plan = list(*state, SOMEBODY, DIRECTORY + 1);
	assert_false(plan.lookup);
	assert_int_equal(plan.max, 0);
}

static void one_who_looks_at_what_is_listed_gets_attributes(void **state)
{
	struct readers_plan plan;

	list(*state, SOMEBODY, DIRECTORY);
	look_up(*state, SOMEBODY, DIRECTORY, 1);
	look_up(*state, SOMEBODY, DIRECTORY + 1, 5); /* not what was listed */
	look_up(*state, SOMEBODY + 1, DIRECTORY, 5); /* somebody else */
	readers_plan(*state, SOMEBODY, DIRECTORY, false, &plan);
	assert_false(plan.lookup);
	look_up(*state, SOMEBODY, DIRECTORY, 1);
	readers_plan(*state, SOMEBODY, DIRECTORY, false, &plan);
	assert_true(plan.lookup);
	assert_true(list(*state, SOMEBODY, DIRECTORY + 1).lookup);
}

static void a_trial_finds_out_that_names_are_enough(void **state)
{
	struct readers_plan plan = { 0 };

	list(*state, SOMEBODY, DIRECTORY);
	look_up(*state, SOMEBODY, DIRECTORY, 2);
	for (int i = 1; i < 100; i++) {
		plan = list(*state, SOMEBODY, DIRECTORY + i);
		assert_true(plan.lookup);
		if (plan.plain)
			look_up(*state, SOMEBODY, DIRECTORY + i, (int)plan.plain);
	}
	int listings = 0;

	do {
		plan = list(*state, SOMEBODY, DIRECTORY);
		assert_true(++listings < 20);
	} while (plan.lookup);
}

static void the_unknown_are_taken_for_the_last_one_judged(void **state)
{
	list(*state, SOMEBODY, DIRECTORY);
	look_up(*state, SOMEBODY, DIRECTORY, 2);
	/* Each of these ends after one listing, as a shell's commands do. */
	for (pid_t pid = SOMEBODY + 1; pid < SOMEBODY + 20; pid++) {
		struct readers_plan plan = list(*state, pid, DIRECTORY);

		assert_true(plan.lookup);
		assert_true(plan.plain > 0);
		look_up(*state, pid, DIRECTORY, (int)plan.plain);
	}
	assert_true(list(*state, SOMEBODY + 20, DIRECTORY).lookup);
	assert_false(list(*state, SOMEBODY + 21, DIRECTORY).lookup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_are_enough_at_first, setup, teardown),
		cmocka_unit_test_setup_teardown(one_who_looks_at_what_is_listed_gets_attributes,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_trial_finds_out_that_names_are_enough, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_unknown_are_taken_for_the_last_one_judged,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
