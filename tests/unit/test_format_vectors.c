/* SPDX-License-Identifier: MIT */
/* What kernel overlayfs wrote (tests/vectors): it comes out, and goes in again. */
#include "unit.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "format/metacopy.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/protattr.h"
#include "format/redirect.h"
#include "format/whiteout.h"
#include "format/xattr_name.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_vectors),
	};

	return cmocka_run_group_tests_name("format vectors", tests, NULL, NULL);
}
