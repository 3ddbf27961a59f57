/* SPDX-License-Identifier: MIT */
/* Names as JSON, and numbers as people read them. */
#include "unit.h"

#include <string.h>

#include "base/util.h"
#include "format/jsontext.h"
#include "tools/human.h"
#include "tools/tools.h"

static void check_text(const char *bytes, const char *text, const char *hex)
{
	json_t *object = json_object();

	assert_int_equal(jsontext_set(object, "path", bytes), 0);
	assert_string_equal(json_string_value(json_object_get(object, "path")), text);
	if (hex)
		assert_string_equal(json_string_value(json_object_get(object, "path_hex")), hex);
	else
		assert_null(json_object_get(object, "path_hex"));
	json_decref(object);
}

static void test_names_that_are_text(void **state)
{
	check_text("", "", NULL);
	check_text("/a b\n\"\x7f", "/a b\n\"\x7f", NULL);
	check_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		   NULL);
	check_text("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
		   "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", NULL);
}

#define BAD "\xef\xbf\xbd"

static void test_names_that_are_not(void **state)
{
	check_text("a\xff", "a" BAD, "61ff");
	/* Cut off at the end, and in the middle. */
	check_text("\xe2\x82", BAD BAD, "e282");
	check_text("\xe2\x82x", BAD BAD "x", "e28278");
	/* Overlong, surrogates, beyond the last character. */
	check_text("\xc0\xaf", BAD BAD, "c0af");
	check_text("\xe0\x80\xaf", BAD BAD BAD, "e080af");
	check_text("\xed\xa0\x80", BAD BAD BAD, "eda080");
	check_text("\xf4\x90\x80\x80", BAD BAD BAD BAD, "f4908080");
}

static void test_no_name(void **state)
{
	json_t *object = json_object();

	assert_int_equal(jsontext_set(object, "path", NULL), 0);
	assert_true(json_is_null(json_object_get(object, "path")));
	json_decref(object);
}

static void test_sizes(void **state)
{
	char text[HUMAN_MAX];

	assert_string_equal(human_size(0, text), "0 B");
	assert_string_equal(human_size(1023, text), "1023 B");
	assert_string_equal(human_size(1536, text), "1.5 KiB");
	assert_string_equal(human_size(1048575, text), "1.0 MiB");
	assert_string_equal(human_size(10ULL << 30, text), "10 GiB");
	assert_string_equal(human_size(UINT64_MAX, text), "16 EiB");
}

static void test_times(void **state)
{
	char text[HUMAN_MAX];

	assert_string_equal(human_latency(999, text), "999 ns");
	assert_string_equal(human_latency(1500, text), "1.5 us");
	assert_string_equal(human_latency(999999, text), "1.0 ms");
	assert_string_equal(human_latency(12000000000, text), "12 s");
	assert_string_equal(human_duration(59, text), "59 s");
	assert_string_equal(human_duration(185, text), "3 min 5 s");
	assert_string_equal(human_duration(90000, text), "1 d 1 h");
}

static void test_commands(void **state)
{
	assert_non_null(tools_find("status"));
	assert_null(tools_find("mount"));
	assert_null(tools_find(""));
	assert_null(tools_find("-o"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_that_are_text),
		cmocka_unit_test(test_names_that_are_not),
		cmocka_unit_test(test_no_name),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
