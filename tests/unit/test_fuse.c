/* SPDX-License-Identifier: MIT */
/* Sessions and their replies, through the loop transport. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse_fake.h"

/* ---- sessions ---- */

static void test_init(void **state)
{
	struct fake *fake = *state;
	struct abi_init_out out;
	uint64_t flags;

	assert_int_equal(send_init(fake, 7, 38, ~0ULL, &out), 0);
	flags = out.flags | (uint64_t)out.flags2 << 32;
	assert_int_equal(out.major, 7);
	assert_int_equal(out.minor, ABI_MINOR_MAX);
	assert_int_equal(out.max_write, 1 << 20);
	assert_int_equal(out.max_pages * (1 << 20) / out.max_pages, out.max_write);
	assert_int_equal(out.time_gran, 1);
	assert_true(flags & FUSE_POSIX_ACL);
	assert_true(flags & FUSE_HANDLE_KILLPRIV_V2);
	assert_false(flags & (FUSE_AUTO_INVAL_DATA | FUSE_EXPLICIT_INVAL_DATA));
	assert_false(flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_ATOMIC_O_TRUNC |
			      FUSE_WRITEBACK_CACHE | FUSE_HAS_INODE_DAX | FUSE_SECURITY_CTX));
	assert_int_equal(fake->ready, 1);
	assert_int_equal(fake->ready_error, 0);
	/* There is only one. */
	assert_int_equal(send_init(fake, 7, 38, ~0ULL, &out), -EIO);
}

static void test_init_asks_for_nothing_that_is_not_offered(void **state)
{
	struct abi_init_out out;

	assert_int_equal(send_init(*state, 7, 31, FUSE_ASYNC_READ | FUSE_MAX_PAGES, &out), 0);
	assert_int_equal(out.flags, FUSE_ASYNC_READ | FUSE_MAX_PAGES);
	assert_int_equal(out.flags2, 0);
}

static void test_init_versions(void **state)
{
	struct fake *fake = *state;
	struct abi_init_out out;

	/* A newer major asks again. */
	assert_int_equal(send_init(fake, 8, 0, 0, &out), 0);
	assert_int_equal(out.major, 7);
	assert_int_equal(fake->ready, 0);
	assert_int_equal(send_init(fake, 7, 27, 0, &out), -EPROTO);
	assert_int_equal(fake->ready_error, -EPROTO);
}

static void test_nothing_before_init(void **state)
{
	struct fake *fake = *state;

	assert_int_equal(send_lookup(fake, "x", NULL), -EIO);
	assert_int_equal(fake->calls, 0);
}

static void test_lookup(void **state)
{
	struct fake *fake = *state;
	struct fuse_entry_out out;

	go_live(fake);
	assert_int_equal(send_lookup(fake, "file", &out), 0);
	assert_string_equal(fake->name, "file");
	assert_int_equal(out.nodeid, 42);
	assert_int_equal(out.attr.ino, 77);
	assert_int_equal(out.entry_valid, 10);
	assert_int_equal(out.attr_valid_nsec, 5);
	assert_int_equal(send_lookup(fake, "missing", &out), 0);
	assert_int_equal(out.nodeid, 0);
	assert_int_equal(out.entry_valid, 10);
	assert_int_equal(out.attr_valid, 0);
}

static void test_errors_are_made_fit(void **state)
{
	struct fake *fake = *state;

	go_live(fake);
	/* From a handler it is no reason to never ask again; without a handler it is. */
	assert_int_equal(send_lookup(fake, "enosys", NULL), -EOPNOTSUPP);
	assert_int_equal(send_lookup(fake, "restart", NULL), -EIO);
}

static void test_unhandled(void **state)
{
	struct fake *fake = *state;
	struct fuse_access_in in = { 0 };
	struct message message;

	go_live(fake);
	message_begin(&message, FUSE_ACCESS);
	message_add(&message, &in, sizeof(in));
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), -ENOSYS);
	message_begin(&message, 4711);
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), -ENOSYS);
}

static void test_write(void **state)
{
	struct fake *fake = *state;
	struct fuse_write_in in = { .size = 5 };
	struct fuse_write_out out;
	struct message message;

	go_live(fake);
	message_begin(&message, FUSE_WRITE);
	message_add(&message, &in, sizeof(in));
	message_add(&message, "hello", 5);
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, &out, sizeof(out)), 0);
	assert_int_equal(out.size, 5);
	assert_memory_equal(fake->data, "hello", 5);
}

