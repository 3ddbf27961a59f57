/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/util.h"
#include "format/acl.h"
#include "format/lowerdir.h"
#include "format/metacopy.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/protattr.h"
#include "format/redirect.h"
#include "format/times.h"
#include "format/whiteout.h"
#include "format/xattr_name.h"
#include "sys/handle.h"

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

/* --- origin --------------------------------------------------------------------------- */

static const struct origin sample_origin = {
	.type = 1,
	.uuid = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
	.fid_size = 8,
	.fid = { 0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3 },
};

static void test_origin_round_trip(void **state)
{
	struct origin origin = sample_origin, back;
	char name[ORIGIN_INDEX_NAME_MAX + 1];
	uint8_t bytes[ORIGIN_SIZE_MAX];

	(void)state;
	for (unsigned int size = 0; size <= ORIGIN_FID_MAX; size += 4) {
		origin.fid_size = (uint8_t)size;
		origin.is_upper = size % 8 == 0;
		assert_int_equal(origin_encode(&origin, bytes), 21 + size);
		assert_int_equal(origin_decode(bytes, 21 + size, &back), ORIGIN_VALID);
		assert_true(origin_is_equal(&origin, &back));
		/* A name has 255 bytes at most. */
		assert_int_equal(origin_index_name(&origin, name), size <= 104 ? 42 + 2 * size : 0);
		if (size > 104)
			continue;
		assert_int_equal(strlen(name), 42 + 2 * size);
		assert_true(origin_from_index_name(name, &back));
		assert_true(origin_is_equal(&origin, &back));
	}
	origin.fid_size = ORIGIN_FID_MAX + 1;
	assert_int_equal(origin_encode(&origin, bytes), 0);
	assert_int_equal(origin_index_name(&origin, name), 0);
}

static void test_origin_is_equal(void **state)
{
	struct origin other;

	(void)state;
	other = sample_origin;
	/* Bytes after the handle mean nothing. */
	other.fid[other.fid_size] = 1;
	assert_true(origin_is_equal(&sample_origin, &other));
	other.fid_size++;
	assert_false(origin_is_equal(&sample_origin, &other));
	other = sample_origin;
	other.fid[7]++;
	assert_false(origin_is_equal(&sample_origin, &other));
	other = sample_origin;
	other.uuid[0]++;
	assert_false(origin_is_equal(&sample_origin, &other));
	other = sample_origin;
	other.type++;
	assert_false(origin_is_equal(&sample_origin, &other));
	other = sample_origin;
	other.is_upper = true;
	assert_false(origin_is_equal(&sample_origin, &other));
}

static void check_origin_byte(size_t at, uint8_t value, enum origin_kind expected)
{
	uint8_t bytes[ORIGIN_SIZE_MAX];
	size_t size = origin_encode(&sample_origin, bytes);
	struct origin origin;

	bytes[at] = value;
	assert_int_equal(origin_decode(bytes, size, &origin), expected);
}

static void test_origin_malformed(void **state)
{
	uint8_t bytes[256] = { 0 };
	size_t size = origin_encode(&sample_origin, bytes);
	struct origin origin;

	(void)state;
	assert_int_equal(origin_decode(NULL, 0, &origin), ORIGIN_UNKNOWN);
	for (size_t cut = 1; cut < size; cut++)
		assert_int_equal(origin_decode(bytes, cut, &origin), ORIGIN_INVALID);
	/* The kernel takes what follows the structure for nothing. */
	assert_int_equal(origin_decode(bytes, size + 1, &origin), ORIGIN_VALID);
	assert_int_equal(origin.fid_size, sample_origin.fid_size);
	check_origin_byte(0, 1, ORIGIN_UNKNOWN); /* version */
	check_origin_byte(1, 0xfa, ORIGIN_INVALID); /* magic */
	check_origin_byte(2, 20, ORIGIN_INVALID); /* length */
	check_origin_byte(2, 30, ORIGIN_INVALID);
	check_origin_byte(3, 8, ORIGIN_UNKNOWN); /* flags */
	check_origin_byte(3, 2, ORIGIN_VALID); /* any endian */
	check_origin_byte(3, __BYTE_ORDER == __LITTLE_ENDIAN, ORIGIN_UNKNOWN); /* foreign */
	/* A handle longer than any handle. */
	memset(bytes + size, 0, sizeof(bytes) - size);
	bytes[2] = ORIGIN_SIZE_MAX + 1;
	assert_int_equal(origin_decode(bytes, sizeof(bytes), &origin), ORIGIN_INVALID);
}

