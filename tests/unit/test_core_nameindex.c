/* SPDX-License-Identifier: MIT */
/* The index of the names in several directories: it misses nothing, and keeps to its budget. */
#include "unit.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "core/nameindex.h"

/* Hashes that agree in all the bits an index keeps. */
#define TWIN(hash) ((hash) ^ 0x3ffff)

struct walk {
	unsigned int count;
	unsigned int dirs[64], kinds[64];
};

/* All that the index has for @hash, from directory @from on. */
static struct walk walk_from(const struct nameindex *index, uint64_t hash, unsigned int from)
{
	struct nameindex_cursor cursor;
	struct walk walk = { 0 };

	nameindex_find(index, hash, &cursor);
	for (unsigned int dir = from;
	     walk.count < 64 && nameindex_next(&cursor, dir, &dir, &walk.kinds[walk.count]); dir++)
		walk.dirs[walk.count++] = dir;
	return walk;
}

static void check_walk(const struct nameindex *index, uint64_t hash, unsigned int from,
		       const struct walk *expected)
{
	struct walk walk = walk_from(index, hash, from);

	assert_int_equal(walk.count, expected->count);
	for (unsigned int i = 0; i < walk.count; i++) {
		assert_int_equal(walk.dirs[i], expected->dirs[i]);
		assert_int_equal(walk.kinds[i], expected->kinds[i]);
	}
}

static struct nameindex *finish(struct nameindex_builder *b)
{
	struct nameindex *index = nameindex_new(b);

	nameindex_builder_deinit(b);
	return index;
}

static void test_nothing(void **state)
{
	struct nameindex_budget budget = { .max = 4096 };
	struct nameindex_builder b;

	(void)state;
	nameindex_builder_init(&b, &budget);
	struct nameindex *index = finish(&b);

	assert_non_null(index);
	assert_int_equal(walk_from(index, 0, 0).count, 0);
	assert_int_equal(walk_from(index, UINT64_MAX, 0).count, 0);
	nameindex_free(index);
	assert_null(nameindex_free(NULL));
	assert_int_equal(budget.used, 0);
}

static void test_order_and_kinds(void **state)
{
	const uint64_t hash = UINT64_C(0x123456789abcdef0);
	struct nameindex_budget budget = { .max = 1 << 20 };
	struct nameindex_builder b;

	(void)state;
	nameindex_builder_init(&b, &budget);
	nameindex_builder_add(&b, hash, 0, NAMEINDEX_HIDES);
	nameindex_builder_add(&b, hash, 3, NAMEINDEX_ENTRY);
	nameindex_builder_add(&b, hash, 3, NAMEINDEX_HIDES);
	nameindex_builder_add(&b, hash, NAMEINDEX_DIRS_MAX - 1, NAMEINDEX_ENTRY);
	struct nameindex *index = finish(&b);

	check_walk(index, hash, 0,
		   &(struct walk){ 3,
				   { 0, 3, NAMEINDEX_DIRS_MAX - 1 },
				   { NAMEINDEX_HIDES, NAMEINDEX_ALL, NAMEINDEX_ENTRY } });
	check_walk(index, hash, 1,
		   &(struct walk){
			   2, { 3, NAMEINDEX_DIRS_MAX - 1 }, { NAMEINDEX_ALL, NAMEINDEX_ENTRY } });
	check_walk(index, hash, 4,
		   &(struct walk){ 1, { NAMEINDEX_DIRS_MAX - 1 }, { NAMEINDEX_ENTRY } });
	check_walk(index, ~hash, 0, &(struct walk){ 0 });
	nameindex_free(index);
}

/* Two names with one tag: each has what either has, and nothing is lost. */
static void test_equal_hashes(void **state)
{
	const uint64_t hash = UINT64_C(0xfedcba9876543210);
	struct nameindex_budget budget = { .max = 1 << 20 };
	struct nameindex_builder b;

	(void)state;
	nameindex_builder_init(&b, &budget);
	nameindex_builder_add(&b, hash, 1, NAMEINDEX_ENTRY);
	nameindex_builder_add(&b, TWIN(hash), 1, NAMEINDEX_HIDES);
	nameindex_builder_add(&b, TWIN(hash), 2, NAMEINDEX_ENTRY);
	struct nameindex *index = finish(&b);
	const struct walk both = { 2, { 1, 2 }, { NAMEINDEX_ALL, NAMEINDEX_ENTRY } };

	check_walk(index, hash, 0, &both);
	check_walk(index, TWIN(hash), 0, &both);
	nameindex_free(index);
}

/*
 * All pairs are in one bucket, the first or the last, where those of different names lie between
 * each other.
 */
static void test_one_bucket(void **state)
{
	const uint64_t ends[] = { 0, UINT64_C(0xffffffff) << 32 };
	enum {
		NAMES = 50,
		DIRS = 7
	};

	(void)state;
	for (int end = 0; end < 2; end++) {
		struct nameindex_budget budget = { .max = 1 << 20 };
		struct nameindex_builder b;

		nameindex_builder_init(&b, &budget);
		for (unsigned int dir = 0; dir < DIRS; dir++) {
			for (uint64_t name = 0; name < NAMES; name++) {
				if ((name + dir) % 3)
					nameindex_builder_add(&b, ends[end] | name << 18, dir,
							      NAMEINDEX_ENTRY);
			}
		}
		struct nameindex *index = finish(&b);

		for (uint64_t name = 0; name < NAMES; name++) {
			struct walk expected = { 0 };

			for (unsigned int dir = 0; dir < DIRS; dir++) {
				if ((name + dir) % 3) {
					expected.dirs[expected.count] = dir;
					expected.kinds[expected.count++] = NAMEINDEX_ENTRY;
				}
			}
			check_walk(index, ends[end] | name << 18, 0, &expected);
		}
		check_walk(index, ends[end] | NAMES << 18, 0, &(struct walk){ 0 });
		nameindex_free(index);
		assert_int_equal(budget.used, 0);
	}
}

