/* SPDX-License-Identifier: MIT */
/* Origins of objects that cannot carry the attribute. */
#include "core/origintable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/origin.h"
#include "core/upper.h"
#include "sys/file.h"

#define ORIGINTABLE_DIR "origin"

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

static bool origintable_has_attributes(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode);
}

bool origintable_is_for(const struct core *core, mode_t mode)
{
	return core->ns == XATTR_USER && !origintable_has_attributes(mode);
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

int origintable_set(struct core *core, int fd, const struct origin *origin)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];
	struct origintable_entry entry;

	if (!origin_index_name(origin, value) || !origintable_name(core, fd, "", &entry))
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

bool origintable_get(struct core *core, int dirfd, const char *name, struct origin *origin)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];
	struct origintable_entry entry;
	int fd = atomic_load(&core->origins_fd);

	if (fd < 0 || !origintable_name(core, dirfd, name, &entry))
		return false;
	ssize_t size = sys_readlink(fd, entry.name, value, sizeof(value) - 1);

	if (size < 0)
		return false;
	value[size] = '\0';
	return origin_from_index_name(value, origin);
}

void origintable_note(struct core *core, mode_t mode, int dirfd, const char *name,
		      struct origintable_entry *entry)
{
	struct statx st;

	entry->name[0] = '\0';
	if (origintable_has_attributes(mode) || atomic_load(&core->origins_fd) < 0)
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
