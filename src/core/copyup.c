/* SPDX-License-Identifier: MIT */
/*
 * Copy-up.  A copy is prepared in the work directory and published by one
 * rename, so that a crash leaves the old object or the new one.  docs/crash.md
 * has the steps; docs/locking.md says why no rename can come between.
 */
#include "core/copyup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/clone.h"
#include "core/copyup_make.h"
#include "core/datafd.h"
#include "core/index.h"
#include "core/lookup.h"
#include "core/mark.h"
#include "core/origintable.h"
#include "core/owner.h"
#include "core/place.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "core/verity.h"
#include "core/watch.h"
#include "sys/file.h"

static bool node_satisfies(const struct node *node, enum copyup_what what)
{
	return node_has(node, NODE_UPPER) &&
	       (what == COPYUP_META || !node_has(node, NODE_METACOPY));
}

int copyup_mark_impure(struct core *core, struct node *dir)
{
	if (lookup_is_impure(core, dir))
		return 0;
	int fd = ldir_pin(&core->fds, dir->dir->upper);

	if (fd < 0)
		return fd;
	int r = upper_setxattr(fd, core_key(core, XATTR_IMPURE), "y", 1, 0);

	ldir_unpin(dir->dir->upper);
	if (r == 0)
		atomic_store(&dir->dir->impure, true);
	return r == -EOPNOTSUPP ? 0 : r; /* then there is no origin in it either */
}

/* ---- publishing ---- */

/* Over what the node was in the upper. */
static int copyup_move_over(struct copyup *c, int fd, const char *name)
{
	struct origintable_entry origin;
	struct statx there;
	int r = sys_stat(fd, name, &there);

	if (r < 0)
		return r;
	if (there.stx_ino != c->node->upper_ino)
		return -ESTALE;
	origintable_note(c->core, there.stx_mode, fd, name, &origin);
	r = upper_rename(c->core->work.fd, c->temp, fd, name, 0);
	if (r == 0)
		origintable_drop(c->core, &origin);
	return r;
}

/* To @name in the upper directory @fd, which nobody else may have written into. */
static int copyup_move(struct copyup *c, int fd, const char *name)
{
	int r = c->replaces ? copyup_move_over(c, fd, name) :
			      upper_rename(c->core->work.fd, c->temp, fd, name, RENAME_NOREPLACE);

	return r == -EEXIST || r == -ENOENT ? -ESTALE : r;
}

/* Moves the copy to its name. The parent's lock is held for writing. */
static int copyup_rename(struct copyup *c, struct node *parent, const char *name)
{
	struct core *core = c->core;
	struct quiet quiet;
	int fd = ldir_pin(&core->fds, parent->dir->upper);

	if (fd < 0)
		return fd;
	int r = quiet_begin(core, parent, fd, &quiet);

	if (r == 0) {
		r = copyup_mark_impure(core, parent);
		if (r == 0)
			r = copyup_move(c, fd, name);
		if (r == 0)
			c->made = false;
		if (quiet_end(core, &quiet, r == 0) < 0)
			log_warning_limited("%s: the directory's times changed by a copy-up", name);
	}
	ldir_unpin(parent->dir->upper);
	return r;
}

/* Only the metadata goes up: where the data stays is remembered, whatever becomes of the name. */
static int copyup_keep_data(struct copyup *c, const char *name)
{
	struct node *node = c->node;
	struct node_file *file = node->file;

	if (node_has(node, NODE_METACOPY))
		return 0; /* it was one in the lower already, maybe without any data */
	if (file->data_dir)
		return 0; /* a copy that could not be published */
	file->data_name = node->lower_name ? name_ref(node->lower_name) :
					     name_new(name, strlen(name));
	if (!file->data_name)
		return -ENOMEM;
	file->data_dir = ldir_ref(node->lower_dir);
	file->data_ino = c->st.stx_ino;
	return 0;
}