/* Which of 9 directories have name number @i: some in none, some in all. */
static unsigned int names_mask(unsigned int i)
{
	return i * 2654435761U >> 23;
}

static uint64_t names_hash(unsigned int i)
{
	char name[16];

	return hash_bytes(name, snprintf(name, sizeof(name), "name-%u", i), 0);
}

static void test_many_names(void **state)
{
	enum {
		NAMES = 20000,
		DIRS = 9
	};
	struct nameindex_budget budget = { .max = 8 << 20 };
	struct nameindex_builder b;
	unsigned int pairs = 0, wrong = 0;

	(void)state;
	nameindex_builder_init(&b, &budget);
	for (unsigned int dir = 0; dir < DIRS; dir++) {
		for (unsigned int i = 0; i < NAMES; i++) {
			if (names_mask(i) >> dir & 1) {
				nameindex_builder_add(&b, names_hash(i), dir, NAMEINDEX_ENTRY);
				pairs++;
			}
		}
	}
	struct nameindex *index = finish(&b);

	for (unsigned int i = 0; i < NAMES; i++) {
		struct walk walk = walk_from(index, names_hash(i), 0);
		unsigned int mask = 0;

		for (unsigned int k = 0; k < walk.count; k++)
			mask |= 1U << walk.dirs[k];
		assert_int_equal(mask & names_mask(i), names_mask(i));
		wrong += mask != names_mask(i);
		assert_true(walk_from(index, names_hash(NAMES + i), 0).count <= DIRS);
		wrong += walk_from(index, names_hash(NAMES + i), 0).count > 0;
	}
	assert_true(wrong <= 1);
	assert_true(budget.used < (size_t)pairs * 11 + 64);
	nameindex_free(index);
	assert_int_equal(budget.used, 0);
}

/* How many pairs whoever looks for @hash has to look at. */
static size_t steps_for(const struct nameindex *index, uint64_t hash)
{
	struct nameindex_cursor cursor;

	nameindex_find(index, hash, &cursor);
	return cursor.end - cursor.next;
}

/* As the layers of an image may have them: nobody pays for the names of others. */
static void test_equal_names_in_many_directories(void **state)
{
	enum {
		NAMES = 3000,
		DIRS = 500
	};
	struct nameindex_budget budget = { .max = 32 << 20 };
	struct nameindex_builder b;
	size_t present = 0, absent = 0;

	(void)state;
	nameindex_builder_init(&b, &budget);
	for (unsigned int dir = 0; dir < DIRS; dir++) {
		for (unsigned int i = 0; i < NAMES; i++)
			nameindex_builder_add(&b, names_hash(i), dir, NAMEINDEX_ENTRY);
	}
	struct nameindex *index = finish(&b);

	assert_non_null(index);
	assert_true(budget.used <= (size_t)NAMES * DIRS * 10 + 64);
	for (unsigned int i = 0; i < NAMES; i++) {
		const struct walk walk = walk_from(index, names_hash(i), 0);

		assert_int_equal(walk.count, 64);
		for (unsigned int dir = 0; dir < 64; dir++)
			assert_int_equal(walk.dirs[dir], dir);
		assert_int_equal(walk_from(index, names_hash(i), DIRS - 1).count, 1);
		present += steps_for(index, names_hash(i));
		absent += steps_for(index, names_hash(NAMES + i));
		assert_true(steps_for(index, names_hash(NAMES + i)) <= 4 * DIRS);
	}
	/* One name in 250 shares a bucket with another. */
	assert_true(present < (size_t)NAMES * DIRS * 11 / 10);
	assert_true(absent < (size_t)NAMES * 10);
	nameindex_free(index);
	assert_int_equal(budget.used, 0);
}

static void test_budget(void **state)
{
	struct nameindex_budget budget = { .max = 64 << 10 };
	struct nameindex *kept[4];
	unsigned int made = 0;

	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		struct nameindex_builder b;

		nameindex_builder_init(&b, &budget);
		for (unsigned int i = 0; i < 2000; i++)
			nameindex_builder_add(&b, names_hash(i), 0, NAMEINDEX_ENTRY);
		assert_true(atomic_load(&budget.used) <= budget.max);
		kept[k] = finish(&b);
		made += kept[k] != NULL;
		assert_true(atomic_load(&budget.used) <= budget.max);
	}
	/* Each takes 20 KB, and as much again while it is made. */
	assert_int_equal(made, 2);
	for (unsigned int k = 0; k < 4; k++)
		nameindex_free(kept[k]);
	assert_int_equal(budget.used, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_order_and_kinds),
		cmocka_unit_test(test_equal_hashes),
		cmocka_unit_test(test_one_bucket),
		cmocka_unit_test(test_many_names),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_equal_names_in_many_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