static void test_setxattr_follows_the_negotiation(void **state)
{
	struct fake *fake = *state;
	struct fuse_setxattr_in in = { .size = 2, .setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID };
	struct message message;

	go_live(fake);
	message_begin(&message, FUSE_SETXATTR);
	message_add(&message, &in, sizeof(in));
	message_add_string(&message, "user.a");
	message_add(&message, "xy", 2);
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), 0);
	assert_string_equal(fake->name, "user.a");
	assert_int_equal(fake->setxattr_flags, FUSE_SETXATTR_ACL_KILL_SGID);
}

static void test_forget_has_no_reply(void **state)
{
	struct fake *fake = *state;
	struct fuse_forget_in in = { .nlookup = 3 };
	struct fuse_batch_forget_in batch = { .count = 2 };
	struct fuse_forget_one ones[] = { { 8, 1 }, { 9, 4 } };
	struct message message;

	go_live(fake);
	message_begin(&message, FUSE_FORGET);
	message.header.nodeid = 7;
	message_add(&message, &in, sizeof(in));
	message_send(fake, &message);
	assert_int_equal(fake->forgotten_node, 7);
	assert_int_equal(fake->forgotten, 3);
	message_begin(&message, FUSE_BATCH_FORGET);
	message_add(&message, &batch, sizeof(batch));
	message_add(&message, ones, sizeof(ones));
	message_send(fake, &message);
	assert_int_equal(fake->forgotten_node, 9);
	assert_int_equal(fake->forgotten, 8);
	/* A broken one neither. */
	message_begin(&message, FUSE_FORGET);
	message_send(fake, &message);
	assert_int_equal(loop_take(fake->transport, NULL, 0), 0);
}

static void send_read(struct fake *fake, uint64_t unique)
{
	struct fuse_read_in in = { .size = 4096 };
	struct message message;

	message_begin(&message, FUSE_READ);
	message.header.unique = unique;
	message_add(&message, &in, sizeof(in));
	message_send(fake, &message);
}

static void send_interrupt(struct fake *fake, uint64_t unique)
{
	struct fuse_interrupt_in in = { .unique = unique };
	struct message message;

	message_begin(&message, FUSE_INTERRUPT);
	message.header.unique = unique | 1;
	message_add(&message, &in, sizeof(in));
	message_send(fake, &message);
}

static void *answer_later(void *arg)
{
	struct fake *fake = arg;
	char *data = fuse_request_scratch(fake->kept, 4);

	memcpy(data, "late", 4);
	fuse_reply_data(fake->kept, data, 4);
	return NULL;
}

static void test_answer_from_another_thread(void **state)
{
	struct fake *fake = *state;
	pthread_t thread;
	char out[4];

	go_live(fake);
	send_read(fake, 1000);
	assert_int_equal(loop_take(fake->transport, NULL, 0), 0);
	assert_int_equal(fuse_session_inflight(fake->session), 1);
	assert_int_equal(pthread_create(&thread, NULL, answer_later, fake), 0);
	pthread_join(thread, NULL);
	assert_int_equal(take_reply(fake, out, sizeof(out)), 0);
	assert_memory_equal(out, "late", 4);
	assert_int_equal(fuse_session_inflight(fake->session), 0);
}

static void test_interrupt(void **state)
{
	struct fake *fake = *state;

	go_live(fake);
	send_read(fake, 1000);
	assert_false(fuse_request_is_interrupted(fake->kept));
	send_interrupt(fake, 1002);
	assert_false(fuse_request_is_interrupted(fake->kept));
	send_interrupt(fake, 1000);
	assert_true(fuse_request_is_interrupted(fake->kept));
	fuse_reply_error(fake->kept, -EINTR);
	assert_int_equal(take_reply(fake, NULL, 0), -EINTR);
	/* None of them is answered itself. */
	assert_int_equal(loop_take(fake->transport, NULL, 0), 0);
}

static void test_interrupt_that_comes_early(void **state)
{
	struct fake *fake = *state;

	go_live(fake);
	send_interrupt(fake, 1000);
	send_read(fake, 1000);
	assert_true(fuse_request_is_interrupted(fake->kept));
	fuse_reply_error(fake->kept, -EINTR);
	send_read(fake, 1000);
	assert_false(fuse_request_is_interrupted(fake->kept));
	fuse_reply_error(fake->kept, 0);
}

