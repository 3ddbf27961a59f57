/* SPDX-License-Identifier: MIT */
/* Origin: which lower object an upper one was copied up from. */
#include "core/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/lowernames.h"
#include "core/origintable.h"
#include "core/upper.h"
#include "format/origin.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

static bool origin_from_handle(const struct layer *layer, const struct sys_handle *handle,
			       struct origin *origin)
{
	if (handle->size > ORIGIN_FID_MAX || handle->type < 0 || handle->type > 0xff)
		return false;
	*origin = (struct origin){ .type = handle->type, .fid_size = handle->size };
	memcpy(origin->fid, handle->bytes, handle->size);
	memcpy(origin->uuid, layer->uuid, sizeof(origin->uuid));
	return true;
}

bool origin_is_foreign(const struct layer *layer, int fd, const char *name)
{
	struct statx st;

	return layer->crosses_mounts &&
	       (sys_stat(fd, name, &st) < 0 || sys_stat_dev(&st) != layer->dev);
}

bool origin_of(const struct layer *layer, int fd, const char *name, struct origin *origin)
{
	struct sys_handle handle;

	return layer->has_handles && !origin_is_foreign(layer, fd, name) &&
	       sys_handle_get(fd, name, &handle) == 0 && origin_from_handle(layer, &handle, origin);
}

static bool origin_read_attribute(struct core *core, int fd, const char *name,
				  struct origin *origin)
{
	uint8_t value[ORIGIN_SIZE_MAX];
	ssize_t size =
		sys_getxattr_at(fd, name, core_key(core, XATTR_ORIGIN), value, sizeof(value));

	return size > 0 && origin_decode(value, size, origin) == ORIGIN_VALID;
}

bool origin_read(struct core *core, struct ldir *dir, const char *name, mode_t mode,
		 struct origin *origin)
{
	int fd = ldir_pin(&core->fds, dir);

	if (fd < 0)
		return false;
	bool has = origintable_is_for(core, mode) ? origintable_get(core, fd, name, origin) :
						    origin_read_attribute(core, fd, name, origin);

	ldir_unpin(dir);
	return has;
}

/* A lower object can give its number to an upper one if it is of the same kind and has one name,
 * or all of its names lead to that one. */
static bool origin_fits(const struct core *core, const struct statx *st, const struct statx *lower)
{
	if ((st->stx_mode & S_IFMT) != (lower->stx_mode & S_IFMT))
		return false;
	return S_ISDIR(lower->stx_mode) || lower->stx_nlink == 1 || core->index;
}

/* Is it what the lower directory @in has under the same name? */
static bool origin_is_at(struct core *core, const struct origin *origin, struct ldir *in,
			 const char *name, struct statx *lower)
{
	struct origin there;
	int fd = ldir_pin(&core->fds, in);

	if (fd < 0)
		return false;
	bool same = origin_of(in->layer, fd, name, &there) && origin_is_equal(&there, origin) &&
		    sys_stat(fd, name, lower) == 0;

	ldir_unpin(in);
	return same;
}

/* Opens the handle on the first lower of that file system; only root may. */
static bool origin_open(struct core *core, const struct origin *origin, struct statx *lower)
{
	struct sys_handle handle = { .type = origin->type, .size = origin->fid_size };

	memcpy(handle.bytes, origin->fid, origin->fid_size);
	for (unsigned int i = core->has_upper ? 1 : 0; i < core->layer_count; i++) {
		const struct layer *layer = &core->layers[i];

		if (!layer->has_handles || !layer->has_uuid ||
		    memcmp(layer->uuid, origin->uuid, sizeof(layer->uuid)) != 0)
			continue;
		int fd = sys_handle_open(layer->fd, &handle, O_PATH | O_NOFOLLOW);

		if (fd < 0)
			return false;
		int r = sys_stat(fd, "", lower);

		close(fd);
		return r == 0;
	}
	return false;
}

/*
 * Reads the number out of the handle: without privilege nothing else is left. The handle was
 * written for a lower file, so it is that file's number for as long as the lowers stay.
 */
