/* SPDX-License-Identifier: MIT */
/*
 * The whole daemon, from the bytes of a message to the bytes of its reply, over
 * hostile layers.  An input is: how to mount, what the layers hold, and then
 * messages, which may use the node ids and handles that replies have given.
 *
 * Beyond surviving: every message is answered at most once, with a length that
 * is true and an errno that the kernel takes.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "core/core.h"
#include "daemon/idle.h"
#include "daemon/ops.h"
#include "fuse/fuse.h"
#include "fuse/loop.h"
#include "fuzz.h"
#include "hostile.h"
#include "sandbox.h"

#define FUZZ_MESSAGES_MAX 100
#define FUZZ_KNOWN_MAX 16
#define FUZZ_REPLY_MAX (sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) + 64)

/* Ids of one kind that replies have given: a ring. */
struct fuzz_known {
	uint64_t ids[FUZZ_KNOWN_MAX];
	unsigned int count;
};

struct fuzz_run {
	struct fuse_session *session;
	struct fuse_transport *transport;
	struct fuzz_known nodes, handles;
	uint64_t unique;
};

static void fuzz_known_add(struct fuzz_known *known, uint64_t id)
{
	known->ids[known->count++ % FUZZ_KNOWN_MAX] = id;
}

static uint64_t fuzz_known_get(const struct fuzz_known *known, uint8_t which)
{
	unsigned int count = MIN(known->count, (unsigned int)FUZZ_KNOWN_MAX);

	return count ? known->ids[which % count] : which;
}

/* Learns the ids that the reply to @opcode gives. */
static void fuzz_learn(struct fuzz_run *run, uint32_t opcode, const char *payload, size_t size)
{
	uint64_t id;

	if (size < sizeof(id))
		return;
	memcpy(&id, payload, sizeof(id));
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		fuzz_known_add(&run->nodes, id);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		fuzz_known_add(&run->handles, id);
		break;
	}
}

/* Takes every reply there is; returns how many were to @unique. */
static unsigned int fuzz_take_replies(struct fuzz_run *run, uint32_t opcode, uint64_t unique)
{
	char buf[FUZZ_REPLY_MAX];
	struct fuse_out_header out;
	unsigned int count = 0;
	size_t size;

	while ((size = loop_take(run->transport, buf, sizeof(buf))) > 0) {
		fuzz_check(size >= sizeof(out));
		memcpy(&out, buf, sizeof(out));
		fuzz_check(out.len == size);
		if (out.unique == 0) /* a notification: its code in the place of the errno */
			continue;
		fuzz_check(out.error <= 0 && out.error > -512);
		fuzz_check(out.error == 0 || size == sizeof(out));
		if (out.unique != unique)
			continue;
		count++;
		if (out.error == 0)
			fuzz_learn(run, opcode, buf + sizeof(out),
				   MIN(size, sizeof(buf)) - sizeof(out));
	}
	return count;
}

static void fuzz_send(struct fuzz_run *run, const struct fuse_in_header *header,
		      const void *payload, size_t size)
{
	char *message = fuzz_alloc(sizeof(*header) + size);

	memcpy(message, header, sizeof(*header));
	if (size)
		memcpy(message + sizeof(*header), payload, size);
	fuzz_check(loop_send(run->transport, message, sizeof(*header) + size) == 0);
	free(message);
	while (fuse_session_inflight(run->session) > 0)
		sched_yield();
	fuzz_check(fuzz_take_replies(run, header->opcode, header->unique) <= 1);
}

static void fuzz_put_id(uint8_t *payload, size_t size, size_t at, uint64_t id)
{
	if (at + sizeof(id) <= size)
		memcpy(payload + at, &id, sizeof(id));
}

enum fuzz_flag {
	FUZZ_FLAG_USER = 1 << 0, /* by an ordinary user */
	FUZZ_FLAG_HANDLE = 1 << 1, /* the payload begins with a handle */
	FUZZ_FLAG_NODE = 1 << 2, /* with a node id */
	FUZZ_FLAG_NODE_AT_16 = 1 << 3, /* has a node id where COPY_FILE_RANGE has it */
	FUZZ_FLAG_RAW_NODE = 1 << 4,
	FUZZ_FLAG_LENGTH_LIES = 1 << 5,
	FUZZ_FLAG_EXTENSIONS = 1 << 6,
	FUZZ_FLAG_LONG = 1 << 7, /* payload of 256 times the size */
};

