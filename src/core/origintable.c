/* SPDX-License-Identifier: MIT */
/* Origins of objects that cannot carry the attribute. */
#include "core/origintable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/origin.h"
#include "core/upper.h"
#include "sys/file.h"

#define ORIGINTABLE_DIR "origin"

/* An entry for an object without a handle: the layer, the device if it is not the layer's, the
 * inode number. */
#define ORIGINTABLE_NUMBER "number-%u-%" PRIx64 "-%" PRIx64
#define ORIGINTABLE_NUMBER_SCAN "number-%u-%" SCNx64 "-%" SCNx64
#define ORIGINTABLE_NUMBER_MAX 64

/* ---- the directory ---- */

static int origintable_open(struct core *core)
{
	_cleanup_close_ int fd =
		sys_open(core->work.base_fd, ORIGINTABLE_DIR, O_PATH | O_DIRECTORY, 0);
	int none = -1;
	/* The one who used it last may have had more rights, or fewer. */
	int r = fd < 0 ? fd : core->read_only ? 0 : upper_chmod(fd, workdir_mode(core));

	if (r == 0 && atomic_compare_exchange_strong(&core->origins_fd, &none, fd))
		fd_take(&fd); /* else another thread was faster */
	return r;
}

int origintable_init(struct core *core)
{
	int r = origintable_open(core);

	return r == -ENOENT || core->read_only ? 0 : r;
}

void origintable_deinit(struct core *core)
{
	int fd = atomic_exchange(&core->origins_fd, -1);

	if (fd >= 0)
		close(fd);
}

static int origintable_make(struct core *core)
{
	if (atomic_load(&core->origins_fd) >= 0)
		return 0;
	int r = upper_mkdir(core->work.base_fd, ORIGINTABLE_DIR, 0700);

	return r < 0 && r != -EEXIST ? r : origintable_open(core);
}

/* ---- entries ---- */

bool origintable_is_for(const struct core *core, mode_t mode)
{
	return core->ns == XATTR_USER && !S_ISREG(mode) && !S_ISDIR(mode);
}

/* The name of the entry of @name in @dirfd ("" for @dirfd itself). False: it cannot have one. */
static bool origintable_name(const struct core *core, int dirfd, const char *name,
			     struct origintable_entry *entry)
{
	struct origin self;

	if (!origin_of(&core->layers[0], dirfd, name, &self))
		return false;
	/* All are of one file system, which may not always say its UUID. */
	memset(self.uuid, 0, sizeof(self.uuid));
	size_t length = origin_index_name(&self, entry->name);

	return length > 0 && length <= NAME_MAX;
}

static int origintable_put(struct core *core, int fd, const char *value)
{
	struct origintable_entry entry;

	if (!origintable_name(core, fd, "", &entry))
		return 0;
	int r = origintable_make(core);

	if (r == 0)
		r = upper_symlink(value, core->origins_fd, entry.name);
	if (r != -EEXIST)
		return r;
	/* Of an object that is gone, on a file system whose handles come again after all. */
	r = upper_unlink(core->origins_fd, entry.name);
	return r < 0 ? r : upper_symlink(value, core->origins_fd, entry.name);
}

static bool origintable_read(struct core *core, int dirfd, const char *name,
			     char value[ORIGIN_INDEX_NAME_MAX + 1])
{
	struct origintable_entry entry;
	int fd = atomic_load(&core->origins_fd);

	if (fd < 0 || !origintable_name(core, dirfd, name, &entry))
		return false;
	ssize_t size = sys_readlink(fd, entry.name, value, ORIGIN_INDEX_NAME_MAX);

	if (size < 0)
		return false;
	value[size] = '\0';
	return true;
}

int origintable_set(struct core *core, int fd, const struct origin *origin)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];

	return origin_index_name(origin, value) ? origintable_put(core, fd, value) : 0;
}

bool origintable_get(struct core *core, int dirfd, const char *name, struct origin *origin)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];

	return origintable_read(core, dirfd, name, value) && origin_from_index_name(value, origin);
}

int origintable_copy(struct core *core, int from, int to)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];

	return origintable_read(core, from, "", value) ? origintable_put(core, to, value) : 0;
}

/* ---- layers without handles that can be followed ---- */

bool origintable_is_followed(const struct core *core, const struct layer *layer)
{
	struct origin root;
	uint64_t ino;

	/* Without a UUID a handle may be of any of several lowers. */
	if (!layer->has_uuid || !origin_of(layer, layer->fd, "", &root))
		return false;
	return core->can_open_handles || origin_inode(&root, layer->magic, &ino);
}

/* Lowers are counted from below, so that one more on top changes nothing. */
static unsigned int origintable_position(const struct core *core, const struct layer *layer)
{
	return core->layer_count - core->data_count - (unsigned int)(layer - core->layers);
}

int origintable_set_number(struct core *core, int fd, const struct layer *layer, int lowerfd)
{
	char value[ORIGINTABLE_NUMBER_MAX];
	struct statx st;
	int r = sys_stat(lowerfd, "", &st);

	if (r < 0)
		return r;
	dev_t dev = sys_stat_dev(&st);

	/* The number of a device may be another one at the next mount: that of the layer is known. */
	snprintf(value, sizeof(value), ORIGINTABLE_NUMBER, origintable_position(core, layer),
		 dev == layer->dev ? 0 : (uint64_t)dev, (uint64_t)st.stx_ino);
	return origintable_put(core, fd, value);
}

bool origintable_get_number(struct core *core, int dirfd, const char *name, dev_t *dev,
			    uint64_t *ino)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];
	unsigned int position, lowers = core->layer_count - core->data_count;
	uint64_t device, number;

	if (!origintable_read(core, dirfd, name, value) ||
	    sscanf(value, ORIGINTABLE_NUMBER_SCAN, &position, &device, &number) != 3)
		return false;
	if (position == 0 || position > lowers - (core->has_upper ? 1 : 0))
		return false;
	*dev = device ? (dev_t)device : core->layers[lowers - position].dev;
	*ino = number;
	return true;
}

/* ---- the end of an entry ---- */

void origintable_note(struct core *core, mode_t mode, int dirfd, const char *name,
		      struct origintable_entry *entry)
{
	struct statx st;

	entry->name[0] = '\0';
	if (S_ISDIR(mode) || atomic_load(&core->origins_fd) < 0 ||
	    (S_ISREG(mode) && !core->keeps_numbers))
		return;
	if (sys_stat(dirfd, name, &st) < 0 || st.stx_nlink != 1 ||
	    !origintable_name(core, dirfd, name, entry))
		entry->name[0] = '\0';
}

void origintable_drop(struct core *core, const struct origintable_entry *entry)
{
	int r = entry->name[0] ? upper_unlink(atomic_load(&core->origins_fd), entry->name) : 0;

	if (r < 0 && r != -ENOENT)
		log_warning_limited("origin entry %s stays: %s", entry->name, strerror(-r));
}