static int copyup_enter_index(struct copyup *c)
{
	int r = index_publish(c->core, c->node, c->temp);

	if (r == 0)
		c->made = false;
	return r;
}

/*
 * Without an index the copy of one of several names is a file of its own, so it cannot keep the
 * number that the others go on having: 0, or the new number.
 */
static uint64_t copyup_new_ino(const struct copyup *c, const struct statx *copy)
{
	if (node_is_dir(c->node) || c->st.stx_nlink == 1 || node_has(c->node, NODE_INDEXED))
		return 0;
	return ident_ino(&c->core->ident, sys_stat_dev(copy), copy->stx_ino);
}

/* From now on the node's object is the copy. The parent's lock is held for writing. */
static int copyup_settle(struct copyup *c, struct node *parent, const char *name)
{
	struct core *core = c->core;
	struct node *node = c->node;
	struct ldir *upper = NULL;
	struct datafd *data = NULL, *old = NULL;
	struct statx st;
	int r = sys_stat(c->fd, "", &st);

	if (r < 0)
		return r;
	owner_note(core, node, c->fd, "");
	if (node_is_dir(node)) {
		upper = ldir_new(parent ? parent->dir->upper : core->work.dir, name, &st);
		if (!upper)
			return -ENOMEM;
	} else if (c->meta_only) {
		r = copyup_keep_data(c, name);
		if (r < 0)
			return r;
	} else if (S_ISREG(node->type) && node->file) {
		data = datafd_new(core, fd_take(&c->fd), &st, true, true);
		if (!data)
			return -ENOMEM;
	}
	if (parent)
		r = copyup_rename(c, parent, name);
	else if (node_has(node, NODE_INDEXED))
		r = copyup_enter_index(c);
	if (r < 0) {
		ldir_unref(&core->fds, upper);
		if (data)
			datafd_unref(core, data);
		return r;
	}
	uint64_t ino = copyup_new_ino(c, &st);

	if (upper && !parent) { /* it stays in the work directory */
		node->dir->stored = true;
		c->made = false;
	}
	node_lock(core, node);
	node->upper_ino = st.stx_ino;
	if (ino)
		node->ino = ino;
	if (upper) {
		node->dir->upper = upper;
		atomic_fetch_add(&node->dir->version, 1); /* it is listed another way now */
		watch_dir_again(node);
	}
	if (data)
		datafd_replace_locked(core, node, data, &old);
	if (c->meta_only) {
		free(node->file->digest);
		node->file->digest = ptr_take(c->digest);
	} else {
		node_clear(node, NODE_METACOPY);
	}
	node_set(node, c->meta_only ? NODE_UPPER | NODE_METACOPY : NODE_UPPER);
	node_unlock(core, node);
	if (parent) /* a listing takes inode numbers from where the parts lie */
		atomic_fetch_add(&parent->dir->version, 1);
	if (old)
		datafd_unref(core, old);
	return 0;
}

/* The node lost its name: the copy lives on without one, as an orphan. */
static int copyup_settle_orphan(struct copyup *c)
{
	if (node_is_dir(c->node))
		return copyup_settle(c, NULL, c->temp);
	int r = datafd_keep_orphan(c->core, c->node, c->core->work.fd, c->temp);

	if (r == 0)
		r = copyup_settle(c, NULL, NULL);
	if (r < 0) /* the copy will be discarded, so nothing may lead to it */
		datafd_release_orphan(c->core, c->node);
	return r;
}

/*
 * The node's place, with its directory's lock held for writing: it may have been renamed or
 * removed since we looked.  (A rename copies up first, so it waits for us; docs/locking.md.)
 */
static struct link *copyup_lock_place(struct core *core, struct node *node, struct node **parentp)
{
	for (;;) {
		struct node *parent = node_get_parent(core, node);

		*parentp = parent;
		if (!parent)
			return NULL;
		lock_rw_write(&parent->dir->lock);
		node_lock(core, node);
		struct link *link = node->links;
		bool same = link && link->parent == parent;

		node_unlock(core, node);
		if (same)
			return link;
		lock_rw_write_unlock(&parent->dir->lock);
		node_unref(core, parent);
	}
}

