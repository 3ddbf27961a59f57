/* SPDX-License-Identifier: MIT */
/* The data file of a node. */
#include "core/datafd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "core/place.h"
#include "core/probe.h"
#include "core/upper.h"
#include "core/verity.h"
#include "sys/file.h"
#include "sys/xattr.h"

struct datafd *datafd_new(struct core *core, int fd, const struct statx *st, bool is_upper,
			  bool is_writable)
{
	struct datafd *data = malloc(sizeof(*data));

	if (!data) {
		close(fd);
		return NULL;
	}
	atomic_init(&data->refs, 1);
	atomic_init(&data->is_synced, false);
	data->is_upper = is_upper;
	data->is_writable = is_writable;
	data->ino = st->stx_ino;
	data->btime = st->stx_btime;
	fdslot_init(&data->slot);
	fdslot_install(&core->fds, &data->slot, fd);
	/*
	 * Without CAP_DAC_OVERRIDE a file may refuse to be opened again (mode 0444, say): then
	 * the descriptor is kept as long as the file is open.
	 */
	data->is_kept = !core->can_override;
	if (!data->is_kept)
		fdslot_unpin(&data->slot);
	return data;
}

void datafd_unref(struct core *core, struct datafd *data)
{
	if (atomic_fetch_sub_explicit(&data->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (data->is_kept)
		fdslot_unpin(&data->slot);
	fdslot_close(&core->fds, &data->slot);
	free(data);
}

/* The node's data file from now on; what nobody has open is left to the cache. Node lock. */
static void datafd_install_locked(struct node_file *file, struct datafd *data)
{
	if (data && data->is_kept && file->opens == 0) {
		data->is_kept = false;
		fdslot_unpin(&data->slot);
	}
	file->data = data;
}

static bool node_data_is_upper(const struct node *node)
{
	return node_has(node, NODE_UPPER) && !node_has(node, NODE_METACOPY);
}

/* The open data file if it fits, pinned and referenced. The node lock is held. */
static int datafd_get_locked(struct node *node, bool write, struct datafd **datap)
{
	struct datafd *data = node->file ? node->file->data : NULL;

	if (!data || data->is_upper != node_data_is_upper(node) || (write && !data->is_writable))
		return -1;
	int fd = fdslot_pin(&data->slot);

	if (fd >= 0) {
		atomic_fetch_add_explicit(&data->refs, 1, memory_order_relaxed);
		*datap = data;
	}
	return fd;
}

static bool datafd_is(const struct datafd *data, const struct statx *st)
{
	return data->ino == st->stx_ino && data->btime.tv_sec == st->stx_btime.tv_sec &&
	       data->btime.tv_nsec == st->stx_btime.tv_nsec;
}

bool datafd_may_be(struct core *core, struct node *node, const struct statx *st)
{
	bool may = true;

	node_lock(core, node);
	/* A metacopy file's data is another file. */
	if (!node_has(node, NODE_METACOPY) && node->file && node->file->data &&
	    node->file->data->is_upper == node_data_is_upper(node))
		may = datafd_is(node->file->data, st);
	node_unlock(core, node);
	return may;
}

int datafd_stat(struct core *core, struct node *node, struct statx *st)
{
	struct datafd *data;

	node_lock(core, node);
	int fd = node_has(node, NODE_METACOPY) ? -1 : datafd_get_locked(node, false, &data);

	node_unlock(core, node);
	if (fd < 0)
		return -ESTALE;
	int r = sys_stat(fd, "", st);

	datafd_release(core, data);
	return r;
}

/* The data of a lower file: what lookup left open. */
static int datafd_check_lower(struct core *core, struct node *node, const struct place *place,
			      int fd)
{
	ssize_t r = -ENODATA;

	if (place->ldir && probe_leaves_metacopy(core, place->ldir->layer))
		r = sys_getxattr(fd, core_key(core, XATTR_METACOPY), NULL, 0);
	if (r >= 0) {
		log_warning_limited("%s: metacopy without data", place->name);
		return core->metacopy ? -EIO : -EPERM;
	}
	return probe_xattr_is_absent(r) ? verity_check(core, node, fd) : (int)r;
}

/* Makes sure that what was opened is the node's file and not what somebody put in its place. */
static int datafd_check(struct core *core, struct node *node, const struct place *place, int fd,
			struct statx *st)
{
	int r = sys_stat(fd, "", st);

	if (r < 0)
		return r;
	if (!place_is_node(core, place, node, st))
		return -ESTALE;
	node_lock(core, node);
	const struct datafd *last = node->file ? node->file->data : NULL;

	/* Opened before, and closed only by the cache. */
	if (last && last->is_upper == place->is_upper && !datafd_is(last, st))
		r = -ESTALE;
	node_unlock(core, node);
	return r == 0 && !place->is_upper ? datafd_check_lower(core, node, place, fd) : r;
}

static int datafd_open_place(struct core *core, const struct place *place, bool write,
			     bool *writable)
{
	/* O_NONBLOCK: should a fifo stand in its place, opening it must not wait. */
	/* What has no name any more lies in the upper. */
	const struct layer *layer = place->ldir ? place->ldir->layer : &core->layers[0];
	bool keep_atime = core_keeps_atime(core, layer);
	const int flags = O_NONBLOCK | (keep_atime ? O_NOATIME : 0);
	int fd = -EACCES;

	*writable = place->is_upper && !core->read_only;
	if (*writable)
		fd = place_open(place, O_RDWR | flags);
	if (fd < 0 && !write) {
		*writable = false;
		fd = place_open(place, O_RDONLY | flags);
	}
	if (fd == -EPERM && keep_atime) /* O_NOATIME is for the owner only */
		fd = place_open(place, (*writable ? O_RDWR : O_RDONLY) | O_NONBLOCK);
	struct statx st;

	/* A device, a socket or a symbolic link in the file's place. */
	if (fd < 0 && place_stat(place, &st) == 0 && !S_ISREG(st.stx_mode))
		return -ESTALE;
	return fd;
}

/* Opens the data file anew; @write must be possible. */
static int datafd_open_file(struct core *core, struct node *node, bool write, struct datafd **datap)
{
	struct place place;
	struct statx st;
	bool writable;
	int r = place_hold(core, node, PLACE_DATA, &place);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = datafd_open_place(core, &place, write, &writable);

	r = fd < 0 ? fd : datafd_check(core, node, &place, fd, &st);
	bool is_upper = place.is_upper;

	place_release(core, &place);
	if (r == -ESTALE)
		node_set(node, NODE_UNSURE);
	if (r < 0)
		return r;
	*datap = datafd_new(core, fd_take(&fd), &st, is_upper, writable);
	return *datap ? 0 : -ENOMEM;
}

int datafd_acquire(struct core *core, struct node *node, bool write, struct datafd **datap)
{
	struct node_file *file = node_get_file(core, node);

	if (!file)
		return -ENOMEM;
	for (;;) {
		node_lock(core, node);
		int fd = datafd_get_locked(node, write, datap);

		node_unlock(core, node);
		if (fd >= 0)
			return fd;
		struct datafd *data, *old = NULL;
		int r = datafd_open_file(core, node, write, &data);

		if (r < 0)
			return r;
		node_lock(core, node);
		if (data->is_upper == node_data_is_upper(node)) {
			old = file->data;
			datafd_install_locked(file, data);
		} else {
			old = data; /* copied up meanwhile: once more */
		}
		node_unlock(core, node);
		if (old)
			datafd_unref(core, old);
	}
}

void datafd_release(struct core *core, struct datafd *data)
{
	fdslot_unpin(&data->slot);
	datafd_unref(core, data);
}

/* Keeps @data, which is held, open: it was opened before somebody had the file open. */
static void datafd_keep(struct core *core, struct node *node, struct datafd *data)
{
	node_lock(core, node);
	if (!core->can_override && !data->is_kept && fdslot_pin(&data->slot) >= 0)
		data->is_kept = true;
	node_unlock(core, node);
}

/* What cannot be opened is told now, and what can is kept open. */
static int datafd_open_now(struct core *core, struct node *node, bool write)
{
	struct datafd *data;
	int fd = datafd_acquire(core, node, write && node_data_is_upper(node), &data);

	if (fd < 0)
		return fd;
	datafd_keep(core, node, data);
	datafd_release(core, data);
	return 0;
}

/*
 * A file of a lower is not passed through, as its data may be another file's later; unless nothing
 * ever changes. The node lock is held.
 */
static bool datafd_may_pass_locked(const struct core *core, const struct node *node)
{
	return core->backing && (core->read_only || node_data_is_upper(node));
}

/*
 * The first who opens a file decides for all who have it open at the same time: the kernel takes
 * no mixture. One with set-id bits is not passed through, if it can be written to: only a served
 * write takes them away.
 */
static void datafd_pass_locked(struct core *core, struct node *node, int fd, mode_t mode)
{
	struct node_file *file = node->file;

	if (datafd_may_pass_locked(core, node) && file->opens == 1 && fd >= 0 &&
	    (core->read_only || !(mode & (S_ISUID | S_ISGID))))
		file->backing = core->backing->open(core->backing->context, fd);
}

/* For core_open(). */
static int datafd_backing_locked(struct core *core, struct node *node)
{
	if (node->file->backing > 0)
		return node->file->backing;
	return core->backing && node_data_is_upper(node) ? CORE_BACKING_BESIDE : 0;
}

/*
 * What to pass @node through, before it is known whether it will be: a descriptor, or -1. Not
 * open for writing: the kernel opens it anew as each caller wants it, and a file system without
 * writers can be made read-only.
 */
static int datafd_open_passed(struct core *core, struct node *node, struct statx *st)
{
	struct place place;
	bool may;

	node_lock(core, node);
	may = datafd_may_pass_locked(core, node) && node->file->opens == 0;
	node_unlock(core, node);
	if (!may || place_hold(core, node, PLACE_DATA, &place) < 0)
		return -1;
	_cleanup_close_ int fd = -1;

	/* What is read past us changes access times as the layer's mount has it. */
	if (place.is_upper || (core->read_only && place.ldir && place.ldir->layer->is_private))
		fd = place_open(&place, O_RDONLY | O_NONBLOCK);
	if (fd >= 0 && datafd_check(core, node, &place, fd, st) < 0)
		cleanup_close(&fd);
	place_release(core, &place);
	return fd_take(&fd);
}

int datafd_open(struct core *core, struct node *node, bool write, int *backing)
{
	struct node_file *file = node_get_file(core, node);
	struct statx st = { 0 };
	int r = 0;

	*backing = 0;
	if (!file)
		return -ENOMEM;
	_cleanup_close_ int fd = datafd_open_passed(core, node, &st);

	node_lock(core, node);
	while (node_has(node, NODE_WARMING))
		node_wait(core, node, 50);
	file->opens++; /* first: what is opened from here on is kept */
	file->writers += write;
	datafd_pass_locked(core, node, fd, st.stx_mode);
	*backing = datafd_backing_locked(core, node);
	node_unlock(core, node);
	if (!core->can_override || verity_must_check(core, node))
		r = datafd_open_now(core, node, write);
	if (r < 0)
		datafd_close(core, node, write);
	return r;
}

void datafd_close(struct core *core, struct node *node, bool write)
{
	struct datafd *data = NULL;
	int backing = 0;

	node_lock(core, node);
	if (node->file && write && node->file->writers > 0)
		node->file->writers--;
	if (node->file && node->file->opens > 0 && --node->file->opens == 0) {
		data = ptr_take(node->file->data);
		backing = node->file->backing;
		node->file->backing = 0;
	}
	node_unlock(core, node);
	if (backing > 0)
		core->backing->close(core->backing->context, backing);
	if (data)
		datafd_unref(core, data);
}

void datafd_adopt(struct core *core, struct node *node, struct datafd *data, mode_t mode,
		  bool is_open, int *backing)
{
	node_lock(core, node);
	node->file->opens = is_open ? 1 : 0;
	datafd_install_locked(node->file, data);
	/* Nobody closes it meanwhile: its node is not in the tables yet. */
	if (is_open && fdslot_pin(&data->slot) >= 0) {
		datafd_pass_locked(core, node, data->slot.fd, mode);
		fdslot_unpin(&data->slot);
	}
	*backing = is_open ? datafd_backing_locked(core, node) : 0;
	node_unlock(core, node);
}

void datafd_replace_locked(struct core *core, struct node *node, struct datafd *data,
			   struct datafd **old)
{
	*old = node->file ? node->file->data : NULL;
	if (node->file)
		datafd_install_locked(node->file, data);
}

int datafd_keep_orphan(struct core *core, struct node *node, int dirfd, const char *name)
{
	struct node_file *file = node_get_file(core, node);
	char temp[WORKDIR_TEMP_MAX];

	if (!file)
		return -ENOMEM;
	if (file->orphan_kept || file->orphan_name)
		return 0;
	if (atomic_fetch_add(&core->orphans, 1) < core->orphan_max) {
		int fd = sys_open(dirfd, name, O_PATH | O_NOFOLLOW, 0);

		if (fd >= 0) {
			fdslot_install(&core->fds, &file->orphan_slot, fd);
			node_lock(core, node);
			file->orphan_kept = true;
			node_unlock(core, node);
			return 0;
		}
	}
	atomic_fetch_sub(&core->orphans, 1);
	workdir_temp_name(core, temp);
	struct name *orphan = name_new(temp, strlen(temp));

	if (!orphan)
		return -ENOMEM;
	int r = *name ? upper_link(dirfd, name, core->work.fd, temp) :
			upper_link_fd(dirfd, core->work.fd, temp);

	if (r < 0)
		name_unref(orphan);
	else
		file->orphan_name = orphan;
	return r;
}

void datafd_release_orphan(struct core *core, struct node *node)
{
	node_lock(core, node);
	bool was_kept = node->file && node->file->orphan_kept;

	if (was_kept)
		node->file->orphan_kept = false;
	node_unlock(core, node);
	if (!was_kept)
		return;
	fdslot_unpin(&node->file->orphan_slot); /* from now on the cache may close it */
	atomic_fetch_sub(&core->orphans, 1);
}

void datafd_discard_orphan(struct core *core, const struct name *name)
{
	int r = upper_unlink(core->work.fd, name->text);

	if (r < 0 && r != -ENOENT)
		log_warning_limited("an unlinked file stays in the work directory as %s",
				    name->text);
}

void datafd_drop_orphan(struct core *core, struct node *node)
{
	struct node_file *file = node->file;

	if (!file)
		return;
	datafd_release_orphan(core, node);
	fdslot_close(&core->fds, &file->orphan_slot);
	if (file->orphan_name)
		datafd_discard_orphan(core, file->orphan_name);
	file->orphan_name = name_unref(file->orphan_name);
}

void datafd_renew(struct core *core, struct node *node, const struct statx *st)
{
	struct datafd *data = NULL;

	node_lock(core, node);
	bool is_open = node->file && node->file->opens > 0;

	if (node->file && node->file->data &&
	    (node_has(node, NODE_METACOPY) || !datafd_is(node->file->data, st) ||
	     node->file->data->is_upper != node_data_is_upper(node)))
		data = ptr_take(node->file->data);
	node_unlock(core, node);
	if (!data)
		return;
	datafd_unref(core, data);
	/* What may not be opened again later is now. */
	if (is_open && !core->can_override)
		datafd_open_now(core, node, true);
}
