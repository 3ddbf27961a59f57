/* SPDX-License-Identifier: MIT */
/* In place of uring.c in a build without liburing. */
#include <errno.h>
#include <unistd.h>

#include "fuse/fuse.h"

bool fuse_has_uring(void)
{
	return false;
}

int fuse_uring_new(struct fuse_session *session, const struct fuse_dev_config *config,
		   struct fuse_transport **transportp)
{
	close(config->fd);
	return -ENOTSUP;
}
