/* SPDX-License-Identifier: MIT */
/* Decoding and encoding of messages. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "fuse/decode.h"
#include "fuse/encode.h"
#include "fuse_fake.h"

/* ---- decoding ---- */

static int decode(struct message *message, struct fuse_args *args)
{
	struct fuse_in_header header;

	message->header.len = (uint32_t)message->size;
	assert_int_equal(decode_header(message->bytes, message->size, &header), 0);
	return decode_args(&header, message->bytes, message->size, true, args);
}

static void test_decode_names(void **state)
{
	struct fuse_rename2_in in = { .newdir = 9, .flags = 1 };
	struct message message;
	struct fuse_args args;

	message_begin(&message, FUSE_RENAME2);
	message_add(&message, &in, sizeof(in));
	message_add_string(&message, "old");
	message_add_string(&message, "new");
	assert_int_equal(decode(&message, &args), 0);
	assert_int_equal(args.in.rename2.newdir, 9);
	assert_int_equal(args.in.rename2.flags, 1);
	assert_string_equal(args.name, "old");
	assert_string_equal(args.name2, "new");
}

static void test_decode_every_truncation(void **state)
{
	struct fuse_setxattr_in in = { .size = 5 };
	struct message message;
	struct fuse_args args;
	size_t whole;

	message_begin(&message, FUSE_SETXATTR);
	message_add(&message, &in, sizeof(in));
	message_add_string(&message, "user.x");
	message_add(&message, "value", 5);
	whole = message.size;
	assert_int_equal(decode(&message, &args), 0);
	assert_int_equal(args.data_size, 5);
	for (message.size = sizeof(message.header); message.size < whole; message.size++)
		assert_true(decode(&message, &args) < 0);
}

static void test_decode_hostile_names(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
	} bad[] = {
		{ "", 0 }, { "\0", 1 }, { "x", 1 }, { "a/b", 4 }, { "/", 2 }, { "../a", 5 },
	};
	static const char *const dots[] = { ".", ".." };
	struct message message;
	struct fuse_args args;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		message_begin(&message, FUSE_LOOKUP);
		message_add(&message, bad[i].bytes, bad[i].size);
		assert_int_equal(decode(&message, &args), -EINVAL);
	}
	message_begin(&message, FUSE_LOOKUP);
	message_add_string(&message, "\xff\n...");
	assert_int_equal(decode(&message, &args), 0);
	/* A file handle is looked up so; nothing is made or removed so. */
	for (size_t i = 0; i < ARRAY_SIZE(dots); i++) {
		message_begin(&message, FUSE_LOOKUP);
		message_add_string(&message, dots[i]);
		assert_int_equal(decode(&message, &args), 0);
		message_begin(&message, FUSE_UNLINK);
		message_add_string(&message, dots[i]);
		assert_int_equal(decode(&message, &args), -EINVAL);
	}
}

static void test_decode_lengths(void **state)
{
	struct fuse_write_in in = { .size = 4 };
	struct fuse_batch_forget_in batch = { .count = UINT32_MAX };
	struct fuse_in_header header;
	struct message message;
	struct fuse_args args;

	/* More data promised than there is. */
	message_begin(&message, FUSE_WRITE);
	message_add(&message, &in, sizeof(in));
	message_add(&message, "abc", 3);
	assert_int_equal(decode(&message, &args), -EINVAL);
	message_add(&message, "d", 1);
	assert_int_equal(decode(&message, &args), 0);
	assert_memory_equal(args.data, "abcd", 4);
	/* The header's length is not the message's. */
	header = message.header;
	header.len++;
	assert_int_equal(decode_args(&header, message.bytes, message.size, true, &args), -EIO);
	/* A product that would overflow 32 bits. */
	message_begin(&message, FUSE_BATCH_FORGET);
	message_add(&message, &batch, sizeof(batch));
	assert_int_equal(decode(&message, &args), -EINVAL);
	/* Less than a header. */
	assert_int_equal(decode_header(message.bytes, sizeof(header) - 1, &header), -EIO);
}

static void test_decode_extensions_are_no_names(void **state)
{
	struct message message;
	struct fuse_args args;

	message_begin(&message, FUSE_LOOKUP);
	message_add(&message, "name\0\0\0", 8);
	message.header.total_extlen = 1;
	/* The only name lies within the extension. */
	assert_int_equal(decode(&message, &args), -EINVAL);
	message.header.total_extlen = 2;
	assert_int_equal(decode(&message, &args), -EIO);
}

