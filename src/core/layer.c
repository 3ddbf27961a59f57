/* SPDX-License-Identifier: MIT */
/* Layers, and the directories in them. */
#include "core/layer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sys/file.h"

static struct ldir *ldir_alloc(struct layer *layer, const struct statx *st)
{
	struct ldir *ldir = calloc(1, sizeof(*ldir));

	if (!ldir)
		return NULL;
	atomic_init(&ldir->refs, 1);
	ldir->layer = layer;
	ldir->ino = st->stx_ino;
	ldir->dev = sys_stat_dev(st);
	fdslot_init(&ldir->slot);
	return ldir;
}

struct ldir *ldir_new_root(struct fdcache *fds, struct layer *layer, int fd)
{
	struct statx st;

	if (sys_stat(fd, "", &st) < 0)
		return NULL;
	struct ldir *ldir = ldir_alloc(layer, &st);

	if (ldir)
		fdslot_install(fds, &ldir->slot, fd); /* stays pinned: a root has no parent */
	return ldir;
}

struct ldir *ldir_new(struct ldir *parent, const char *name, const struct statx *st)
{
	struct ldir *ldir = ldir_alloc(parent->layer, st);

	if (!ldir)
		return NULL;
	ldir->name = name_new(name, strlen(name));
	if (!ldir->name) {
		free(ldir);
		return NULL;
	}
	ldir->parent = ldir_ref(parent);
	ldir->is_mount_point = layer_ends_at(ldir->layer, st);
	return ldir;
}

struct ldir *ldir_ref(struct ldir *ldir)
{
	atomic_fetch_add_explicit(&ldir->refs, 1, memory_order_relaxed);
	return ldir;
}

struct ldir *ldir_unref(struct fdcache *fds, struct ldir *ldir)
{
	/* A loop, not a recursion: trees may be of any depth. */
	while (ldir && atomic_fetch_sub_explicit(&ldir->refs, 1, memory_order_acq_rel) == 1) {
		struct ldir *parent = ldir->parent;

		if (!parent && atomic_load(&ldir->slot.pins) > 0)
			fdslot_unpin(&ldir->slot); /* the pin ldir_new_root() kept */
		fdslot_close(fds, &ldir->slot);
		name_unref(ldir->name);
		free(ldir);
		ldir = parent;
	}
	return NULL;
}

struct ldir *ldir_get_place(struct ldir *ldir, struct name **namep)
{
	lock_mutex_lock(&ldir->layer->places);
	struct ldir *parent = ldir->parent ? ldir_ref(ldir->parent) : NULL;

	*namep = ldir->name ? name_ref(ldir->name) : NULL;
	lock_mutex_unlock(&ldir->layer->places);
	return parent;
}

static int ldir_stat_at(const struct ldir *ldir, int dirfd, const char *name, struct statx *st)
{
	if (!ldir->is_mount_point)
		return sys_stat(dirfd, name, st);
	int r = sys_stat_local(dirfd, name, STATX_BASIC_STATS | STATX_BTIME, st);

	if (r == 0)
		st->stx_nlink = 2;
	return r;
}

/* Opens @name in @parentfd and makes sure that it still is @ldir. */
static int ldir_open_checked(const struct ldir *ldir, int parentfd, const char *name)
{
	const int flags = O_PATH | O_DIRECTORY;
	_cleanup_close_ int fd = sys_open(parentfd, name, flags, 0);

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? -ESTALE : fd;
	struct statx st;
	int r = ldir_stat_at(ldir, fd, "", &st);

	if (r < 0)
		return r;
	if (st.stx_ino != ldir->ino || sys_stat_dev(&st) != ldir->dev)
		return -ESTALE;
	return fd_take(&fd);
}

/* One step: the parent is open; opens @ldir in it and pins it. */
static int ldir_pin_below(struct fdcache *fds, struct ldir *ldir, struct ldir *parent,
			  const struct name *name)
{
	int parentfd = fdslot_pin(&parent->slot);

	if (parentfd < 0)
		return -EAGAIN; /* evicted meanwhile */
	int fd = ldir_open_checked(ldir, parentfd, name->text);

	fdslot_unpin(&parent->slot);
	return fd < 0 ? fd : fdslot_install(fds, &ldir->slot, fd);
}

/*
 * Goes up from @ldir to the nearest ancestor whose child can be opened, and opens that child,
 * unpinned.  Returns 0 when some progress was made.
 */
static int ldir_open_nearest(struct fdcache *fds, struct ldir *ldir)
{
	struct ldir *at = ldir_ref(ldir);
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		struct name *name;
		struct ldir *parent = ldir_get_place(at, &name);

		if (!parent) { /* a root is always open */
			r = 0;
		} else {
			r = ldir_pin_below(fds, at, parent, name);
			if (r >= 0)
				fdslot_unpin(&at->slot);
		}
		name_unref(name);
		ldir_unref(fds, at);
		at = parent;
	}
	ldir_unref(fds, at);
	return r < 0 ? r : 0;
}

int ldir_pin(struct fdcache *fds, struct ldir *ldir)
{
	/*
	 * Each failed place is looked at again a few times: a rename may move an ancestor
	 * between reading its place and opening it.
	 */
	int tries = 3;

	if (ldir->is_mount_point)
		return -ENODATA;
	for (;;) {
		int fd = fdslot_pin(&ldir->slot);

		if (fd >= 0)
			return fd;
		int r = ldir_open_nearest(fds, ldir);

		if (r == -ESTALE && tries-- > 0)
			continue;
		if (r < 0)
			return r;
	}
}

void ldir_unpin(struct ldir *ldir)
{
	fdslot_unpin(&ldir->slot);
}

int ldir_stat(struct fdcache *fds, struct ldir *ldir, struct statx *st)
{
	int fd = fdslot_pin(&ldir->slot);

	if (fd >= 0) {
		int r = ldir_stat_at(ldir, fd, "", st);

		fdslot_unpin(&ldir->slot);
		return r;
	}
	struct name *name;
	struct ldir *parent = ldir_get_place(ldir, &name);
	int r = parent ? ldir_pin(fds, parent) : -ESTALE;

	if (r >= 0) {
		r = ldir_stat_at(ldir, r, name->text, st);
		ldir_unpin(parent);
	}
	name_unref(name);
	ldir_unref(fds, parent);
	if (r == -ENOENT ||
	    (r == 0 && (st->stx_ino != ldir->ino || sys_stat_dev(st) != ldir->dev))) {
		/* Moved meanwhile, or changed underneath: the slow way tells which. */
		r = ldir_pin(fds, ldir);
		if (r < 0)
			return r;
		r = ldir_stat_at(ldir, r, "", st);
		ldir_unpin(ldir);
	}
	return r;
}

int ldir_open(struct fdcache *fds, struct ldir *ldir)
{
	int fd = ldir_pin(fds, ldir);

	if (fd < 0)
		return fd;
	int r = sys_reopen(fd, O_RDONLY | O_DIRECTORY);

	ldir_unpin(ldir);
	return r;
}

void ldir_move(struct fdcache *fds, struct ldir *ldir, struct ldir *parent, struct name *name)
{
	lock_mutex_lock(&ldir->layer->places);
	struct ldir *old_parent = ldir->parent;
	struct name *old_name = ldir->name;

	ldir->parent = ldir_ref(parent);
	ldir->name = name;
	lock_mutex_unlock(&ldir->layer->places);
	ldir_unref(fds, old_parent);
	name_unref(old_name);
}