static void send_readdir(struct fake *fake, uint32_t opcode, uint32_t size)
{
	struct fuse_read_in in = { .size = size };
	struct message message;

	message_begin(&message, opcode);
	message_add(&message, &in, sizeof(in));
	message_send(fake, &message);
}

static void test_readdir_stops_where_it_is_full(void **state)
{
	struct fake *fake = *state;
	char out[64];

	go_live(fake);
	/* "a" and "bcdefgh" take 32 bytes each. */
	send_readdir(fake, FUSE_READDIR, 80);
	assert_int_equal(take_reply(fake, out, sizeof(out)), 0);
	assert_memory_equal(out + 32 + 24, "bcdefgh", 7);
	/* More than any reply may hold. */
	send_readdir(fake, FUSE_READDIR, UINT32_MAX);
	assert_int_equal(take_reply(fake, NULL, 0), -EINVAL);
}

static void test_references_of_lost_replies_come_back(void **state)
{
	struct fake *fake = *state;
	struct message message;

	go_live(fake);
	loop_refuse(fake->transport, -ENOENT);
	message_begin(&message, FUSE_LOOKUP);
	message_add_string(&message, "file");
	message_send(fake, &message);
	assert_int_equal(fake->forgotten_node, 42);
	assert_int_equal(fake->forgotten, 1);
	send_readdir(fake, FUSE_READDIRPLUS, 4096);
	assert_int_equal(fake->forgotten_node, 203);
	assert_int_equal(fake->forgotten, 4);
}

static void test_only_owner(void **state)
{
	struct fake *fake = *state;
	struct message message;

	go_live(fake);
	assert_int_equal(send_lookup(fake, "file", NULL), 0);
	message_begin(&message, FUSE_LOOKUP);
	message.header.uid = 1001;
	message_add_string(&message, "file");
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), -EACCES);
	message_begin(&message, FUSE_LOOKUP);
	message.header.uid = 0;
	message_add_string(&message, "file");
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), 0);
}

static void test_after_destroy(void **state)
{
	struct fake *fake = *state;
	struct message message;

	go_live(fake);
	message_begin(&message, FUSE_DESTROY);
	message_send(fake, &message);
	assert_int_equal(take_reply(fake, NULL, 0), 0);
	assert_int_equal(send_lookup(fake, "file", NULL), -EIO);
}

static void test_notify(void **state)
{
	struct fake *fake = *state;
	struct fuse_notify_inval_entry_out *entry;
	struct fuse_notify_store_out *store;
	const uint64_t nodes[] = { 7, UINT64_C(1) << 40 };
	char out[256];

	assert_int_equal(fuse_notify_entry(fake->transport, 5, "name"), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + sizeof(*entry) + 5);
	assert_int_equal(((struct fuse_out_header *)out)->error, FUSE_NOTIFY_INVAL_ENTRY);
	assert_int_equal(((struct fuse_out_header *)out)->unique, 0);
	entry = (struct fuse_notify_inval_entry_out *)(out + 16);
	assert_int_equal(entry->namelen, 4);
	assert_string_equal(out + 16 + sizeof(*entry), "name");
	assert_int_equal(entry->flags, 0);
	assert_int_equal(fuse_notify_expire(fake->transport, 5, "name"), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + sizeof(*entry) + 5);
	assert_int_equal(entry->flags, FUSE_EXPIRE_ONLY);
	assert_int_equal(fuse_notify_inode(fake->transport, 5, 0, 0), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + 24);
	assert_int_equal(fuse_notify_store(fake->transport, 5, 4096, "data", 4), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + sizeof(*store) + 4);
	assert_int_equal(((struct fuse_out_header *)out)->error, FUSE_NOTIFY_STORE);
	store = (struct fuse_notify_store_out *)(out + 16);
	assert_int_equal(store->nodeid, 5);
	assert_int_equal(store->offset, 4096);
	assert_int_equal(store->size, 4);
	assert_memory_equal(out + 16 + sizeof(*store), "data", 4);
	assert_int_equal(fuse_notify_prune(fake->transport, nodes, ARRAY_SIZE(nodes)), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + 16 + sizeof(nodes));
	assert_int_equal(((struct fuse_out_header *)out)->error, ABI_NOTIFY_PRUNE);
	assert_int_equal(((struct fuse_notify_prune_out *)(out + 16))->count, ARRAY_SIZE(nodes));
	assert_memory_equal(out + 16 + 16, nodes, sizeof(nodes));
}

