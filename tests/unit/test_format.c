/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "format/aside.h"
#include "format/lowerdir.h"
#include "format/metacopy.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/owner.h"
#include "format/protattr.h"
#include "format/redirect.h"
#include "format/times.h"
#include "format/whiteout.h"
#include "format/xattr_name.h"

/* --- xattr names ---------------------------------------------------------------------- */

static void test_xattr_private(void **state)
{
	(void)state;
	assert_string_equal(xattr_private_name(XATTR_TRUSTED, XATTR_OPAQUE),
			    "trusted.overlay.opaque");
	assert_string_equal(xattr_private_name(XATTR_USER, XATTR_PROTATTR),
			    "user.overlay.protattr");
	for (int i = 0; i < XATTR_PRIVATE_COUNT; i++) {
		const char *trusted = xattr_private_name(XATTR_TRUSTED, (enum xattr_private)i);
		const char *user = xattr_private_name(XATTR_USER, (enum xattr_private)i);

		assert_string_equal(strrchr(trusted, '.'), strrchr(user, '.'));
		assert_true(xattr_name_is_private(XATTR_TRUSTED, trusted));
		assert_false(xattr_name_is_private(XATTR_TRUSTED, user));
		assert_true(xattr_name_is_private(XATTR_USER, user));
	}
	assert_true(xattr_name_is_private(XATTR_TRUSTED, "trusted.overlay.anything"));
	assert_true(xattr_name_is_private(XATTR_TRUSTED, "trusted.overlay."));
	assert_true(xattr_name_is_private(XATTR_TRUSTED, "trusted.overlay.overlay"));
	assert_false(xattr_name_is_private(XATTR_TRUSTED, "trusted.overlay.overlay.opaque"));
	assert_false(xattr_name_is_private(XATTR_TRUSTED, "trusted.overlay"));
	assert_false(xattr_name_is_private(XATTR_TRUSTED, "user.comment"));
}

static void test_xattr_escape(void **state)
{
	char buf[XATTR_KEY_MAX + 1], name[XATTR_KEY_MAX + 1];
	const char *plain = "user.comment";

	(void)state;
	assert_ptr_equal(xattr_name_escape(XATTR_TRUSTED, plain, buf), plain);
	assert_string_equal(xattr_name_escape(XATTR_TRUSTED, "trusted.overlay.opaque", buf),
			    "trusted.overlay.overlay.opaque");
	assert_string_equal(xattr_name_escape(XATTR_USER, "user.overlay.overlay.x", buf),
			    "user.overlay.overlay.overlay.x");
	memset(name, 'x', sizeof(name));
	memcpy(name, "trusted.overlay.", 16);
	name[XATTR_KEY_MAX] = '\0';
	assert_null(xattr_name_escape(XATTR_TRUSTED, name, buf));
	assert_ptr_equal(xattr_name_escape(XATTR_USER, name, buf), name);
	name[XATTR_KEY_MAX - 8] = '\0';
	assert_int_equal(strlen(xattr_name_escape(XATTR_TRUSTED, name, buf)), XATTR_KEY_MAX);
}

#define LIST(text) text, sizeof(text) - 1

static void check_filter(const char *list, size_t size, const char *expected, size_t expected_size)
{
	/* On the heap, so that a sanitizer sees a step too far. */
	_cleanup_free_ char *copy = malloc(size + 1);

	memcpy(copy, list, size);
	assert_int_equal(xattr_list_filter(XATTR_TRUSTED, copy, size), expected_size);
	assert_memory_equal(copy, expected, expected_size);
}

static void test_xattr_filter(void **state)
{
	(void)state;
	check_filter(LIST(""), LIST(""));
	check_filter(LIST("user.a\0security.b\0"), LIST("user.a\0security.b\0"));
	check_filter(LIST("trusted.overlay.origin\0"), LIST(""));
	check_filter(
		LIST("trusted.overlay.origin\0user.a\0trusted.overlay.overlay.opaque\0"
		     "trusted.overlay.impure\0trusted.overlay.overlay.overlay.x\0user.overlay.y\0"),
		LIST("user.a\0trusted.overlay.opaque\0trusted.overlay.overlay.x\0"
		     "user.overlay.y\0"));
	/* Damaged: the last name has no end. */
	check_filter(LIST("user.a\0user.b"), LIST("user.a\0"));
	check_filter(LIST("trusted.overlay.overlay."), LIST(""));
}

/* --- whiteouts ------------------------------------------------------------------------ */

