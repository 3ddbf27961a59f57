/* SPDX-License-Identifier: MIT */
/* A file system that remembers what it was asked, behind the loop transport, and messages to it. */
#ifndef VENEER_TESTS_FUSE_FAKE_H
#define VENEER_TESTS_FUSE_FAKE_H

#include "fuse/loop.h"
#include "fuse/session.h"

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

/* For cmocka: *state is a struct fake *. */
int fake_setup(void **state);
/* Serves uid 1000 alone. */
int fake_setup_owner(void **state);
int fake_teardown(void **state);

struct message {
	union {
		struct fuse_in_header header;
		char bytes[4096];
	};
	size_t size;
};

void message_begin(struct message *message, uint32_t opcode);
void message_add(struct message *message, const void *data, size_t size);
void message_add_string(struct message *message, const char *text);
void message_send(struct fake *fake, struct message *message);
/* The reply to the message just sent: its error; its payload goes to @out. */
int take_reply(struct fake *fake, void *out, size_t size);

int send_init(struct fake *fake, uint32_t major, uint32_t minor, uint64_t flags,
	      struct abi_init_out *out);
void go_live(struct fake *fake);
int send_lookup(struct fake *fake, const char *name, struct fuse_entry_out *out);

#endif
