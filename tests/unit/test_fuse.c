/* SPDX-License-Identifier: MIT */
/* Decoding, encoding, sessions and their replies, through the loop transport. */
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "fuse/decode.h"
#include "fuse/encode.h"
#include "fuse/loop.h"
#include "fuse/session.h"

/* ---- a file system that remembers what it was asked ---- */

struct fake {
	struct fuse_session *session;
	struct fuse_transport *transport;
	struct fuse_request *kept; /* a request that is answered later */
	uint64_t forgotten_node, forgotten;
	unsigned int calls, threads, ready;
	int ready_error;
	char name[256], data[64];
	size_t data_size;
	uint32_t setxattr_flags;
};

static void fake_forget(void *context, uint64_t node, uint64_t count)
{
	struct fake *fake = context;

	fake->forgotten_node = node;
	fake->forgotten += count;
}

static int fake_lookup(void *context, struct fuse_request *request)
{
	struct fake *fake = context;
	struct statx attr = { .stx_ino = 77, .stx_mode = S_IFREG | 0644, .stx_nlink = 1 };

	fake->calls++;
	strncpy(fake->name, request->args.name, sizeof(fake->name) - 1);
	if (!strcmp(request->args.name, "missing"))
		fuse_reply_entry(request, 0, NULL);
	else if (!strcmp(request->args.name, "enosys"))
		return -ENOSYS;
	else if (!strcmp(request->args.name, "restart"))
		return -512; /* a code of the kernel's own that must not get out */
	else
		fuse_reply_entry(request, 42, &attr);
	return 0;
}

static int fake_keep(void *context, struct fuse_request *request)
{
	struct fake *fake = context;

	fake->kept = request;
	return 0;
}

static int fake_write(void *context, struct fuse_request *request)
{
	struct fake *fake = context;

	fake->data_size = request->args.data_size;
	memcpy(fake->data, request->args.data, MIN(sizeof(fake->data), request->args.data_size));
	fuse_reply_written(request, request->args.data_size);
	return 0;
}

static int fake_setxattr(void *context, struct fuse_request *request)
{
	struct fake *fake = context;

	fake->data_size = request->args.data_size;
	fake->setxattr_flags = request->args.in.setxattr.setxattr_flags;
	memcpy(fake->data, request->args.data, MIN(sizeof(fake->data), request->args.data_size));
	strncpy(fake->name, request->args.name, sizeof(fake->name) - 1);
	fuse_reply_error(request, 0);
	return 0;
}

static int fake_readdir(void *context, struct fuse_request *request)
{
	static const char *const names[] = { "a", "bcdefgh", "ijklmnop", "q" };
	struct statx attr = { .stx_ino = 5, .stx_mode = S_IFREG };
	struct fuse_dirbuf buf;
	int r = fuse_dirbuf_init(&buf, request);

	if (r < 0)
		return r;
	for (size_t i = request->args.in.read.offset; i < ARRAY_SIZE(names); i++) {
		const struct fuse_dirbuf_entry entry = {
			.name = names[i],
			.name_length = strlen(names[i]),
			.ino = 100 + i,
			.offset = i + 1,
			.type = 8,
			.node = i == 0 ? 0 : 200 + i,
			.attr = &attr,
		};

		if (!fuse_dirbuf_add(&buf, &entry))
			break;
	}
	fuse_reply_dirbuf(&buf);
	return 0;
}

static void fake_thread_start(void *context)
{
	((struct fake *)context)->threads++;
}

static void fake_ready(void *context, int error)
{
	struct fake *fake = context;

	fake->ready++;
	fake->ready_error = error;
}

static const struct fuse_handlers fake_handlers = {
	.by_opcode = {
		[FUSE_LOOKUP] = fake_lookup,
		[FUSE_READ] = fake_keep,
		[FUSE_WRITE] = fake_write,
		[FUSE_SETXATTR] = fake_setxattr,
		[FUSE_READDIR] = fake_readdir,
		[FUSE_READDIRPLUS] = fake_readdir,
	},
	.forget = fake_forget,
};