/* Whatever the bytes are, there is at most one reply, and it is well-formed. */
static void test_noise(void **state)
{
	struct fake *fake = *state;
	unsigned int seed = 4711;

	go_live(fake);
	for (int i = 0; i < 20000; i++) {
		struct message message;
		char reply[8192];
		size_t length;

		message_begin(&message, (uint32_t)rand_r(&seed) % 60);
		/* The one is kept, not answered; the other would end it all. */
		if (message.header.opcode == FUSE_READ || message.header.opcode == FUSE_DESTROY)
			continue;
		message.size = sizeof(message.header) + (size_t)rand_r(&seed) % 120;
		for (size_t at = sizeof(message.header); at < message.size; at++)
			message.bytes[at] = (char)(rand_r(&seed) % 3 ? rand_r(&seed) : 0);
		message_send(fake, &message);
		length = loop_take(fake->transport, reply, sizeof(reply));
		if (length)
			assert_int_equal(((struct fuse_out_header *)reply)->len, length);
		assert_int_equal(loop_take(fake->transport, NULL, 0), 0);
	}
	assert_int_equal(fuse_session_inflight(fake->session), 0);
}

/* ---- counters ---- */

static void note_lookups(void *context, const struct fuse_opcode_stats *stats)
{
	if (!strcmp(stats->name, "LOOKUP"))
		*(struct fuse_opcode_stats *)context = *stats;
}

static void test_requests_are_counted(void **state)
{
	struct fake *fake = *state;
	struct fuse_opcode_stats lookups = { 0 };

	go_live(fake);
	for (int i = 0; i < 100; i++)
		send_lookup(fake, "name", NULL);
	fuse_session_stats(fake->session, note_lookups, &lookups);
	assert_int_equal(lookups.count, 100);
	assert_int_equal(lookups.bytes, 0);
	assert_true(lookups.p50_ns > 0);
	assert_true(lookups.p50_ns <= lookups.p99_ns);
	assert_int_equal(fuse_session_minor(fake->session), 45);
}

/* What @count requests of @ns each make of the percentiles. */
static void count_latency(struct stats *stats, unsigned int count, uint64_t ns)
{
	struct fuse_request request = { .opcode = FUSE_READ, .moved = 10 };

	while (count--) {
		request.started_ns = stats_now_ns() - ns;
		stats_count(stats, &request);
	}
}

static void note_any(void *context, const struct fuse_opcode_stats *stats)
{
	*(struct fuse_opcode_stats *)context = *stats;
}

static void test_percentiles(void **state)
{
	const uint64_t ms = 1000000;
	struct fuse_opcode_stats reads = { 0 };
	struct fuse_session session = { .minor = 0 };

	assert_int_equal(stats_init(&session.stats), 0);
	fuse_session_stats(&session, note_any, &reads);
	assert_int_equal(reads.count, 0);
	count_latency(&session.stats, 90, ms);
	count_latency(&session.stats, 10, 1000 * ms);
	/* Beyond the last bucket. */
	count_latency(&session.stats, 1, 1000000 * ms);
	fuse_session_stats(&session, note_any, &reads);
	assert_string_equal(reads.name, "READ");
	assert_int_equal(reads.count, 101);
	assert_int_equal(reads.bytes, 1010);
	assert_in_range(reads.p50_ns, ms / 2, 2 * ms + ms / 10);
	assert_in_range(reads.p99_ns, 500 * ms, 2200 * ms);
	stats_deinit(&session.stats);
}

#define session_test(function) cmocka_unit_test_setup_teardown(function, fake_setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		session_test(test_init),
		session_test(test_init_asks_for_nothing_that_is_not_offered),
		session_test(test_init_versions),
		session_test(test_nothing_before_init),
		session_test(test_lookup),
		session_test(test_errors_are_made_fit),
		session_test(test_unhandled),
		session_test(test_write),
		session_test(test_setxattr_follows_the_negotiation),
		session_test(test_forget_has_no_reply),
		session_test(test_answer_from_another_thread),
		session_test(test_interrupt),
		session_test(test_interrupt_that_comes_early),
		session_test(test_readdir_stops_where_it_is_full),
		session_test(test_references_of_lost_replies_come_back),
		cmocka_unit_test_setup_teardown(test_only_owner, fake_setup_owner, fake_teardown),
		session_test(test_after_destroy),
		session_test(test_notify),
		session_test(test_noise),
		session_test(test_requests_are_counted),
		cmocka_unit_test(test_percentiles),
	};

	return cmocka_run_group_tests_name("fuse", tests, NULL, NULL);
}
