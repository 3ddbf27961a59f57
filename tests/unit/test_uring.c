/* SPDX-License-Identifier: MIT */
/* One message of the three pieces that come over io_uring, and replies back into two. */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "fuse/uring_entry.h"

static char *payload_of(const struct uring_entry *entry)
{
	return entry->iov[1].iov_base;
}

/* As the kernel leaves a request. */
static void put(struct uring_entry *entry, uint32_t opcode, const void *fixed, size_t fixed_size,
		const void *payload, size_t payload_size)
{
	const struct fuse_in_header in = {
		.len = (uint32_t)(sizeof(in) + fixed_size + payload_size),
		.opcode = opcode,
		.unique = 1234,
		.nodeid = 1,
	};

	memcpy(entry->header.in_out, &in, sizeof(in));
	if (fixed_size)
		memcpy(entry->header.op_in, fixed, fixed_size);
	if (payload_size)
		memcpy(payload_of(entry), payload, payload_size);
	entry->header.ring_ent_in_out.payload_sz = (uint32_t)payload_size;
}

static int entry_setup(void **state)
{
	*state = uring_entry_new(NULL, 3);
	return *state ? 0 : -1;
}

static int entry_teardown(void **state)
{
	uring_entry_free(*state);
	return 0;
}

static void test_message_is_whole(void **state)
{
	struct uring_entry *entry = *state;
	const struct fuse_mkdir_in fixed = { .mode = 0755, .umask = 022 };

	put(entry, FUSE_MKDIR, &fixed, sizeof(fixed), "name", 5);
	assert_true(uring_entry_receive(entry));
	const char *message = entry->base.message;
	const size_t head = sizeof(struct fuse_in_header);

	assert_int_equal(entry->base.message_size, head + sizeof(fixed) + 5);
	assert_int_equal(((const struct fuse_in_header *)message)->opcode, FUSE_MKDIR);
	assert_memory_equal(message + head, &fixed, sizeof(fixed));
	assert_string_equal(message + head + sizeof(fixed), "name");
	/* What is built for the reply leaves the name alone. */
	assert_true((char *)entry->base.scratch >= payload_of(entry) + 5);
	assert_int_equal((uintptr_t)entry->base.scratch % sizeof(uint64_t), 0);
}

static void test_message_without_fixed_part(void **state)
{
	struct uring_entry *entry = *state;

	put(entry, FUSE_LOOKUP, NULL, 0, "x", 2);
	assert_true(uring_entry_receive(entry));
	assert_string_equal((const char *)entry->base.message + sizeof(struct fuse_in_header), "x");
}

static void test_largest_write_and_read(void **state)
{
	struct uring_entry *entry = *state;
	const struct fuse_write_in fixed = { .size = TRANSPORT_PAYLOAD_MAX };

	put(entry, FUSE_WRITE, &fixed, sizeof(fixed), NULL, 0);
	memset(payload_of(entry), 'w', TRANSPORT_PAYLOAD_MAX);
	entry->header.ring_ent_in_out.payload_sz = TRANSPORT_PAYLOAD_MAX;
	((struct fuse_in_header *)entry->header.in_out)->len += TRANSPORT_PAYLOAD_MAX;
	assert_true(uring_entry_receive(entry));
	assert_int_equal(entry->base.scratch_size, 0);
	assert_int_equal(((const char *)entry->base.message)[entry->base.message_size - 1], 'w');

	const struct fuse_read_in read = { .size = TRANSPORT_PAYLOAD_MAX };

	put(entry, FUSE_READ, &read, sizeof(read), NULL, 0);
	assert_true(uring_entry_receive(entry));
	assert_int_equal(entry->base.scratch_size, TRANSPORT_PAYLOAD_MAX);
}

static void test_nonsense_is_answered(void **state)
{
	struct uring_entry *entry = *state;
	struct fuse_in_header *in = (struct fuse_in_header *)entry->header.in_out;

	static const struct {
		uint32_t length, payload;
	} wrong[] = {
		{ 0, 0 },
		{ sizeof(*in), 1 },
		{ UINT32_MAX, UINT32_MAX },
		{ sizeof(*in) + TRANSPORT_PAYLOAD_MAX + 1, TRANSPORT_PAYLOAD_MAX + 1 },
		{ sizeof(*in) + FUSE_URING_OP_IN_OUT_SZ + 1, 0 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		put(entry, FUSE_LOOKUP, NULL, 0, NULL, 0);
		in->len = wrong[i].length;
		entry->header.ring_ent_in_out.payload_sz = wrong[i].payload;
		assert_false(uring_entry_receive(entry));
		const struct fuse_out_header *out = (const void *)entry->header.in_out;

		assert_int_equal(out->error, -EIO);
		assert_int_equal(out->unique, 1234);
		assert_int_equal(out->len, sizeof(*out));
		assert_int_equal(entry->header.ring_ent_in_out.payload_sz, 0);
	}
}

static void test_reply_pieces(void **state)
{
	struct uring_entry *entry = *state;
	const struct fuse_ioctl_in fixed = { .in_size = 4 };
	struct fuse_out_header header = { .unique = 1234 };
	struct fuse_ioctl_out first = { .result = 7 };

	put(entry, FUSE_IOCTL, &fixed, sizeof(fixed), "data", 4);
	assert_true(uring_entry_receive(entry));
	memcpy(entry->base.scratch, "0123456789abcdefghijklmnopqrstuvwxyz", 36);
	const struct iovec iov[] = {
		{ &header, sizeof(header) },
		{ &first, sizeof(first) },
		{ entry->base.scratch, 36 },
	};

	uring_entry_reply(entry, iov, 3);
	assert_int_equal(entry->header.ring_ent_in_out.payload_sz, sizeof(first) + 36);
	assert_memory_equal(payload_of(entry), &first, sizeof(first));
	assert_memory_equal(payload_of(entry) + sizeof(first),
			    "0123456789abcdefghijklmnopqrstuvwxyz", 36);
	assert_memory_equal(entry->header.in_out, &header, sizeof(header));
}

static void test_reply_in_place(void **state)
{
	struct uring_entry *entry = *state;
	const struct fuse_read_in fixed = { .size = 8 };
	struct fuse_out_header header = { .unique = 1234 };

	put(entry, FUSE_READ, &fixed, sizeof(fixed), NULL, 0);
	assert_true(uring_entry_receive(entry));
	assert_ptr_equal(entry->base.scratch, payload_of(entry));
	memcpy(entry->base.scratch, "contents", 8);
	const struct iovec iov[] = { { &header, sizeof(header) }, { entry->base.scratch, 8 } };

	uring_entry_reply(entry, iov, 2);
	assert_int_equal(entry->header.ring_ent_in_out.payload_sz, 8);
	assert_memory_equal(payload_of(entry), "contents", 8);
}

#define with_entry(test) cmocka_unit_test_setup_teardown(test, entry_setup, entry_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_entry(test_message_is_whole),
		with_entry(test_message_without_fixed_part),
		with_entry(test_largest_write_and_read),
		with_entry(test_nonsense_is_answered),
		with_entry(test_reply_pieces),
		with_entry(test_reply_in_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