static void test_whiteout(void **state)
{
	static const struct {
		const char *name;
		enum whiteout_name kind;
	} names[] = {
		{ "file", WHITEOUT_NAME_NONE },
		{ ".wh", WHITEOUT_NAME_NONE },
		{ ".wh.file", WHITEOUT_NAME_HIDES },
		{ ".wh..hidden", WHITEOUT_NAME_HIDES },
		{ ".wh....", WHITEOUT_NAME_HIDES },
		{ ".wh..wh..opq", WHITEOUT_NAME_OPAQUE },
		{ ".wh..wh..opqx", WHITEOUT_NAME_META },
		{ ".wh..wh.plnk", WHITEOUT_NAME_META },
		{ ".wh..wh.", WHITEOUT_NAME_META },
		{ ".wh.", WHITEOUT_NAME_META },
		{ ".wh..", WHITEOUT_NAME_META },
		{ ".wh...", WHITEOUT_NAME_META },
		{ "", WHITEOUT_NAME_NONE },
		{ "x.wh.y", WHITEOUT_NAME_NONE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(whiteout_name_kind(names[i].name), names[i].kind);
	assert_true(whiteout_is_device(S_IFCHR | 0644, 0));
	assert_false(whiteout_is_device(S_IFCHR | 0644, 1));
	assert_false(whiteout_is_device(S_IFBLK, 0));
	assert_false(whiteout_is_device(S_IFREG, 0));
	assert_true(whiteout_may_be_xattr(S_IFREG | 0600, 0));
	assert_false(whiteout_may_be_xattr(S_IFREG | 0600, 1));
	assert_false(whiteout_may_be_xattr(S_IFSOCK, 0));
	assert_int_equal(opaque_parse("y", 1), OPAQUE_YES);
	assert_int_equal(opaque_parse("x", 1), OPAQUE_XWHITEOUTS);
	assert_int_equal(opaque_parse("yx", 2), OPAQUE_NONE);
	assert_int_equal(opaque_parse("n", 1), OPAQUE_NONE);
	assert_int_equal(opaque_parse("", 0), OPAQUE_NONE);
}

/* --- redirect ------------------------------------------------------------------------- */

static void test_redirect_grammar(void **state)
{
	static const char *const good[] = { "name", "/a", "/a/b/c", "...", "/.../x", "a b\n\xff" };
	static const char *const bad[] = { "",	"/",  "//a", "/a/",   "/a//b", "a/b", "a/",
					   ".", "..", "/.",  "/a/..", "/../a", "./a" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(redirect_is_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(redirect_is_valid(bad[i], strlen(bad[i])));
	assert_false(redirect_is_valid("a\0b", 3));
	assert_false(redirect_is_valid("/a\0", 3));
	assert_false(redirect_is_valid("/a/\0", 4));
	assert_true(redirect_is_absolute("/a"));
	assert_false(redirect_is_absolute("a"));
}

static void test_redirect_walk(void **state)
{
	const char *cursor = "/usr/share/x";
	const char *component = NULL;

	(void)state;
	assert_int_equal(redirect_next(&cursor, &component), 3);
	assert_memory_equal(component, "usr", 3);
	assert_int_equal(redirect_next(&cursor, &component), 5);
	assert_memory_equal(component, "share", 5);
	assert_int_equal(redirect_next(&cursor, &component), 1);
	assert_memory_equal(component, "x", 1);
	assert_int_equal(redirect_next(&cursor, &component), 0);
	assert_int_equal(redirect_next(&cursor, &component), 0);
}

/* --- metacopy, nlink, protattr -------------------------------------------------------- */

static void test_metacopy(void **state)
{
	uint8_t bytes[METACOPY_SIZE_MAX + 1] = { 0, 36, 0, 1, 0xaa };
	uint8_t out[METACOPY_SIZE_MAX];
	struct metacopy metacopy;

	(void)state;
	assert_int_equal(metacopy_decode("", 0, &metacopy), 0);
	assert_int_equal(metacopy_encode(&metacopy, out), 0);
	assert_int_equal(metacopy_decode("\0\4\0\0", 4, &metacopy), 0);
	assert_int_equal(metacopy_encode(&metacopy, out), 0);
	assert_int_equal(metacopy_decode(bytes, 36, &metacopy), 0);
	assert_int_equal(metacopy.digest_algorithm, 1);
	assert_int_equal(metacopy.digest_size, 32);
	assert_int_equal(metacopy_encode(&metacopy, out), 36);
	assert_memory_equal(out, bytes, 36);
	bytes[1] = METACOPY_SIZE_MAX;
	assert_int_equal(metacopy_decode(bytes, METACOPY_SIZE_MAX, &metacopy), 0);
	assert_int_equal(metacopy_encode(&metacopy, out), METACOPY_SIZE_MAX);
	/* Every other length, version and flags are damage. */
	for (size_t size = 1; size <= METACOPY_SIZE_MAX + 1; size++) {
		if (size != METACOPY_SIZE_MAX)
			assert_int_equal(metacopy_decode(bytes, size, &metacopy), -EIO);
	}
	assert_int_equal(metacopy_decode("\1\4\0\0", 4, &metacopy), -EIO);
	assert_int_equal(metacopy_decode("\0\4\1\0", 4, &metacopy), -EIO);
	metacopy.digest_size = METACOPY_DIGEST_MAX + 1;
	assert_int_equal(metacopy_encode(&metacopy, out), 0);
}

static void test_nlink(void **state)
{
	static const char *const good[] = { "U+0", "U-1", "L+12", "L-2147483648", "U+2147483647" };
	static const char *const bad[] = { "",
					   "U",
					   "U+",
					   "U1",
					   "X+1",
					   "U+1x",
					   "u+1",
					   "L--1",
					   "U+ 1",
					   "L-\n",
					   "L-2147483649",
					   "U+2147483648",
					   "U+99999999999999999999999999" };
	char out[NLINK_SIZE_MAX];
	struct nlink nlink;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(nlink_decode(good[i], strlen(good[i]), &nlink), 0);
		assert_int_equal(nlink_encode(&nlink, out), strlen(good[i]));
		assert_memory_equal(out, good[i], strlen(good[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(nlink_decode(bad[i], strlen(bad[i]), &nlink), -EIO);
	assert_int_equal(nlink_decode("U+1\0", 4, &nlink), -EIO);
}

static void test_times(void **state)
{
	const struct times given[] = {
		{ .has_birth = true, .birth = { .tv_sec = -5, .tv_nsec = 999999999 } },
		{ .has_change = true, .change = { .tv_sec = 1 }, .until = { 1LL << 40, 7 } },
		{ true, true, { 1, 2 }, { 3, 4 }, { 5, 6 } },
	};
	uint8_t raw[TIMES_SIZE];
	struct times got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
		times_encode(&given[i], raw);
		assert_int_equal(times_decode(raw, sizeof(raw), &got), 0);
		assert_true(got.has_birth == given[i].has_birth);
		assert_true(got.has_change == given[i].has_change);
		assert_true(got.birth.tv_sec == given[i].birth.tv_sec);
		assert_true(got.birth.tv_nsec == given[i].birth.tv_nsec);
		assert_true(got.change.tv_sec == given[i].change.tv_sec);
		assert_true(got.until.tv_sec == given[i].until.tv_sec);
		assert_true(got.until.tv_nsec == given[i].until.tv_nsec);
	}
	/* docs/format.md: little-endian, at these offsets. */
	assert_int_equal(raw[0], 1);
	assert_int_equal(raw[1], 3);
	assert_int_equal(raw[4], 1);
	assert_int_equal(raw[12], 2);
	assert_int_equal(raw[16], 3);
	assert_int_equal(raw[28], 5);
	assert_int_equal(times_decode(raw, sizeof(raw) - 1, &got), -EIO);
	raw[15] = 0xff; /* nanoseconds */
	assert_int_equal(times_decode(raw, sizeof(raw), &got), -EIO);
	raw[15] = 0;
	raw[1] = 4;
	assert_int_equal(times_decode(raw, sizeof(raw), &got), -EIO);
	raw[1] = 0;
	raw[0] = 2;
	assert_int_equal(times_decode(raw, sizeof(raw), &got), -EIO);
}

static void test_aside(void **state)
{
	const struct aside given[] = {
		{ .mode = 04755, .atime = { -5, 999999999 }, .mtime = { 1LL << 40, 7 } },
		{ .mode = 0, .mtime = { 2, 0 }, .capability_size = 3, .capability = { 7, 8, 9 } },
	};
	uint8_t raw[ASIDE_SIZE_MAX] = { 0 };
	struct aside got;
	size_t size = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
		size = aside_encode(&given[i], raw);
		assert_int_equal(aside_decode(raw, size, &got), 0);
		assert_int_equal(got.mode, given[i].mode);
		assert_true(got.atime.tv_sec == given[i].atime.tv_sec);
		assert_true(got.atime.tv_nsec == given[i].atime.tv_nsec);
		assert_true(got.mtime.tv_sec == given[i].mtime.tv_sec);
		assert_int_equal(got.capability_size, given[i].capability_size);
		assert_memory_equal(got.capability, given[i].capability, got.capability_size);
	}
	/* docs/format.md: little-endian, at these offsets. */
	assert_int_equal(size, 35);
	assert_int_equal(raw[0], 1);
	assert_int_equal(raw[20], 2);
	assert_int_equal(raw[32], 7);
	assert_int_equal(aside_decode(raw, 31, &got), -EIO);
	assert_int_equal(aside_decode(raw, sizeof(raw) + 1, &got), -EIO);
	raw[31] = 0xff; /* nanoseconds */
	assert_int_equal(aside_decode(raw, size, &got), -EIO);
	raw[31] = 0;
	raw[0] = 2;
	assert_int_equal(aside_decode(raw, size, &got), -EIO);
}

static void test_owner(void **state)
{
	static const char *const good[] = { "u", "g", "ugw", "gr", "ug=0:0", "u=4294967294:7" };
	static const char *const without_ids[] = { "u=",     "u=1",    "u=1:",		"u=:1",
						   "u=1:2:", "u=-1:1", "u=4294967295:1" };
	char out[OWNER_SIZE_MAX];
	struct owner owner;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		owner_decode(good[i], strlen(good[i]), &owner);
		assert_int_equal(owner_encode(&owner, out), strlen(good[i]));
		assert_memory_equal(out, good[i], strlen(good[i]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(without_ids); i++) {
		owner_decode(without_ids[i], strlen(without_ids[i]), &owner);
		assert_int_equal(owner.marks, OWNER_FOREIGN_UID);
		assert_false(owner.has_ids);
	}
	owner_decode("xgX", 3, &owner);
	assert_int_equal(owner.marks, OWNER_FOREIGN_GID);
}

static void test_protattr(void **state)
{
	char out[PROTATTR_SIZE_MAX];

	(void)state;
	for (unsigned int flags = 0; flags < 4; flags++)
		assert_int_equal(protattr_decode(out, protattr_encode(flags, out)), flags);
	assert_int_equal(protattr_encode(PROTATTR_APPEND | PROTATTR_IMMUTABLE, out), 2);
	assert_memory_equal(out, "ai", 2);
	assert_int_equal(protattr_decode("ia", 2), PROTATTR_APPEND | PROTATTR_IMMUTABLE);
	assert_int_equal(protattr_decode("aX", 2), 0);
}

/* --- lowerdir ------------------------------------------------------------------------- */

static void check_lowerdir(const char *value, size_t count, const struct lowerdir *expected)
{
	struct lowerdir_list list;
	const char *why = NULL;

	assert_int_equal(lowerdir_parse(value, &list, &why), 0);
	assert_null(why);
	assert_int_equal(list.count, count);
	for (size_t i = 0; i < count; i++) {
		assert_string_equal(list.items[i].path, expected[i].path);
		assert_int_equal(list.items[i].data_only, expected[i].data_only);
	}
	lowerdir_list_deinit(&list);
	assert_int_equal(list.count, 0);
}

#define LAYERS(...)                                                           \
	ARRAY_SIZE(((struct lowerdir[]){ __VA_ARGS__ })), (struct lowerdir[]) \
	{                                                                     \
		__VA_ARGS__                                                   \
	}
#define MERGE(text)                    \
	{                              \
		.path = (char *)(text) \
	}
#define DATA(text)                                        \
	{                                                 \
		.path = (char *)(text), .data_only = true \
	}

static void test_lowerdir(void **state)
{
	static const char *const bad[] = { ":",	     ":a",	"a:",	  "::a", "a::", "a:::b",
					   "a::b:c", "a:b:::c", "a::b::", "\\",	 "a:\\" };

	(void)state;
	check_lowerdir("", 0, NULL);
	check_lowerdir("/a", LAYERS(MERGE("/a")));
	check_lowerdir("/a:b:./c", LAYERS(MERGE("/a"), MERGE("b"), MERGE("./c")));
	check_lowerdir("/a\\:b:c\\\\d\\,e", LAYERS(MERGE("/a:b"), MERGE("c\\d,e")));
	check_lowerdir("a:b::d1::d2", LAYERS(MERGE("a"), MERGE("b"), DATA("d1"), DATA("d2")));
	check_lowerdir("a\\:::d", LAYERS(MERGE("a:"), DATA("d")));
	check_lowerdir("a\\", LAYERS(MERGE("a")));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lowerdir_list list = { .count = 77 };
		const char *why = NULL;

		assert_int_equal(lowerdir_parse(bad[i], &list, &why), -EINVAL);
		assert_non_null(why);
		assert_int_equal(list.count, 77);
	}
}

static void test_lowerdir_add(void **state)
{
	struct lowerdir_list list = { 0 };

	(void)state;
	for (int i = 0; i < 500; i++)
		assert_int_equal(lowerdir_list_add(&list, "a\\:b", i > 400), 0);
	assert_int_equal(list.count, 500);
	assert_string_equal(list.items[499].path, "a\\:b");
	assert_false(list.items[400].data_only);
	assert_true(list.items[401].data_only);
	lowerdir_list_deinit(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_xattr_private),
		cmocka_unit_test(test_xattr_escape),
		cmocka_unit_test(test_xattr_filter),
		cmocka_unit_test(test_whiteout),
		cmocka_unit_test(test_redirect_grammar),
		cmocka_unit_test(test_redirect_walk),
		cmocka_unit_test(test_metacopy),
		cmocka_unit_test(test_nlink),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_aside),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_protattr),
		cmocka_unit_test(test_lowerdir),
		cmocka_unit_test(test_lowerdir_add),
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
