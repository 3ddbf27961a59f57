/* SPDX-License-Identifier: MIT */
/* Calls that meet inside the union, which the kernel would not all send at once. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "core/core.h"

#define ROUNDS 300

static const struct core_call root_call = { 0 };

/* A union of "low", "up" and "work" in the scratch directory. */
static struct core *union_open(struct unit_scratch *scratch)
{
	static const char *const names[] = { "low", "up", "work" };
	char paths[3][96];
	struct strbuf why = STRBUF_INIT;
	struct core *core = NULL;

	if (!unit_is_root())
		unit_skip("whiteouts are root's to make");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(mkdirat(scratch->fd, names[i], 0755), 0);
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", scratch->path, names[i]);
	}
	for (int i = 0; i < ROUNDS; i++) {
		char a[16], b[16];

		snprintf(a, sizeof(a), "low/a%d", i);
		snprintf(b, sizeof(b), "low/b%d", i);
		unit_write(scratch->fd, a, "");
		assert_int_equal(linkat(scratch->fd, a, scratch->fd, b, 0), 0);
	}
	struct lowerdir lower = { .path = paths[0] };
	const struct core_config config = {
		.lowers = { .items = &lower, .count = 1 },
		.upperdir = paths[1],
		.workdir = paths[2],
		.fsync = CORE_FSYNC_VOLATILE,
		.index = CORE_INDEX_ON,
		.max_fds = 128,
	};

	if (core_new(&config, &core, &why) < 0)
		fail_msg("%s", why.data);
	strbuf_deinit(&why);
	return core;
}

static uint64_t union_lookup(struct core *core, uint64_t parent, const char *name)
{
	struct core_entry entry;

	assert_int_equal(core_lookup(core, &root_call, parent, name, &entry), 0);
	assert_int_not_equal(entry.node, 0);
	return entry.node;
}

/* What one of two threads does in each round, both starting it together. */
struct racer {
	struct core *core;
	_Atomic int *arrived; /* at the start of a round, of both */
	int (*step)(struct racer *racer, int round);
	uint64_t dir;
	const uint64_t *nodes;
	_Atomic int *removed;
	int failed; /* the first error */
};

static void *race_run(void *argument)
{
	struct racer *racer = argument;

	for (int round = 0; round < ROUNDS; round++) {
		/* Turning, not sleeping: a thread that has to wake up comes too late. */
		atomic_fetch_add(racer->arrived, 1);
		while (atomic_load(racer->arrived) < 2 * (round + 1))
			sched_yield();
		int r = racer->step(racer, round);

		if (r < 0 && !racer->failed)
			racer->failed = r;
	}
	return NULL;
}

static void race(struct racer racers[2])
{
	_Atomic int arrived = 0;
	pthread_t thread;

	racers[0].arrived = racers[1].arrived = &arrived;
	assert_int_equal(pthread_create(&thread, NULL, race_run, &racers[0]), 0);
	race_run(&racers[1]);
	pthread_join(thread, NULL);
	assert_int_equal(racers[0].failed, 0);
	assert_int_equal(racers[1].failed, 0);
}

static int step_unlink(struct racer *racer, int round)
{
	char name[16];

	snprintf(name, sizeof(name), "f%d", round);
	return core_unlink(racer->core, &root_call, racer->dir, name);
}

/* The two names of a file go at once, in two directories: it has lost its last one all the same. */
static void test_two_removals(void **state)
{
	struct core *core = union_open(*state);
	struct racer racers[2] = { { .step = step_unlink }, { .step = step_unlink } };
	uint64_t nodes[ROUNDS];
	struct core_entry entry;
	struct statx st;

	for (int i = 0; i < 2; i++) {
		racers[i].core = core;
		assert_int_equal(core_mkdir(core, &root_call, CORE_ROOT, i ? "d1" : "d0",
					    S_IFDIR | 0755, &entry),
				 0);
		racers[i].dir = entry.node;
	}
	for (int i = 0; i < ROUNDS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(core_mknod(core, &root_call, racers[0].dir, name, S_IFREG | 0644,
					    0, &entry),
				 0);
		nodes[i] = entry.node;
		assert_int_equal(core_link(core, &root_call, nodes[i], racers[1].dir, name, &entry),
				 0);
	}
	race(racers);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(core_getattr(core, nodes[i], &st), 0);
		assert_int_equal(st.stx_nlink, 0);
	}
	core_free(core);
}