static int copyup_sync_parent(struct core *core, struct node *parent)
{
	int fd = ldir_pin(&core->fds, parent->dir->upper);

	if (fd < 0)
		return fd;
	int r = clone_sync_dir(fd);

	ldir_unpin(parent->dir->upper);
	return r;
}

/* One copy for all names of the file: none of their directories takes part. */
static int copyup_publish_index(struct copyup *c)
{
	struct core *core = c->core;
	struct statx st;
	int r = sys_stat(c->fd, "", &st);

	if (r == 0)
		r = index_prepare(core, c->node, c->fd);
	if (r < 0)
		return r;
	/* Before it can be found in the index: who does must find the node. */
	struct node *first = node_add_identity(core, c->node, sys_stat_dev(&st), st.stx_ino);

	if (!ENSURE(first == c->node)) {
		node_unref(core, first);
		return -EIO;
	}
	r = copyup_settle(c, NULL, c->node->lower_name->text);
	if (r < 0)
		node_remove_identity(core, c->node, sys_stat_dev(&st), st.stx_ino);
	else if (core->fsync == CORE_FSYNC_STRICT)
		r = clone_sync_dir(core->index->slot.fd);
	return r;
}

static int copyup_publish(struct copyup *c)
{
	if (node_has(c->node, NODE_INDEXED))
		return copyup_publish_index(c);
	struct node *parent;
	struct link *link = copyup_lock_place(c->core, c->node, &parent);

	if (!link)
		return c->replaces ? -ESTALE : copyup_settle_orphan(c);
	int r = parent->dir->upper ? copyup_settle(c, parent, link->name) : -ESTALE;

	if (r == 0 && c->core->fsync == CORE_FSYNC_STRICT)
		r = copyup_sync_parent(c->core, parent);
	lock_rw_write_unlock(&parent->dir->lock);
	node_unref(c->core, parent);
	return r;
}

/* ---- data of a metacopy file ---- */

/* The data, and the size, times and privileges that go with it. */
static int copyup_fill_file(struct copyup *c, int fd, const struct clone_privileges *privileges)
{
	int r = copyup_data(c, fd);

	if (r == 0)
		r = upper_truncate(fd, c->st.stx_size < c->limit ? c->st.stx_size : c->limit);
	if (r == 0) {
		quiet_present_birth(c->core, c->node, &c->st);
		quiet_keep(c->core, fd, &c->st);
		r = clone_restore(fd, &c->st, privileges);
	}
	if (r == 0 && c->core->fsync != CORE_FSYNC_VOLATILE)
		r = upper_fsync(fd, false);
	return r < 0 ? r : mark_remove(c->core, fd, XATTR_METACOPY);
}

/*
 * The data did not come: the file is as it was, and takes no room for the part that did. Some file
 * systems need room to give room back; then there is no more than to set what can be set.
 */
static void copyup_unfill(int fd, const struct statx *before,
			  const struct clone_privileges *privileges)
{
	struct statx now;
	int punched = before->stx_size ?
			      upper_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					      before->stx_size) :
			      0;
	int r = sys_stat(fd, "", &now);

	if (r == 0 && now.stx_size != before->stx_size)
		r = upper_truncate(fd, before->stx_size);
	if (r == 0)
		r = clone_restore(fd, before, privileges);
	if (r < 0 || punched < 0)
		log_warning_limited("a copy-up that failed left traces: %s",
				    strerror(r < 0 ? -r : -punched));
}

/*
 * The file is in the upper, its data is not: copied into it in place. Until the metacopy
 * attribute is gone nobody reads it there, so a crash on the way changes nothing.
 */