static int fake_new(void **state, bool only_owner)
{
	struct fake *fake = calloc(1, sizeof(*fake));
	struct fuse_session_config config = {
		.handlers = &fake_handlers,
		.valid = { .tv_sec = 10, .tv_nsec = 5 },
		.only_owner = only_owner,
		.owner = 1000,
		.thread_start = fake_thread_start,
		.ready = fake_ready,
		.context = fake,
	};

	fake->session = fuse_session_new(&config);
	fake->transport = loop_new(fake->session);
	*state = fake;
	return 0;
}

static int fake_setup(void **state)
{
	return fake_new(state, false);
}

static int fake_setup_owner(void **state)
{
	return fake_new(state, true);
}

static int fake_teardown(void **state)
{
	struct fake *fake = *state;

	fuse_transport_free(fake->transport);
	fuse_session_free(fake->session);
	free(fake);
	return 0;
}

/* ---- messages ---- */

struct message {
	union {
		struct fuse_in_header header;
		char bytes[4096];
	};
	size_t size;
};

static void message_begin(struct message *message, uint32_t opcode)
{
	memset(message, 0, sizeof(*message));
	message->header.opcode = opcode;
	message->header.unique = 1000;
	message->header.nodeid = 1;
	message->header.uid = 1000;
	message->size = sizeof(message->header);
}

static void message_add(struct message *message, const void *data, size_t size)
{
	memcpy(message->bytes + message->size, data, size);
	message->size += size;
}

static void message_add_string(struct message *message, const char *text)
{
	message_add(message, text, strlen(text) + 1);
}

static void message_send(struct fake *fake, struct message *message)
{
	message->header.len = (uint32_t)message->size;
	assert_int_equal(loop_send(fake->transport, message->bytes, message->size), 0);
}

/* The reply to the message just sent: its error; its payload goes to @out. */
static int take_reply(struct fake *fake, void *out, size_t size)
{
	char reply[8192];
	size_t length = loop_take(fake->transport, reply, sizeof(reply));
	struct fuse_out_header header;

	assert_true(length >= sizeof(header));
	memcpy(&header, reply, sizeof(header));
	assert_int_equal(header.len, length);
	assert_int_equal(header.unique, 1000);
	if (header.error == 0 && size) {
		assert_int_equal(length, sizeof(header) + size);
		memcpy(out, reply + sizeof(header), size);
	}
	return header.error;
}

static int send_init(struct fake *fake, uint32_t major, uint32_t minor, uint64_t flags,
		     struct abi_init_out *out)
{
	struct fuse_init_in in = {
		.major = major,
		.minor = minor,
		.max_readahead = 131072,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
	};
	struct message message;

	message_begin(&message, FUSE_INIT);
	/* Before 7.36 the message is short. */
	message_add(&message, &in, minor < 36 ? 16 : sizeof(in));
	message_send(fake, &message);
	return take_reply(fake, out, sizeof(*out));
}

static void go_live(struct fake *fake)
{
	struct abi_init_out out;

	assert_int_equal(send_init(fake, 7, 45, ~0ULL, &out), 0);
}

static int send_lookup(struct fake *fake, const char *name, struct fuse_entry_out *out)
{
	struct message message;

	message_begin(&message, FUSE_LOOKUP);
	message_add_string(&message, name);
	message_send(fake, &message);
	return take_reply(fake, out, out ? sizeof(*out) : 0);
}

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
	assert_int_equal(fuse_notify_epoch(fake->transport), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16);
	assert_int_equal(((struct fuse_out_header *)out)->error, ABI_NOTIFY_INC_EPOCH);
	assert_int_equal(fuse_notify_inode(fake->transport, 5, 0, 0), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + 24);
	assert_int_equal(fuse_notify_delete(fake->transport, 5, 6, "name"), 0);
	assert_int_equal(loop_take(fake->transport, out, sizeof(out)), 16 + 24 + 5);
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

	return cmocka_run_group_tests(tests, NULL, NULL);
}
