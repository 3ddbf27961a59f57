/* SPDX-License-Identifier: MIT */
/*
 * A transport without a kernel, for tests and fuzzing: bytes in, bytes out, in
 * the calling thread.  A request that a handler keeps stays open until it is
 * answered, from whatever thread.
 */
#ifndef VENEER_FUSE_LOOP_H
#define VENEER_FUSE_LOOP_H

#include "fuse/fuse.h"

/* NULL when out of memory. */
struct fuse_transport *loop_new(struct fuse_session *session);

/* Handles one message, which is copied to memory of exactly its size. 0 or -ENOMEM. */
int loop_send(struct fuse_transport *transport, const void *message, size_t size);

/*
 * Takes the oldest reply or notification, header and all; up to @size bytes go to @buf. Returns
 * its full length, or 0 if there is none.
 */
size_t loop_take(struct fuse_transport *transport, void *buf, size_t size);

/* From now on replies are refused with this -errno (0: taken again), as a dying kernel does. */
void loop_refuse(struct fuse_transport *transport, int error);

#endif
