/* SPDX-License-Identifier: MIT */
/* What of the union can be tested without layers. */
#include "unit.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "core/ident.h"
#include "core/recall.h"

/* ---- recall ---- */

static void note(struct recall *recall, uint64_t id, uint64_t ino, uint64_t parent,
		 const char *name)
{
	const struct recall_entry entry = {
		.id = id, .ino = ino, .parent = parent, .name = name, .length = strlen(name)
	};

	recall_note(recall, &entry);
}

static void test_recall_basics(void **state)
{
	struct recall recall;
	char name[NAME_MAX + 1];
	uint64_t parent;

	(void)state;
	recall_init(&recall, RECALL_LIMIT_DEFAULT);
	assert_true(recall_find_name(&recall, 1, "a", 10) == 0);
	assert_false(recall_find_id(&recall, 5, 0, &parent, name));
	note(&recall, 5, 10, 1, "a");
	note(&recall, 5, 10, 2, "b");
	note(&recall, 5, 10, 1, "a");
	note(&recall, 6, 11, 1, "c");
	assert_true(recall.count == 3);
	assert_true(recall_find_name(&recall, 1, "a", 10) == 5);
	/* Another object is there now. */
	assert_true(recall_find_name(&recall, 1, "a", 11) == 0);
	assert_true(recall_find_ino(&recall, 11) == 6);
	for (unsigned int which = 0; which < 2; which++) {
		assert_true(recall_find_id(&recall, 5, which, &parent, name));
		assert_string_equal(name, parent == 1 ? "a" : "b");
	}
	assert_false(recall_find_id(&recall, 5, 2, &parent, NULL));
	/* A name leads to one object only. */
	note(&recall, 7, 12, 1, "a");
	assert_true(recall_find_name(&recall, 1, "a", 12) == 7);
	assert_false(recall_find_id(&recall, 5, 1, &parent, NULL));
	recall_drop(&recall, 1, "a");
	recall_drop(&recall, 1, "never");
	assert_true(recall_find_name(&recall, 1, "a", 12) == 0);
	recall_drop(&recall, 2, "b");
	recall_drop(&recall, 1, "c");
	assert_true(recall.count == 0);
	assert_null(recall.region);
	recall_close(&recall);
	note(&recall, 5, 10, 1, "a");
	assert_true(recall.count == 0);
	recall_deinit(&recall);
}

/* Far more than there is room for: it stays within its bound, and the newest are known. */
static void test_recall_bound(void **state)
{
	enum {
		COUNT = 200000,
		NEWEST = 6500
	};
	struct recall recall;
	char name[NAME_MAX + 1], found[NAME_MAX + 1];
	uint64_t parent;

	(void)state;
	recall_init(&recall, RECALL_LIMIT_DEFAULT);
	for (uint64_t i = 1; i <= COUNT; i++) {
		snprintf(name, sizeof(name), "name-%" PRIu64, i);
		note(&recall, i, 2 * i, i / 100, name);
		/* Names of the length that names may have, some of them gone again. */
		if (i % 1000 == 0) {
			memset(name, 'x', NAME_MAX);
			name[NAME_MAX] = '\0';
			note(&recall, COUNT + i, 1, i, name);
			recall_drop(&recall, i, name);
		}
	}
	assert_true(recall.size <= RECALL_LIMIT_DEFAULT);
	assert_true(recall.count >= NEWEST);
	for (uint64_t i = COUNT - NEWEST + 1; i <= COUNT; i++) {
		snprintf(name, sizeof(name), "name-%" PRIu64, i);
		assert_true(recall_find_name(&recall, i / 100, name, 2 * i) == i);
		assert_true(recall_find_ino(&recall, 2 * i) == i);
		assert_true(recall_find_id(&recall, i, 0, &parent, found));
		assert_true(parent == i / 100);
		assert_string_equal(found, name);
	}
	assert_false(recall_find_id(&recall, 1, 0, &parent, found));
	recall_deinit(&recall);
}

/* What is forgotten again and again stays known, and does not push out the others. */
static void test_recall_refresh(void **state)
{
	struct recall recall;
	char name[32];

	(void)state;
	recall_init(&recall, 64 << 10);
	for (uint64_t i = 1; i <= 500; i++) {
		snprintf(name, sizeof(name), "%" PRIu64, i);
		note(&recall, i, i, 1, name);
	}
	for (uint64_t i = 0; i < 100000; i++) {
		snprintf(name, sizeof(name), "%" PRIu64, i % 10 + 1);
		note(&recall, i % 10 + 1, i % 10 + 1, 1, name);
	}
	assert_true(recall.count == 500);
	for (uint64_t i = 1; i <= 500; i++)
		assert_true(recall_find_ino(&recall, i) == i);
	recall_deinit(&recall);
}

/* ---- inode numbers ---- */

/* Whatever is asked for first, and whether a file system begins within a layer or is one's own. */
static void test_ident_is_constant(void **state)
{
	static const uint64_t numbers[] = { 1, 5, UINT64_C(1) << 52, UINT64_MAX };
	enum {
		DEVS = 4,
		LAYERS = 2
	};
	struct ident one, two;
	uint64_t seen[DEVS][ARRAY_SIZE(numbers)];

	(void)state;
	ident_init(&one);
	ident_init(&two);
	for (dev_t dev = 0; dev < LAYERS; dev++) {
		assert_int_equal(ident_add_dev(&one, dev + 10), 0);
		assert_int_equal(ident_add_dev(&two, dev + 10), 0);
	}
	for (dev_t dev = 0; dev < DEVS; dev++) {
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
			seen[dev][i] = ident_ino(&one, dev + 10, numbers[i]);
	}
	assert_true(seen[0][1] == 5);
	for (dev_t dev = DEVS; dev-- > 0;) {
		for (size_t i = ARRAY_SIZE(numbers); i-- > 0;) {
			uint64_t number = ident_ino(&two, dev + 10, numbers[i]);

			assert_true(number == seen[dev][i]);
			for (size_t other = 0; other < i; other++)
				assert_true(number != seen[dev][other]);
			for (dev_t other = 0; other < dev; other++)
				assert_true(number != seen[other][i]);
		}
	}
	ident_deinit(&one);
	ident_deinit(&two);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recall_basics),
		cmocka_unit_test(test_recall_bound),
		cmocka_unit_test(test_recall_refresh),
		cmocka_unit_test(test_ident_is_constant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