static int copyup_fill(struct copyup *c)
{
	struct core *core = c->core;
	struct datafd *data, *old = NULL;
	struct clone_privileges privileges;
	struct statx before;
	_cleanup_close_ int fd = sys_reopen(c->source, O_RDWR | O_NONBLOCK);

	if (fd < 0)
		return fd;
	int r = sys_stat(fd, "", &before);

	if (r == 0)
		r = clone_save(c->source, &privileges);
	if (r < 0)
		return r;
	r = copyup_fill_file(c, fd, &privileges);
	if (r < 0)
		copyup_unfill(fd, &before, &privileges);
	clone_privileges_deinit(&privileges);
	if (r < 0)
		return r;
	data = c->node->file ? datafd_new(core, fd_take(&fd), &c->st, true, true) : NULL;
	node_lock(core, c->node);
	datafd_replace_locked(core, c->node, data, &old);
	node_clear(c->node, NODE_METACOPY);
	node_unlock(core, c->node);
	if (old)
		datafd_unref(core, old);
	return 0;
}

/*
 * Without its metacopy attribute the file must have its new size, with it the old one: no crash
 * may come between the two. A copy that loses data is made apart, therefore, and takes the place
 * of the file. That no change of the file is lost by it is the kernel's work, which holds the
 * inode's lock while it asks for a truncation. A file with several names must stay itself, though.
 */
static bool copyup_must_replace(struct copyup *c)
{
	struct node *node = c->node;

	if (!node_has(node, NODE_UPPER) || node_has(node, NODE_INDEXED) ||
	    c->limit >= c->st.stx_size || c->st.stx_nlink != 1)
		return false;
	/* Its number is the upper file's own, which another file would not have. */
	if (node->ino == ident_ino(&c->core->ident, c->core->layers[0].dev, node->upper_ino))
		return false;
	node_lock(c->core, node);
	bool is_named = node->links;

	node_unlock(c->core, node);
	return is_named;
}

/* ---- one node ---- */

/*
 * With verity=: data that is not what it must be is not copied, nor given new attributes; and a
 * file without data has the digest of the data, where one is required of it.
 */
static int copyup_take_digest(struct copyup *c)
{
	struct core *core = c->core;
	struct datafd *data;

	if (core->verity == CORE_VERITY_OFF || (!c->meta_only && !verity_must_check(core, c->node)))
		return 0;
	int fd = datafd_acquire(core, c->node, false, &data);

	if (fd < 0)
		return fd;
	int r = c->meta_only ? verity_measure(core, fd, &c->metacopy) : 0;

	datafd_release(core, data);
	if (r == -ENODATA) {
		c->meta_only = false;
		r = 0;
	}
	return r < 0 ? r : verity_copy_digest(core, &c->metacopy, &c->digest);
}

static int copyup_perform(struct copyup *c)
{
	int r = copyup_open_source(c);

	if (r < 0)
		return r;
	if (c->meta_only && (c->st.stx_size == 0 || !node_get_file(c->core, c->node)))
		c->meta_only = false; /* nothing to save */
	r = copyup_take_digest(c);
	if (r < 0)
		return r;
	c->replaces = copyup_must_replace(c);
	if (c->replaces)
		quiet_present_birth(c->core, c->node, &c->st);
	if (node_has(c->node, NODE_UPPER) && !c->replaces)
		return copyup_fill(c);
	if (!c->layer && !c->replaces)
		return -ESTALE;
	r = copyup_make(c);
	if (r == 0)
		r = copyup_attributes(c);
	if (r == 0)
		r = copyup_sync(c);
	return r < 0 ? r : copyup_publish(c);
}

static void copyup_discard(struct copyup *c)
{
	struct origintable_entry origin;

	/* First, as the next mount does not find the entry without the object. */
	origintable_note(c->core, c->node->type, c->core->work.fd, c->temp, &origin);
	origintable_drop(c->core, &origin);
	workdir_discard(c->core, c->temp);
}