static bool origin_decode_inode(struct core *core, const struct origin *origin,
				const struct statx *st, struct statx *lower)
{
	uint64_t ino;

	for (unsigned int i = core->has_upper ? 1 : 0; i < core->layer_count; i++) {
		const struct layer *layer = &core->layers[i];

		if (!layer->has_handles ||
		    memcmp(layer->uuid, origin->uuid, sizeof(layer->uuid)) != 0)
			continue;
		if (!origin_inode(origin, layer->magic, &ino))
			return false;
		*lower = *st;
		lower->stx_ino = ino;
		lower->stx_dev_major = major(layer->dev);
		lower->stx_dev_minor = minor(layer->dev);
		return true;
	}
	return false;
}

bool origin_stat(struct core *core, struct node *parent, const struct origin *origin,
		 const char *name, struct statx *lower)
{
	const struct node_dir *dir = parent->dir;
	struct nameindex_cursor cursor = { 0 };

	for (unsigned int i = 0, kinds;; i++) {
		i = lowernames_next(dir, name, &cursor, i, &kinds);
		if (i >= dir->lower_count)
			break;
		struct ldir *in = dir->lowers[i];

		if (in->layer->has_handles && origin_is_at(core, origin, in, name, lower))
			return true;
	}
	return core->can_open_handles && origin_open(core, origin, lower);
}

/* What the table says of an object whose lower has no handles. */
static bool origin_find_number(struct core *core, const struct statx *st, struct ldir *dir,
			       const char *name, struct statx *lower)
{
	dev_t dev;
	uint64_t ino;
	int fd = S_ISDIR(st->stx_mode) ? -1 : ldir_pin(&core->fds, dir);

	if (fd < 0)
		return false;
	bool found = origintable_get_number(core, fd, name, &dev, &ino);

	ldir_unpin(dir);
	if (!found)
		return false;
	*lower = *st;
	lower->stx_ino = ino;
	lower->stx_dev_major = major(dev);
	lower->stx_dev_minor = minor(dev);
	return true;
}

bool origin_find(struct core *core, struct node *parent, const struct statx *st, struct ldir *dir,
		 const char *name, struct statx *lower)
{
	struct origin origin;

	bool has = origin_read(core, dir, name, st->stx_mode, &origin);

	if (has && origin_stat(core, parent, &origin, name, lower))
		return origin_fits(core, st, lower);
	if (core->keeps_numbers && origin_find_number(core, st, dir, name, lower))
		return true;
	return has && !core->can_open_handles && origin_decode_inode(core, &origin, st, lower);
}

int origin_set(struct core *core, const struct layer *layer, int lowerfd, mode_t mode, int fd)
{
	uint8_t value[ORIGIN_SIZE_MAX];
	struct origin origin;
	bool has = origin_of(layer, lowerfd, "", &origin);
	bool is_followed = !core->keeps_numbers || (!origin_is_foreign(layer, lowerfd, "") &&
						    origintable_is_followed(core, layer));

	if (origintable_is_for(core, mode) && is_followed)
		return has ? origintable_set(core, fd, &origin) : 0;
	size_t size = has ? origin_encode(&origin, value) : 0;
	int r = origintable_is_for(core, mode) ?
			0 :
			upper_setxattr(fd, core_key(core, XATTR_ORIGIN), value, size, 0);

	/* No attributes: no identity then. */
	if (r == -EOPNOTSUPP || r == -EPERM)
		r = 0;
	if (r < 0 || is_followed || S_ISDIR(mode))
		return r;
	return origintable_set_number(core, fd, layer, lowerfd);
}

int origin_copy(struct core *core, int from, int to)
{
	uint8_t value[ORIGIN_SIZE_MAX];
	ssize_t size = sys_getxattr(from, core_key(core, XATTR_ORIGIN), value, sizeof(value));

	int r = size < 0 ? (int)size :
			   upper_setxattr(to, core_key(core, XATTR_ORIGIN), value, (size_t)size, 0);

	if (r == -ENODATA)
		r = 0;
	return r == 0 && core->keeps_numbers ? origintable_copy(core, from, to) : r;
}
