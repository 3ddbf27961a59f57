/* SPDX-License-Identifier: MIT */
/* Origins: the codec, and what kernel overlayfs writes for the same file. */
#include "unit.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "format/origin.h"
#include "sys/handle.h"

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
		cmocka_unit_test(test_origin_round_trip), cmocka_unit_test(test_origin_is_equal),
		cmocka_unit_test(test_origin_malformed),  cmocka_unit_test(test_origin_bad_names),
		with_scratch(test_origin_like_kernel),
	};

	return cmocka_run_group_tests_name("format origin", tests, NULL, NULL);
}
