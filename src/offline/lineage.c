/* SPDX-License-Identifier: MIT */
#include "offline/lineage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "format/nlink.h"
#include "offline/mutate.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

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

/* ---- names that are only below ---- */

struct lineage_index {
	const struct stack *stack;
	int fd;
	int count;
};

/* How many names the file of the entry has in all, by its attribute; 0: not known. */
static int64_t lineage_names(const struct lineage_index *index, const char *name,
			     const struct statx *st)
{
	const char *key = xattr_private_name(index->stack->ns, XATTR_NLINK);
	char value[NLINK_SIZE_MAX];
	ssize_t size = sys_getxattr_at(index->fd, name, key, value, sizeof(value));
	struct nlink nlink;
	struct statx lower;

	if (size < 0 || nlink_decode(value, (size_t)size, &nlink) < 0)
		return 0;
	if (nlink.of_upper)
		return (int64_t)st->stx_nlink + nlink.delta;
	_cleanup_close_ int fd = lineage_open(index->stack, name);

	return fd < 0 || sys_stat(fd, "", &lower) < 0 ? 0 : (int64_t)lower.stx_nlink + nlink.delta;
}

static int lineage_count_entry(const struct sys_dirent *entry, void *context)
{
	struct lineage_index *index = context;
	struct statx st;

	/* One of its links is the entry itself. */
	if (sys_stat(index->fd, entry->name, &st) == 0 && S_ISREG(st.stx_mode) &&
	    lineage_names(index, entry->name, &st) >= st.stx_nlink)
		index->count++;
	return 0;
}

int lineage_count_shared(const struct stack *stack, int fd)
{
	struct lineage_index index = { .stack = stack, .fd = fd };
	int r = sys_dir_for_each(fd, lineage_count_entry, &index);

	return r < 0 ? r : index.count;
}
