/* SPDX-License-Identifier: MIT */
#include "fuse/transport.h"

int fuse_transport_start(struct fuse_transport *transport)
{
	return transport->ops->start(transport);
}

void fuse_transport_stop(struct fuse_transport *transport)
{
	transport->ops->stop(transport);
}

void fuse_transport_trim(struct fuse_transport *transport)
{
	transport->ops->trim(transport);
}

void fuse_transport_get_state(struct fuse_transport *transport, struct fuse_transport_state *state)
{
	transport->ops->get_state(transport, state);
}

struct fuse_transport *fuse_transport_free(struct fuse_transport *transport)
{
	return transport ? transport->ops->free(transport) : NULL;
}
