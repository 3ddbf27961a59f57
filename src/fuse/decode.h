/* SPDX-License-Identifier: MIT */
/* Messages of the kernel: from bytes, which may be anything, to checked arguments. */
#ifndef VENEER_FUSE_DECODE_H
#define VENEER_FUSE_DECODE_H

#include "fuse/fuse.h"

/* The header, if there is one: 0, or -EIO (nothing can be answered then). */
int decode_header(const void *message, size_t size, struct fuse_in_header *header);

/*
 * The arguments of a message whose header was taken by decode_header(). @setxattr_ext: SETXATTR
 * comes in its long form. Pointers go into @message. Returns 0, -EIO (the length is wrong),
 * -EINVAL (the contents are), or -ENOSYS (an opcode this program does not know).
 */
int decode_args(const struct fuse_in_header *header, const void *message, size_t size,
		bool setxattr_ext, struct fuse_args *args);

/* "LOOKUP" ..., or "?". */
const char *decode_opcode_name(uint32_t opcode);
/* True for messages that need no reply and never wait. */
bool decode_is_brief(uint32_t opcode);

#endif
