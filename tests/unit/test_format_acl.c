/* SPDX-License-Identifier: MIT */
/* Inheritance of ACLs, as the kernel does it. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/util.h"
#include "format/acl.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acl_malformed),
		cmocka_unit_test(test_acl_malformed_sizes),
		with_scratch(test_acl_like_kernel),
	};

	return cmocka_run_group_tests_name("format acl", tests, NULL, NULL);
}
