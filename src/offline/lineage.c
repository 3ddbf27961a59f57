/* SPDX-License-Identifier: MIT */
#include "offline/lineage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "offline/mutate.h"
#include "sys/file.h"
#include "sys/handle.h"

bool lineage_of(const struct stack *stack, unsigned int layer, int fd, struct origin *origin)
{
	struct sys_handle handle;

	*origin = (struct origin){ 0 };
	if (sys_handle_get(fd, "", &handle) < 0 || handle.size > ORIGIN_FID_MAX)
		return false;
	origin->type = (uint8_t)handle.type;
	origin->fid_size = (uint8_t)handle.size;
	memcpy(origin->fid, handle.bytes, handle.size);
	memcpy(origin->uuid, stack->layers[layer].uuid, sizeof(origin->uuid));
	return true;
}

int lineage_set(const struct stack *stack, unsigned int layer, int from, int to)
{
	uint8_t value[ORIGIN_SIZE_MAX];
	struct origin origin;
	size_t size = lineage_of(stack, layer, from, &origin) ? origin_encode(&origin, value) : 0;
	int r = size ? mutate_setxattr(to, xattr_private_name(stack->ns, XATTR_ORIGIN), value,
				       size) :
		       0;

	return r == -EOPNOTSUPP || r == -EPERM ? 0 : r;
}

int lineage_open(const struct stack *stack, const char *name)
{
	struct origin origin;
	struct sys_handle handle = { 0 };

	if (!origin_from_index_name(name, &origin))
		return -ENOENT;
	handle.type = origin.type;
	handle.size = origin.fid_size;
	memcpy(handle.bytes, origin.fid, origin.fid_size);
	for (unsigned int i = 1; i < stack->count; i++) {
		const struct stack_layer *layer = &stack->layers[i];

		if (memcmp(layer->uuid, origin.uuid, sizeof(layer->uuid)) != 0)
			continue;
		_cleanup_close_ int root = sys_reopen(layer->fd, O_RDONLY | O_DIRECTORY);
		int fd = root < 0 ? root : sys_handle_open(root, &handle, O_PATH | O_NOFOLLOW);

		return fd < 0 ? -ENOENT : fd;
	}
	return -ENOENT;
}