static void test_origin_bad_names(void **state)
{
	char name[ORIGIN_INDEX_NAME_MAX + 8];
	size_t length = origin_index_name(&sample_origin, name);
	struct origin origin;

	(void)state;
	assert_false(origin_from_index_name("", &origin));
	assert_false(origin_from_index_name("#1f", &origin));
	for (size_t i = 0; i < length; i++) {
		char kept = name[i];

		name[i] = 'g';
		assert_false(origin_from_index_name(name, &origin));
		name[i] = '\0';
		assert_false(origin_from_index_name(name, &origin));
		name[i] = kept;
	}
	/* "00FB...": valid hexadecimal, but never written so. */
	name[2] = 'F';
	assert_false(origin_from_index_name(name, &origin));
	name[2] = 'f';
	assert_true(origin_from_index_name(name, &origin));
	strcpy(name + length, "00");
	assert_false(origin_from_index_name(name, &origin));
	memset(name, '0', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_false(origin_from_index_name(name, &origin));
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

/* --- ACLs ----------------------------------------------------------------------------- */

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

#define NOBODY UINT32_MAX

static size_t acl_build(const struct acl_entry *entries, size_t count, uint8_t *out)
{
	put_le32(out, 2);
	for (size_t i = 0; i < count; i++) {
		put_le16(out + 4 + 8 * i, entries[i].tag);
		put_le16(out + 6 + 8 * i, entries[i].perm);
		put_le32(out + 8 + 8 * i, entries[i].id);
	}
	return 4 + 8 * count;
}

static void test_acl_malformed(void **state)
{
	static const struct acl_entry bad[][7] = {
		{ { 1, 7, NOBODY }, { 4, 7, NOBODY } }, /* no OTHER */
		{ { 4, 7, NOBODY }, { 32, 7, NOBODY } }, /* no owner */
		{ { 1, 7, NOBODY }, { 32, 7, NOBODY } }, /* no group */
		{ { 1, 7, NOBODY }, { 1, 7, NOBODY }, { 4, 7, NOBODY }, { 32, 7, NOBODY } },
		{ { 1, 7, NOBODY },
		  { 2, 7, 5 },
		  { 4, 7, NOBODY },
		  { 32, 7, NOBODY } }, /* no mask */
		{ { 1, 7, NOBODY },
		  { 4, 7, NOBODY },
		  { 2, 7, 5 },
		  { 16, 7, NOBODY },
		  { 32, 7, NOBODY } }, /* order */
		{ { 1, 8, NOBODY }, { 4, 7, NOBODY }, { 32, 7, NOBODY } }, /* permission */
		{ { 1, 7, NOBODY }, { 4, 7, NOBODY }, { 64, 7, NOBODY } }, /* tag */
		{ { 1, 7, NOBODY }, { 3, 7, NOBODY }, { 4, 7, NOBODY }, { 32, 7, NOBODY } },
		{ { 1, 7, NOBODY }, { 4, 7, NOBODY }, { 32, 7, NOBODY }, { 32, 7, NOBODY } },
	};
	uint8_t bytes[128], access[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t count = 0;
		mode_t mode = 0644;

		while (count < 7 && bad[i][count].tag)
			count++;
		assert_int_equal(acl_inherit(bytes, acl_build(bad[i], count, bytes), &mode, access),
				 -EINVAL);
		assert_int_equal(mode, 0644);
	}
}

static void test_acl_malformed_sizes(void **state)
{
	static const struct acl_entry good[] = { { 1, 7, NOBODY },
						 { 4, 5, NOBODY },
						 { 32, 5, NOBODY } };
	uint8_t bytes[64], access[64];
	size_t size = acl_build(good, 3, bytes);
	mode_t mode = 0644;

	(void)state;
	for (size_t cut = 0; cut < size; cut++)
		assert_int_equal(acl_inherit(bytes, cut, &mode, access), -EINVAL);
	assert_int_equal(acl_inherit(bytes, size, &mode, access), 0);
	assert_int_equal(mode, 0644);
	bytes[0] = 1;
	assert_int_equal(acl_inherit(bytes, size, &mode, access), -EINVAL);
}

/* Creates a file in a directory with @acl as its default ACL and compares with acl_inherit(). */
static void check_acl_against_kernel(int dirfd, const uint8_t *acl, size_t size, mode_t mode)
{
	uint8_t real[256], ours[256];
	mode_t our_mode = S_IFREG | mode;
	ssize_t real_size, our_size = acl_inherit(acl, size, &our_mode, ours);
	struct stat st;
	int fd;

	fd = openat(dirfd, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(our_mode, st.st_mode);
	real_size = fgetxattr(fd, ACL_XATTR_ACCESS, real, sizeof(real));
	if (real_size < 0) {
		assert_int_equal(errno, ENODATA);
		real_size = 0;
	}
	assert_int_equal(our_size, real_size);
	if (real_size > 0)
		assert_memory_equal(ours, real, (size_t)real_size);
	close(fd);
	assert_int_equal(unlinkat(dirfd, "new", 0), 0);
}

static void test_acl_like_kernel(void **state)
{
	struct unit_scratch *scratch = *state;
	static const struct acl_entry plain[] = { { 1, 7, NOBODY },
						  { 4, 5, NOBODY },
						  { 32, 1, NOBODY } };
	static const struct acl_entry masked[] = {
		{ 1, 7, NOBODY }, { 4, 7, NOBODY }, { 16, 5, NOBODY }, { 32, 0, NOBODY }
	};
	static const struct acl_entry named[] = { { 1, 6, NOBODY }, { 2, 7, 1000 },
						  { 2, 1, 2000 },   { 4, 3, NOBODY },
						  { 8, 4, 50 },	    { 16, 6, NOBODY },
						  { 32, 4, NOBODY } };
	static const struct {
		const struct acl_entry *entries;
		size_t count;
	} acls[] = { { plain, 3 }, { masked, 4 }, { named, 7 } };

	for (size_t i = 0; i < ARRAY_SIZE(acls); i++) {
		uint8_t bytes[128];
		size_t size = acl_build(acls[i].entries, acls[i].count, bytes);

		if (fsetxattr(scratch->fd, ACL_XATTR_DEFAULT, bytes, size, 0) < 0)
			unit_skip("no ACLs in %s: %s", scratch->path, strerror(errno));
		for (mode_t mode = 0; mode <= 07777; mode += 1 + (mode > 0777) * 62)
			check_acl_against_kernel(scratch->fd, bytes, size, mode);
	}
}

/* --- golden vectors ------------------------------------------------------------------- */

static size_t vector_from_hex(const char *hex, uint8_t *out)
{
	size_t size = 0;

	if (strcmp(hex, "-") == 0)
		return 0;
	for (; *hex; hex += 2) {
		unsigned int byte;

		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		out[size++] = (uint8_t)byte;
	}
	return size;
}

static void vector_check_origin(const uint8_t *bytes, size_t size, bool is_upper)
{
	uint8_t again[ORIGIN_SIZE_MAX];
	struct origin origin;

	assert_int_equal(origin_decode(bytes, size, &origin), ORIGIN_VALID);
	assert_int_equal(origin.is_upper, is_upper);
	assert_int_equal(origin_encode(&origin, again), size);
	assert_memory_equal(again, bytes, size);
}

static void vector_check_nlink(const uint8_t *bytes, size_t size)
{
	char again[NLINK_SIZE_MAX];
	struct nlink nlink;

	assert_int_equal(nlink_decode((const char *)bytes, size, &nlink), 0);
	assert_int_equal(nlink_encode(&nlink, again), size);
	assert_memory_equal(again, bytes, size);
}

static void vector_check_protattr(const uint8_t *bytes, size_t size)
{
	char again[PROTATTR_SIZE_MAX];
	unsigned int flags = protattr_decode((const char *)bytes, size);

	assert_int_equal(protattr_encode(flags, again), size);
	assert_memory_equal(again, bytes, size);
}

static void vector_check_metacopy(const uint8_t *bytes, size_t size)
{
	uint8_t again[METACOPY_SIZE_MAX];
	struct metacopy metacopy;

	assert_int_equal(metacopy_decode(bytes, size, &metacopy), 0);
	assert_int_equal(metacopy_encode(&metacopy, again), size);
	assert_memory_equal(again, bytes, size);
}

/* Which private attribute @name is; XATTR_PRIVATE_COUNT: none. */
static enum xattr_private vector_which(enum xattr_namespace ns, const char *name)
{
	int which = 0;

	while (which < XATTR_PRIVATE_COUNT &&
	       strcmp(name, xattr_private_name(ns, (enum xattr_private)which)) != 0)
		which++;
	return (enum xattr_private)which;
}

static void vector_check_xattr(const char *name, const uint8_t *bytes, size_t size)
{
	enum xattr_namespace ns = strncmp(name, "user.", 5) == 0 ? XATTR_USER : XATTR_TRUSTED;
	enum xattr_private which = vector_which(ns, name);
	char list[256];

	switch (which) {
	case XATTR_ORIGIN:
	case XATTR_UPPER:
		vector_check_origin(bytes, size, which == XATTR_UPPER);
		break;
	case XATTR_NLINK:
		vector_check_nlink(bytes, size);
		break;
	case XATTR_PROTATTR:
		vector_check_protattr(bytes, size);
		break;
	case XATTR_METACOPY:
		vector_check_metacopy(bytes, size);
		break;
	case XATTR_REDIRECT:
		assert_true(redirect_is_valid((const char *)bytes, size));
		break;
	case XATTR_OPAQUE:
		assert_int_equal(opaque_parse((const char *)bytes, size), OPAQUE_YES);
		break;
	case XATTR_IMPURE:
		assert_int_equal(size, 1);
		break;
	case XATTR_UUID:
		assert_int_equal(size, 16);
		break;
	default:
		/* What a user set through the mount: comes out and goes in again. */
		strcpy(list, name);
		assert_int_not_equal(xattr_list_filter(ns, list, strlen(name) + 1), 0);
		assert_string_equal(xattr_name_escape(ns, list, (char[XATTR_KEY_MAX + 1]){ 0 }),
				    name);
	}
}

static void vector_check_index(const char *name)
{
	char again[ORIGIN_INDEX_NAME_MAX + 1];
	struct origin origin;

	/* A temporary of the kernel's (a whiteout it keeps for the next use). */
	if (name[0] == '#') {
		assert_false(origin_from_index_name(name, &origin));
		return;
	}
	assert_true(origin_from_index_name(name, &origin));
	assert_false(origin.is_upper);
	assert_int_equal(origin_index_name(&origin, again), strlen(name));
	assert_string_equal(again, name);
}

static void test_golden_vectors(void **state)
{
	_cleanup_fclose_ FILE *f = fopen(VECTORS, "re");
	unsigned int xattrs = 0, names = 0;
	char line[1024];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char name[256], hex[512];
		uint8_t bytes[256];

		if (sscanf(line, "xattr %*s %*s %255s %511s", name, hex) == 2) {
			vector_check_xattr(name, bytes, vector_from_hex(hex, bytes));
			xattrs++;
		} else if (sscanf(line, "index %*s %255s", name) == 1) {
			vector_check_index(name);
			names++;
		}
	}
	assert_true(xattrs > 100 && names > 20);
}

/* --- the origin kernel overlayfs writes, against the one we would write ---------------- */

enum {
	LIVE_OK,
	LIVE_NO_RIGHTS,
	LIVE_DIFFERENT,
	LIVE_ERROR
};

static bool live_mount(const struct unit_scratch *scratch)
{
	char options[512];

	/* By path: the descriptor lies in the namespace we left, where we may not mount. */
	if (chdir(scratch->path) < 0)
		return false;
	for (const char *const *dir = (const char *const[]){ "l", "u", "w", "m", NULL }; *dir;
	     dir++) {
		if (mkdir(*dir, 0755) < 0)
			return false;
	}
	unit_write(scratch->fd, "l/file", "content");
	snprintf(options, sizeof(options), "lowerdir=l,upperdir=u,workdir=w");
	return mount("overlay", "m", "overlay", 0, options) == 0;
}

static int live_compare(void *argument)
{
	const struct unit_scratch *scratch = argument;
	uint8_t real[ORIGIN_SIZE_MAX], ours[ORIGIN_SIZE_MAX];
	struct origin origin = { 0 };
	struct sys_handle handle;
	ssize_t size;

	if (!unit_own_mounts() || !live_mount(scratch))
		return LIVE_NO_RIGHTS;
	if (chmod("m/file", 0600) < 0)
		return LIVE_ERROR;
	size = getxattr("u/file", "trusted.overlay.origin", real, sizeof(real));
	if (size <= 0 || sys_handle_get(scratch->fd, "l/file", &handle) < 0)
		return LIVE_ERROR;
	/* A file system without a UUID has zeros. */
	sys_fs_uuid(scratch->fd, origin.uuid);
	origin.type = (uint8_t)handle.type;
	origin.fid_size = (uint8_t)handle.size;
	memcpy(origin.fid, handle.bytes, handle.size);
	if (origin_encode(&origin, ours) != (size_t)size || memcmp(ours, real, (size_t)size) != 0)
		return LIVE_DIFFERENT;
	return LIVE_OK;
}

static void test_origin_like_kernel(void **state)
{
	int result;

	if (!unit_is_root())
		unit_skip("needs root");
	result = unit_fork(live_compare, *state);
	if (result == LIVE_NO_RIGHTS)
		unit_skip("mounting kernel overlayfs is not allowed here");
	assert_int_equal(result, LIVE_OK);
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
		cmocka_unit_test(test_protattr),
		cmocka_unit_test(test_origin_round_trip),
		cmocka_unit_test(test_origin_is_equal),
		cmocka_unit_test(test_origin_malformed),
		cmocka_unit_test(test_origin_bad_names),
		cmocka_unit_test(test_lowerdir),
		cmocka_unit_test(test_lowerdir_add),
		cmocka_unit_test(test_acl_malformed),
		cmocka_unit_test(test_acl_malformed_sizes),
		cmocka_unit_test_setup_teardown(test_acl_like_kernel, unit_scratch_setup,
						unit_scratch_teardown),
		cmocka_unit_test(test_golden_vectors),
		cmocka_unit_test_setup_teardown(test_origin_like_kernel, unit_scratch_setup,
						unit_scratch_teardown),
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