static void test_decode_short_setxattr(void **state)
{
	struct fuse_setxattr_in in = { .size = 1, .flags = 2 };
	struct fuse_in_header header;
	struct message message;
	struct fuse_args args;

	message_begin(&message, FUSE_SETXATTR);
	message_add(&message, &in, FUSE_COMPAT_SETXATTR_IN_SIZE);
	message_add_string(&message, "user.x");
	message_add(&message, "v", 1);
	message.header.len = (uint32_t)message.size;
	header = message.header;
	assert_int_equal(decode_args(&header, message.bytes, message.size, false, &args), 0);
	assert_string_equal(args.name, "user.x");
	assert_int_equal(args.in.setxattr.setxattr_flags, 0);
	assert_memory_equal(args.data, "v", 1);
}

static void test_decode_unknown_opcodes(void **state)
{
	static const uint32_t opcodes[] = { 0, 7, 19, FUSE_SETUPMAPPING, 54, 4096, UINT32_MAX };
	struct message message;
	struct fuse_args args;

	for (size_t i = 0; i < ARRAY_SIZE(opcodes); i++) {
		message_begin(&message, opcodes[i]);
		message_add(&message, "12345678", 8);
		assert_int_equal(decode(&message, &args), -ENOSYS);
		assert_string_equal(decode_opcode_name(opcodes[i]), "?");
	}
	assert_string_equal(decode_opcode_name(FUSE_RENAME2), "RENAME2");
}

/* ---- encoding ---- */

static void test_encode_error(void **state)
{
	assert_int_equal(encode_error(0), 0);
	assert_int_equal(encode_error(-ENOENT), -ENOENT);
	assert_int_equal(encode_error(-511), -511);
	assert_int_equal(encode_error(-512), -EIO);
	assert_int_equal(encode_error(5), -EIO);
}

static void test_encode_dev(void **state)
{
	const dev_t devs[] = { 0, makedev(1, 3), makedev(4095, 1048575), makedev(8, 300) };

	for (size_t i = 0; i < ARRAY_SIZE(devs); i++)
		assert_int_equal(fuse_decode_dev(encode_dev(major(devs[i]), minor(devs[i]))),
				 devs[i]);
}

static void test_encode_attr(void **state)
{
	struct statx st = {
		.stx_mask = STATX_ALL,
		.stx_ino = 1ULL << 60,
		.stx_mode = S_IFCHR | 0600,
		.stx_size = 1ULL << 40,
		.stx_mtime = { .tv_sec = -1, .tv_nsec = 999999999 },
		.stx_btime = { .tv_sec = 7, .tv_nsec = 8 },
		.stx_rdev_major = 10,
		.stx_rdev_minor = 229,
	};
	struct timespec valid = { .tv_sec = 3, .tv_nsec = 4 };
	struct fuse_statx_out statx;
	struct fuse_attr_out attr;

	encode_attr_out(&st, valid, &attr);
	assert_int_equal(attr.attr_valid, 3);
	assert_int_equal(attr.attr_valid_nsec, 4);
	assert_int_equal(attr.attr.ino, 1ULL << 60);
	assert_int_equal((int64_t)attr.attr.mtime, -1);
	assert_int_equal(attr.attr.rdev, encode_dev(10, 229));
	encode_statx_out(&st, valid, &statx);
	assert_int_equal(statx.stat.btime.tv_sec, 7);
	assert_int_equal(statx.stat.mask, STATX_BASIC_STATS | STATX_BTIME);
	assert_int_equal(statx.stat.rdev_minor, 229);
}

static void test_encode_dirent_room(void **state)
{
	const struct fuse_dirbuf_entry entry = { .name = "abc", .name_length = 3, .ino = 1 };
	char buf[64];

	memset(buf, 'x', sizeof(buf));
	/* 24 bytes and the name, to a multiple of 8; not a byte is written if there is no room. */
	assert_int_equal(encode_dirent(&entry, buf, 31), 32);
	assert_int_equal(buf[0], 'x');
	assert_int_equal(encode_dirent(&entry, buf, 32), 32);
	assert_memory_equal(buf + 24, "abc\0\0\0\0\0x", 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode_names),
		cmocka_unit_test(test_decode_every_truncation),
		cmocka_unit_test(test_decode_hostile_names),
		cmocka_unit_test(test_decode_lengths),
		cmocka_unit_test(test_decode_extensions_are_no_names),
		cmocka_unit_test(test_decode_short_setxattr),
		cmocka_unit_test(test_decode_unknown_opcodes),
		cmocka_unit_test(test_encode_error),
		cmocka_unit_test(test_encode_dev),
		cmocka_unit_test(test_encode_attr),
		cmocka_unit_test(test_encode_dirent_room),
	};

	return cmocka_run_group_tests_name("fuse codec", tests, NULL, NULL);
}
