/* SPDX-License-Identifier: MIT */
/*
 * The kernel hands a request over in three pieces: its header and the opcode's
 * fixed part in one small block, names and data in the payload.  The rooms
 * above know one message, so the first two are put right before the payload,
 * which costs a copy of 168 bytes at most and none of the data.
 */
#include "fuse/uring_entry.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"

/* Before the payload: struct fuse_in_header and the fixed part; a page, so that the payload
 * starts one. */
#define ENTRY_HEAD_ROOM 4096
#define ENTRY_MEMORY (ENTRY_HEAD_ROOM + TRANSPORT_PAYLOAD_MAX)

static char *uring_entry_payload(const struct uring_entry *entry)
{
	return entry->memory + ENTRY_HEAD_ROOM;
}

struct uring_entry *uring_entry_new(struct fuse_transport *transport, unsigned int queue)
{
	struct uring_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	/* Not from malloc: only the pages that messages really touch shall count. */
	entry->memory = mmap(NULL, ENTRY_MEMORY, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (entry->memory == MAP_FAILED) {
		free(entry);
		return NULL;
	}
	entry->iov[0] = (struct iovec){ &entry->header, sizeof(entry->header) };
	entry->iov[1] = (struct iovec){ uring_entry_payload(entry), TRANSPORT_PAYLOAD_MAX };
	entry->queue = (uint16_t)queue;
	entry->base.transport = transport;
	sem_init(&entry->answered, 0, 0);
	return entry;
}

struct uring_entry *uring_entry_free(struct uring_entry *entry)
{
	if (!entry)
		return NULL;
	sem_destroy(&entry->answered);
	munmap(entry->memory, ENTRY_MEMORY);
	free(entry);
	return NULL;
}

void uring_entry_trim(struct uring_entry *entry)
{
	madvise(uring_entry_payload(entry), TRANSPORT_PAYLOAD_MAX, MADV_DONTNEED);
}

/* As linux/fuse.h has it in the command's part of the submission. */
static struct fuse_uring_cmd_req *uring_entry_prepare(struct uring_entry *entry, int fd,
						      unsigned int command,
						      struct io_uring_sqe *sqe)
{
	struct fuse_uring_cmd_req *req = (struct fuse_uring_cmd_req *)sqe->cmd;

	/* A submission is two slots long, of which liburing knows the first. */
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = command;
	req->qid = entry->queue;
	io_uring_sqe_set_data(sqe, entry);
	return req;
}

void uring_entry_prepare_register(struct uring_entry *entry, int fd, struct io_uring_sqe *sqe)
{
	uring_entry_prepare(entry, fd, FUSE_IO_URING_CMD_REGISTER, sqe);
	sqe->addr = (uint64_t)(uintptr_t)entry->iov;
	sqe->len = ARRAY_SIZE(entry->iov);
}

void uring_entry_prepare_commit(struct uring_entry *entry, int fd, struct io_uring_sqe *sqe)
{
	struct fuse_uring_cmd_req *req =
		uring_entry_prepare(entry, fd, FUSE_IO_URING_CMD_COMMIT_AND_FETCH, sqe);

	req->commit_id = entry->header.ring_ent_in_out.commit_id;
}

/* The answer of a request that none is given to. */
static void uring_entry_fail(struct uring_entry *entry, uint64_t unique)
{
	const struct fuse_out_header out = {
		.len = sizeof(out),
		.error = -EIO,
		.unique = unique,
	};

	memcpy(entry->header.in_out, &out, sizeof(out));
	entry->header.ring_ent_in_out.payload_sz = 0;
}

bool uring_entry_receive(struct uring_entry *entry)
{
	size_t payload_size = entry->header.ring_ent_in_out.payload_sz;
	struct fuse_request *request = &entry->base;
	char *payload = uring_entry_payload(entry);
	struct fuse_in_header in;

	memcpy(&in, entry->header.in_out, sizeof(in));
	uring_entry_fail(entry, in.unique);
	if (payload_size > TRANSPORT_PAYLOAD_MAX || in.len < sizeof(in) + payload_size)
		return false;
	size_t fixed_size = in.len - sizeof(in) - payload_size;

	if (fixed_size > FUSE_URING_OP_IN_OUT_SZ)
		return false;
	memcpy(payload - fixed_size, entry->header.op_in, fixed_size);
	memcpy(payload - fixed_size - sizeof(in), &in, sizeof(in));
	request->message = payload - fixed_size - sizeof(in);
	request->message_size = in.len;
	/* Behind what came is room for what goes. */
	payload_size = MIN(FUSE_REC_ALIGN(payload_size), TRANSPORT_PAYLOAD_MAX);
	request->scratch = payload + payload_size;
	request->scratch_size = TRANSPORT_PAYLOAD_MAX - payload_size;
	return true;
}

void uring_entry_reply(struct uring_entry *entry, const struct iovec *iov, int count)
{
	char *payload = uring_entry_payload(entry);
	size_t size = 0;

	for (int i = 1; i < count; i++)
		size += iov[i].iov_len;
	memcpy(entry->header.in_out, iov[0].iov_base, iov[0].iov_len);
	entry->header.ring_ent_in_out.payload_sz = (uint32_t)size;
	/* From the end, because that is the piece that moves within the payload. */
	for (int i = count - 1; i >= 1; i--) {
		size -= iov[i].iov_len;
		if (payload + size != iov[i].iov_base)
			memmove(payload + size, iov[i].iov_base, iov[i].iov_len);
	}
}