/* One message: opcode, node, flags, size, payload. */
static void fuzz_message(struct fuzz_run *run, struct fuzz_input *input)
{
	uint8_t opcode = fuzz_take_u8(input), node = fuzz_take_u8(input);
	uint8_t flags = fuzz_take_u8(input);
	size_t size = fuzz_take_u8(input) * (flags & FUZZ_FLAG_LONG ? 256U : 1U);
	const uint8_t *data = fuzz_take(input, size, &size);
	uint8_t *payload = fuzz_copy(data, size);
	struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + size),
		.opcode = opcode,
		.unique = run->unique += 2,
		.nodeid = flags & FUZZ_FLAG_RAW_NODE ? node : fuzz_known_get(&run->nodes, node),
		.uid = flags & FUZZ_FLAG_USER ? 1000 : 0,
		.gid = flags & FUZZ_FLAG_USER ? 1000 : 0,
		.pid = 1,
	};

	if (flags & FUZZ_FLAG_LENGTH_LIES)
		header.len = fuzz_take_u32(input);
	if (flags & FUZZ_FLAG_EXTENSIONS)
		header.total_extlen = fuzz_take_u8(input);
	if (flags & FUZZ_FLAG_HANDLE)
		fuzz_put_id(payload, size, 0, fuzz_known_get(&run->handles, node));
	if (flags & FUZZ_FLAG_NODE)
		fuzz_put_id(payload, size, 0, fuzz_known_get(&run->nodes, node + 1));
	if (flags & FUZZ_FLAG_NODE_AT_16)
		fuzz_put_id(payload, size, 16, fuzz_known_get(&run->nodes, node + 1));
	fuzz_send(run, &header, payload, size);
	free(payload);
}

/* What a kernel of 6.18 says first. */
static void fuzz_handshake(struct fuzz_run *run)
{
	struct fuse_init_in init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = ABI_MINOR_MAX,
		.max_readahead = 131072,
		.flags = UINT32_MAX,
		.flags2 = UINT32_MAX,
	};
	struct fuse_in_header header = {
		.len = sizeof(header) + sizeof(init),
		.opcode = FUSE_INIT,
		.unique = run->unique += 2,
	};

	fuzz_send(run, &header, &init, sizeof(init));
}

static void fuzz_messages(struct core *core, struct fuzz_input *input)
{
	struct control control = { .signal_fd = -1, .event_fd = -1 }; /* nobody waits */
	struct idle idle;
	struct gate gate;
	struct ops ops = { .core = core, .idle = &idle, .gate = &gate };
	struct fuse_session_config config = {
		.handlers = &ops_handlers,
		.valid = FUSE_VALID_FOREVER,
		.context = &ops,
	};
	struct fuzz_run run = { .session = fuse_session_new(&config) };

	idle_init(&idle, &control);
	gate_init(&gate);
	fuzz_check(run.session);
	run.transport = loop_new(run.session);
	fuzz_check(run.transport);
	fuzz_known_add(&run.nodes, CORE_ROOT);
	if (!(fuzz_take_u8(input) & 128))
		fuzz_handshake(&run);
	for (int i = 0; i < FUZZ_MESSAGES_MAX && input->size > 0; i++)
		fuzz_message(&run, input);
	fuse_transport_free(run.transport);
	fuse_session_free(run.session);
	gate_deinit(&gate);
}

static struct core *fuzz_mount(uint8_t how)
{
	struct core_config config = {
		.upperdir = how & 1 ? NULL : HOSTILE_UPPER,
		.workdir = how & 1 ? NULL : HOSTILE_WORK,
		.redirect = how >> 1 & 1 ? CORE_REDIRECT_ON : CORE_REDIRECT_FOLLOW,
		.fsync = CORE_FSYNC_VOLATILE,
		.metacopy = how >> 2 & 1,
		.read_only = how >> 3 & 1,
		.static_nlink = how >> 4 & 1,
		.noatime = how >> 5 & 1,
		.layers_change = how >> 6 & 1,
	};
	struct strbuf why = STRBUF_INIT;
	struct core *core = NULL;

	fuzz_check(lowerdir_list_add(&config.lowers, HOSTILE_LOWER1, false) == 0);
	fuzz_check(lowerdir_list_add(&config.lowers, HOSTILE_LOWER0, false) == 0);
	if (core_new(&config, &core, &why) < 0)
		core = NULL;
	lowerdir_list_deinit(&config.lowers);
	strbuf_deinit(&why);
	return core;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { .data = data, .size = size };
	static bool ready;

	if (!ready) {
		if (sandbox_enter() < 0) {
			fprintf(stderr, "skipped: no privileges for a mount namespace\n");
			exit(77);
		}
		log_set_level(LOG_LEVEL_ERROR);
		ready = true;
	}
	uint8_t how = fuzz_take_u8(&input);

	sandbox_renew();
	hostile_build(&input);
	struct core *core = fuzz_mount(how);

	if (core) {
		fuzz_messages(core, &input);
		core_free(core);
	}
	return 0;
}