static int step_unlink_last(struct racer *racer, int round)
{
	char name[16];

	snprintf(name, sizeof(name), "b%d", round);
	int r = core_unlink(racer->core, &root_call, CORE_ROOT, name);

	atomic_store(racer->removed, round + 1);
	return r;
}

static int step_getattr(struct racer *racer, int round)
{
	struct statx st;
	int r;

	do
		r = core_getattr(racer->core, racer->nodes[round], &st);
	while (r == 0 && atomic_load(racer->removed) <= round);
	return r;
}

/* An indexed file whose other name nobody has asked for yet is looked at while that goes. */
static void test_attributes_and_the_last_name(void **state)
{
	struct core *core = union_open(*state);
	uint64_t nodes[ROUNDS];
	_Atomic int removed = 0;
	struct racer racers[2] = {
		{ .core = core, .step = step_unlink_last, .removed = &removed },
		{ .core = core, .step = step_getattr, .removed = &removed, .nodes = nodes },
	};

	for (int i = 0; i < ROUNDS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "a%d", i);
		nodes[i] = union_lookup(core, CORE_ROOT, name);
		assert_int_equal(core_unlink(core, &root_call, CORE_ROOT, name), 0);
	}
	race(racers);
	core_free(core);
}

/* ---- the budget of nodes ---- */

#define NODES_MAX 64

/* What the kernel is to us here: it has each node looked up once, and gives up what it does not
 * use. */
struct holder {
	struct core *core;
	_Atomic int exceeded;
	uint64_t used[8]; /* never given up */
	unsigned int asked, given; /* in the last round */
	bool is_stubborn; /* everything is in use */
};

static void holder_exceeded(void *context)
{
	struct holder *holder = context;

	atomic_fetch_add(&holder->exceeded, 1);
}

static int holder_prune(void *context, const uint64_t *ids, unsigned int count)
{
	struct holder *holder = context;

	holder->asked += count;
	for (unsigned int i = 0; i < count; i++) {
		bool is_used = holder->is_stubborn;

		assert_true(ids[i] != CORE_ROOT);
		for (size_t k = 0; k < ARRAY_SIZE(holder->used); k++)
			is_used |= holder->used[k] == ids[i];
		if (is_used)
			continue;
		core_forget(holder->core, ids[i], 1);
		holder->given++;
	}
	return 0;
}

static int holder_round(struct holder *holder)
{
	holder->asked = holder->given = 0;
	return core_prune(holder->core, holder_prune, holder);
}

static uint64_t holder_nodes(const struct holder *holder)
{
	struct core_counts counts;

	core_get_counts(holder->core, &counts);
	return counts.nodes;
}

static struct holder holder_open(struct unit_scratch *scratch)
{
	return (struct holder){ .core = union_open(scratch) };
}

static void holder_limit(struct holder *holder)
{
	const struct core_budget budget = { .max_nodes = NODES_MAX,
					    .exceeded = holder_exceeded,
					    .context = holder };

	core_set_budget(holder->core, &budget);
}

static uint64_t holder_meet(struct holder *holder, int i)
{
	char name[16];

	snprintf(name, sizeof(name), "b%d", i);
	return union_lookup(holder->core, CORE_ROOT, name);
}

