/* SPDX-License-Identifier: MIT */
/* Within the io_uring transport: one place for a request, and the memory that the kernel uses. */
#ifndef VENEER_FUSE_URING_ENTRY_H
#define VENEER_FUSE_URING_ENTRY_H

#include <semaphore.h>
#include <sys/uio.h>

#include "fuse/transport.h"

struct io_uring_sqe;

struct uring_entry {
	struct fuse_request base;
	struct fuse_uring_req_header header; /* both ways */
	struct iovec iov[2]; /* as the kernel wants to know them: header, payload */
	char *memory; /* room for the message's head, then the payload */
	sem_t answered; /* posted when the request was released */
	uint16_t queue; /* number of the processor it serves */
};

/* For the queue of processor @queue. NULL when out of memory. */
struct uring_entry *uring_entry_new(struct fuse_transport *transport, unsigned int queue);
struct uring_entry *uring_entry_free(struct uring_entry *entry);
/* Gives memory of past large messages back; only while the kernel holds no message in it. */
void uring_entry_trim(struct uring_entry *entry);

/* Offers the entry to the kernel for the first time, through the device @fd. */
void uring_entry_prepare_register(struct uring_entry *entry, int fd, struct io_uring_sqe *sqe);
/* Gives the answer and offers the entry for the next request. */
void uring_entry_prepare_commit(struct uring_entry *entry, int fd, struct io_uring_sqe *sqe);

/*
 * The kernel has put a request in: makes one message of it. Until there is a reply, the answer is
 * -EIO. False: what the kernel said is no message.
 */
bool uring_entry_receive(struct uring_entry *entry);
/* Puts the reply in. @iov starts with the header; only its last piece may be in the scratch. */
void uring_entry_reply(struct uring_entry *entry, const struct iovec *iov, int count);

#endif
