/* SPDX-License-Identifier: MIT */
/* Passthrough (Linux 6.9): open files of layers that the kernel shall use by itself. */
#include <errno.h>
#include <sys/ioctl.h>

#include "fuse/session.h"
#include "fuse/transport.h"

int fuse_backing_open(struct fuse_transport *transport, int fd)
{
	struct fuse_backing_map map = { .fd = fd };
	int device = transport->ops->get_device(transport);
	int id;

	if (device < 0)
		return device;
	if (!(transport->session->flags & FUSE_PASSTHROUGH))
		return -EOPNOTSUPP;
	id = ioctl(device, FUSE_DEV_IOC_BACKING_OPEN, &map);
	return id < 0 ? -errno : id;
}

void fuse_backing_close(struct fuse_transport *transport, int backing)
{
	uint32_t id = (uint32_t)backing;
	int device = transport->ops->get_device(transport);

	if (device >= 0)
		ioctl(device, FUSE_DEV_IOC_BACKING_CLOSE, &id);
}
