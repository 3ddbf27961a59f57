/* SPDX-License-Identifier: MIT */
#include "fuse_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "unit.h"

/* ---- a file system that remembers what it was asked ---- */

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

int fake_setup(void **state)
{
	return fake_new(state, false);
}

int fake_setup_owner(void **state)
{
	return fake_new(state, true);
}

int fake_teardown(void **state)
{
	struct fake *fake = *state;

	fuse_transport_free(fake->transport);
	fuse_session_free(fake->session);
	free(fake);
	return 0;
}

/* ---- messages ---- */

void message_begin(struct message *message, uint32_t opcode)
{
	memset(message, 0, sizeof(*message));
	message->header.opcode = opcode;
	message->header.unique = 1000;
	message->header.nodeid = 1;
	message->header.uid = 1000;
	message->size = sizeof(message->header);
}

void message_add(struct message *message, const void *data, size_t size)
{
	memcpy(message->bytes + message->size, data, size);
	message->size += size;
}

void message_add_string(struct message *message, const char *text)
{
	message_add(message, text, strlen(text) + 1);
}

void message_send(struct fake *fake, struct message *message)
{
	message->header.len = (uint32_t)message->size;
	assert_int_equal(loop_send(fake->transport, message->bytes, message->size), 0);
}

int take_reply(struct fake *fake, void *out, size_t size)
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

int send_init(struct fake *fake, uint32_t major, uint32_t minor, uint64_t flags,
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

void go_live(struct fake *fake)
{
	struct abi_init_out out;

	assert_int_equal(send_init(fake, 7, 45, ~0ULL, &out), 0);
}

int send_lookup(struct fake *fake, const char *name, struct fuse_entry_out *out)
{
	struct message message;

	message_begin(&message, FUSE_LOOKUP);
	message_add_string(&message, name);
	message_send(fake, &message);
	return take_reply(fake, out, out ? sizeof(*out) : 0);
}