/* Whoever is in use or was asked for stays; the number is within the limit after each round. */
static void test_budget_keeps_what_is_used(void **state)
{
	struct holder holder = holder_open(*state);
	struct statx st;
	uint64_t warm;

	holder_limit(&holder);
	for (size_t k = 0; k < ARRAY_SIZE(holder.used); k++)
		holder.used[k] = holder_meet(&holder, (int)k);
	warm = holder_meet(&holder, ROUNDS - 1);
	for (int i = ARRAY_SIZE(holder.used); i < ROUNDS - 1; i++) {
		holder_meet(&holder, i);
		assert_int_equal(core_getattr(holder.core, warm, &st), 0);
		if (!atomic_exchange(&holder.exceeded, 0))
			continue;
		assert_int_equal(holder_round(&holder), 0);
		assert_true(holder.given > 0);
		assert_true(holder_nodes(&holder) <= NODES_MAX);
		assert_int_equal(core_getattr(holder.core, warm, &st), 0);
	}
	for (size_t k = 0; k < ARRAY_SIZE(holder.used); k++)
		assert_int_equal(core_getattr(holder.core, holder.used[k], &st), 0);
	core_free(holder.core);
}

/* Where everything is in use, a round ends, and there are only so many. */
static void test_budget_gives_up(void **state)
{
	struct holder holder = holder_open(*state);
	int rounds = 0;

	holder_limit(&holder);
	holder.is_stubborn = true;
	for (int i = 0; i < ROUNDS; i++) {
		holder_meet(&holder, i);
		if (!atomic_exchange(&holder.exceeded, 0))
			continue;
		rounds++;
		assert_int_equal(holder_round(&holder), 0);
		assert_true(holder.asked <= 2 * holder_nodes(&holder));
	}
	assert_in_range(rounds, 2, ROUNDS / 16 + 1);
	holder.is_stubborn = false;
	holder_meet(&holder, 0);
	assert_int_equal(holder_round(&holder), 0);
	core_free(holder.core);
}

/* A directory goes only after what is known in it. */
static void test_budget_and_directories(void **state)
{
	struct holder holder = holder_open(*state);
	struct core_entry entry;
	uint64_t dir = CORE_ROOT;

	for (int i = 0; i < 2 * NODES_MAX; i++) {
		assert_int_equal(
			core_mkdir(holder.core, &root_call, dir, "d", S_IFDIR | 0755, &entry), 0);
		dir = entry.node;
	}
	holder_limit(&holder);
	for (int i = 0; i < 2 * NODES_MAX && holder_nodes(&holder) > NODES_MAX; i++) {
		assert_int_equal(holder_round(&holder), 0);
		assert_true(holder.given > 0);
		assert_int_equal(holder.given, holder.asked);
	}
	assert_true(holder_nodes(&holder) <= NODES_MAX);
	core_free(holder.core);
}

/* Who asks for objects that are being forgotten finds them, as what they are. */
static int step_look(struct racer *racer, int round)
{
	struct core_entry entry;
	char name[16];

	snprintf(name, sizeof(name), "a%d", round % 100);
	int r = core_lookup(racer->core, &root_call, CORE_ROOT, name, &entry);

	return r < 0 ? r : entry.node == 0 ? -ENOENT : 0;
}

static int step_prune(struct racer *racer, int round)
{
	struct holder holder = { .core = racer->core };

	(void)round;
	return holder_round(&holder);
}

static void test_budget_race(void **state)
{
	struct holder holder = holder_open(*state);
	struct racer racers[2] = {
		{ .core = holder.core, .step = step_look },
		{ .core = holder.core, .step = step_prune },
	};

	holder_limit(&holder);
	race(racers);
	core_free(holder.core);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_scratch(test_two_removals),
		with_scratch(test_attributes_and_the_last_name),
		with_scratch(test_budget_keeps_what_is_used),
		with_scratch(test_budget_gives_up),
		with_scratch(test_budget_and_directories),
		with_scratch(test_budget_race),
	};

	return cmocka_run_group_tests_name("union", tests, NULL, NULL);
}