static int copyup_run(struct core *core, const struct core_call *call, struct node *node,
		      enum copyup_what what, uint64_t limit)
{
	struct copyup c = {
		.core = core,
		.call = call,
		.node = node,
		.limit = limit,
		.meta_only = what == COPYUP_META && core->metacopy_write && S_ISREG(node->type),
		.source = -1,
		.fd = -1,
	};

	progress_enter(&core->progress, &c.progress, node);
	int r = copyup_perform(&c);

	progress_leave(&c.progress, r);
	free(c.digest);
	if (c.made)
		copyup_discard(&c);
	if (c.fd >= 0)
		close(c.fd);
	if (c.source >= 0)
		close(c.source);
	return r;
}

/* Makes this thread the one that copies; 1 if the work is done already, or -EINTR. */
static int copyup_begin(struct core *core, const struct core_call *call, struct node *node,
			enum copyup_what what)
{
	int r = 0;

	node_lock(core, node);
	while (r == 0 && !node_satisfies(node, what) &&
	       (node_has(node, NODE_COPYING) || node_has(node, NODE_WARMING))) {
		if (copyup_call_is_interrupted(call))
			r = -EINTR;
		else
			node_wait(core, node, 50);
	}
	if (r == 0 && node_satisfies(node, what))
		r = 1;
	if (r == 0)
		node_set(node, NODE_COPYING);
	node_unlock(core, node);
	return r;
}

static int copyup_one(struct core *core, const struct core_call *call, struct node *node,
		      enum copyup_what what, uint64_t limit)
{
	int r = copyup_begin(core, call, node, what);

	if (r != 0)
		return r < 0 ? r : 0;
	r = copyup_run(core, call, node, what, limit);
	node_lock(core, node);
	node_clear(node, NODE_COPYING);
	node_wake(core, node);
	node_unlock(core, node);
	return r;
}

/* The topmost directory above @node that is not in the upper yet, with a reference, or NULL. */
static struct node *copyup_next_parent(struct core *core, struct node *node)
{
	struct node *at = node_get_parent(core, node), *missing = NULL;

	while (at) {
		if (!node_has(at, NODE_UPPER)) {
			if (missing)
				node_unref(core, missing);
			missing = node_ref(at);
		}
		struct node *parent = node_get_parent(core, at);

		node_unref(core, at);
		at = parent;
		/* What is in the upper lies in a directory that is in the upper. */
		if (at && missing && node_has(at, NODE_UPPER))
			at = node_unref(core, at);
	}
	return missing;
}

/* Gives a file that went to the index the name it was reached by. */
static int copyup_link_up(struct core *core, struct node *node)
{
	int r = index_link_up(core, node);
	struct node *parent =
		r == 0 && core->fsync == CORE_FSYNC_STRICT ? node_get_parent(core, node) : NULL;

	if (!parent)
		return r;
	r = copyup_sync_parent(core, parent);
	node_unref(core, parent);
	return r;
}

static int copyup_ensure(struct core *core, const struct core_call *call, struct node *node,
			 enum copyup_what what, uint64_t limit)
{
	int r = 0;

	if (node_satisfies(node, what))
		return 0;
	if (core_refuses_changes(core))
		return -EROFS;
	bool link_up = node_has(node, NODE_INDEXED) && !node_has(node, NODE_UPPER);

	while (r == 0 && !node_has(node, NODE_UPPER)) {
		struct node *parent = copyup_next_parent(core, node);

		if (!parent)
			break;
		r = copyup_one(core, call, parent, COPYUP_META, UINT64_MAX);
		node_unref(core, parent);
	}
	if (r == 0)
		r = copyup_one(core, call, node, what, limit);
	return r == 0 && link_up ? copyup_link_up(core, node) : r;
}

int copyup_node(struct core *core, const struct core_call *call, struct node *node,
		enum copyup_what what)
{
	return copyup_ensure(core, call, node, what, UINT64_MAX);
}

int copyup_truncated(struct core *core, const struct core_call *call, struct node *node,
		     uint64_t size)
{
	return copyup_ensure(core, call, node, COPYUP_DATA, size);
}
