/* SPDX-License-Identifier: MIT */
/* Within src/fuse: endings of a request that no handler may choose. */
#ifndef VENEER_FUSE_REPLY_H
#define VENEER_FUSE_REPLY_H

#include "fuse/fuse.h"

/* For messages that have no reply (FORGET, INTERRUPT), and what can not be answered. */
void reply_nothing(struct fuse_request *request);
/* As is, but in the kernel's range; also -ENOSYS. */
int reply_errno(struct fuse_request *request, int error);

#endif
