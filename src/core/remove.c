/* SPDX-License-Identifier: MIT */
/*
 * Taking names away.  What a lower has under a name is hidden by a whiteout,
 * put in place in the same step that takes the upper's object away.
 */
#include "core/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/attr.h"
#include "core/clone.h"
#include "core/copyup.h"
#include "core/datafd.h"
#include "core/index.h"
#include "core/listing.h"
#include "core/lookup.h"
#include "core/lowernames.h"
#include "core/origintable.h"
#include "core/upper.h"
#include "sys/file.h"

/* ---- the node that loses its name ---- */

/*
 * Says whether the link named by @target is about to go. Returns true if it is the last one then,
 * but for others that are about to: those may go at the same time, in other directories.
 */
static bool node_mark_link(struct core *core, struct node *node, const struct target *target,
			   bool leaves)
{
	bool last = true;

	node_lock(core, node);
	for (struct link *link = node->links; link; link = link->next) {
		if (link->parent == target->dir && strcmp(link->name, target->name) == 0)
			link->leaves = leaves;
		last &= link->leaves;
	}
	node_unlock(core, node);
	return last;
}

int remove_keep_lower(struct core *core, struct node *node, const char *name)
{
	if (!node->lower_dir || node->lower_name)
		return 0;
	struct name *kept = name_new(name, strlen(name));

	if (!kept)
		return -ENOMEM;
	node_lock(core, node);
	node->lower_name = kept;
	node_unlock(core, node);
	return 0;
}

int remove_keep_dir(struct core *core, struct node_dir *dir)
{
	if (!dir->upper || dir->pinned)
		return 0;
	int fd = ldir_pin(&core->fds, dir->upper);

	if (fd < 0)
		return fd;
	dir->pinned = true;
	atomic_fetch_add(&core->orphans, 1);
	return 0;
}

void remove_unkeep_dir(struct core *core, struct node_dir *dir)
{
	if (!dir->pinned)
		return;
	dir->pinned = false;
	ldir_unpin(dir->upper);
	atomic_fetch_sub(&core->orphans, 1);
}

int remove_keep(struct core *core, struct node *node, const struct target *target)
{
	if (node_is_dir(node))
		return remove_keep_dir(core, node->dir);
	if (node_has(node, NODE_INDEXED))
		return 0; /* it has its entry, and index_end() keeps what loses that */
	int r = remove_keep_lower(core, node, target->name);

	/* Somebody may have it open without our knowing: remove_note_time() needs a place. */
	if (r == 0 && core->no_open && !node_get_file(core, node))
		r = -ENOMEM;
	if (r == 0 && node_has(node, NODE_UPPER) && node_mark_link(core, node, target, true))
		r = datafd_keep_orphan(core, node, target->fd, target->name);
	return r;
}

/* Losing its last name changes a file; one that lies in a lower cannot be told. */
static void remove_note_time(struct node *node)
{
	struct timespec now;

	if (node_is_dir(node) || !node->file || node_has(node, NODE_UPPER))
		return;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	node->file->removed = (struct statx_timestamp){
		.tv_sec = now.tv_sec,
		.tv_nsec = (uint32_t)now.tv_nsec,
	};
}

void remove_unkeep(struct core *core, struct node *node, const struct target *target)
{
	if (node_is_dir(node))
		remove_unkeep_dir(core, node->dir);
	else
		node_mark_link(core, node, target, false);
}

/* True if too many removed objects keep a descriptor: this directory must do without. */
static bool remove_must_store(struct core *core, const struct node *node)
{
	return node_is_dir(node) && node->dir->pinned &&
	       atomic_load(&core->orphans) > core->orphan_max;
}

/* Whiteouts that go with the directory are no change of it to those who have it open. */
static void remove_discard(struct core *core, struct node *node, const char *temp)
{
	struct ldir *upper = node->dir->upper;
	int fd = upper ? ldir_pin(&core->fds, upper) : -EBADF;
	struct statx before;
	int r = fd < 0 ? fd : sys_stat(fd, "", &before);

	workdir_discard(core, temp);
	if (r == 0)
		clone_stat_times(fd, &before);
	if (fd >= 0)
		ldir_unpin(upper);
}

/* The node's directory was moved to @temp in the work directory, where it stays or goes. */
static void remove_store(struct core *core, struct node *node, const char *temp)
{
	struct node_dir *dir = node->dir;
	struct name *name = remove_must_store(core, node) ? name_new(temp, strlen(temp)) : NULL;

	if (!name) {
		remove_discard(core, node, temp);
		return;
	}
	ldir_move(&core->fds, dir->upper, core->work.dir, name);
	dir->stored = true;
	remove_unkeep_dir(core, dir);
}

void remove_forget_name(struct core *core, struct node *node, struct node *dir, const char *name)
{
	if (node_is_dir(node))
		node->dir->dead = true;
	node_remove_name(core, node, dir, name);
	node_lock(core, node);
	if (!node->links && !(node_has(node, NODE_INDEXED) && node->file->nlink > 0)) {
		node_set(node, NODE_ORPHAN);
		remove_note_time(node);
	}
	node_unlock(core, node);
}

void remove_settle(struct core *core, struct node *node, const struct target *target)
{
	remove_forget_name(core, node, target->dir, target->name);
	target_changed(core, target->dir, node_is_dir(node) ? -1 : 0);
}

/* ---- the name on disk ---- */

/* Replaces the upper object by a whiteout, in one step. */
static int remove_by_whiteout(struct core *core, struct node *node, const struct target *target)
{
	bool is_dir = node_is_dir(node);
	char temp[WORKDIR_TEMP_MAX];

	workdir_temp_name(core, temp);
	int r = workdir_make_whiteout(core, core->work.fd, temp);

	if (r < 0)
		return r;
	r = upper_rename(core->work.fd, temp, target->fd, target->name,
			 is_dir ? RENAME_EXCHANGE : 0);
	if (r < 0)
		workdir_discard(core, temp);
	else if (is_dir) /* it is in the work directory now, with the whiteouts it may hold */
		remove_store(core, node, temp);
	return r;
}

/* Removes an upper directory that shows no names but may hold whiteouts. */
static int remove_upper_dir(struct core *core, struct node *node, const struct target *target)
{
	char temp[WORKDIR_TEMP_MAX];
	int r = remove_must_store(core, node) ? -ENOTEMPTY : upper_rmdir(target->fd, target->name);

	if (r != -ENOTEMPTY && r != -EEXIST)
		return r;
	workdir_temp_name(core, temp);
	r = upper_rename(target->fd, target->name, core->work.fd, temp, 0);
	if (r == 0)
		remove_store(core, node, temp);
	return r;
}

static int remove_name(struct core *core, struct node *node, const struct target *target)
{
	if (!node_has(node, NODE_UPPER))
		return workdir_make_whiteout(core, target->fd, target->name);
	int lower = lookup_lower_has(core, target->dir, target->name);

	if (lower < 0)
		return lower;
	if (lower)
		return remove_by_whiteout(core, node, target);
	return node_is_dir(node) ? remove_upper_dir(core, node, target) :
				   upper_unlink(target->fd, target->name);
}

/* The removed object is what we think it is: the upper may have been changed underneath. */
static int remove_check_upper(struct core *core, const struct node *node,
			      const struct target *target)
{
	struct statx st;

	if (!node_has(node, NODE_UPPER))
		return 0;
	int r = sys_stat(target->fd, target->name, &st);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return st.stx_ino == node->upper_ino ? 0 : -ESTALE;
}

/* What can be checked beforehand has been. */
static int remove_checked(struct core *core, struct node *node, const struct target *target)
{
	struct origintable_entry origin;

	origintable_note(core, node->type, target->fd, target->name, &origin);
	int r = remove_keep(core, node, target);

	if (r == 0)
		r = index_begin(core, node);
	if (r == 0) {
		r = remove_name(core, node, target);
		index_end(core, node, -1, r);
	}
	if (r == 0) {
		origintable_drop(core, &origin);
		remove_settle(core, node, target);
	} else {
		remove_unkeep(core, node, target);
	}
	return r;
}

/* The directory's locks are held for writing. */
static int remove_node(struct core *core, struct node *node, const struct target *target)
{
	int r = attr_check_change(node);

	if (r == 0 && node_is_dir(node))
		r = listing_check_empty(core, node);
	if (r == 0 && node_has(node, NODE_INDEXED))
		r = index_alias(core, node, target);
	if (r == 0)
		r = remove_check_upper(core, node, target);
	return r < 0 ? r : remove_checked(core, node, target);
}

/*
 * The directory to change and what its name leads to. An indexed file has to be in the upper
 * to lose a name, as its entry is where names are counted: copied up without locks, then again.
 */
static int remove_open(struct core *core, const struct core_call *call, uint64_t parent,
		       const char *name, struct target *target, struct node **nodep)
{
	for (;;) {
		struct node *node;
		int r = target_open(core, call, parent, name, true, target);

		if (r < 0)
			return r;
		r = lookup_name_locked(core, target->dir, name, &node, NULL);
		if (r == 0 && !node)
			r = -ENOENT;
		bool missing = r == 0 && node_has(node, NODE_INDEXED) &&
			       !node_has(node, NODE_UPPER);

		if (r == 0 && !missing) {
			*nodep = node;
			return 0;
		}
		target_close(core, target);
		if (missing) {
			r = copyup_node(core, call, node, COPYUP_META);
			node_unref(core, node);
		}
		if (r < 0)
			return r;
	}
}

static int remove_run(struct core *core, const struct core_call *call, uint64_t parent,
		      const char *name, bool is_dir)
{
	struct target target;
	struct node *node;
	int r = remove_open(core, call, parent, name, &target, &node);

	if (r < 0)
		return r;
	if (is_dir != node_is_dir(node)) {
		r = is_dir ? -ENOTDIR : -EISDIR;
	} else if (is_dir) {
		lock_rw_write(&node->dir->lock);
		r = remove_node(core, node, &target);
		lock_rw_write_unlock(&node->dir->lock);
	} else {
		r = remove_node(core, node, &target);
	}
	target_close(core, &target);
	node_unref(core, node);
	return r;
}

int core_unlink(struct core *core, const struct core_call *call, uint64_t parent, const char *name)
{
	return remove_run(core, call, parent, name, false);
}

int core_rmdir(struct core *core, const struct core_call *call, uint64_t parent, const char *name)
{
	return remove_run(core, call, parent, name, true);
}

/* ---- a directory that is renamed over ---- */

/*
 * A directory in the work directory with the attributes of the node's own, behind @fd, which
 * shows nothing of the lowers either.
 */
static int remove_make_empty_copy(struct core *core, const struct node *node, int fd,
				  const char *temp)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r == 0)
		r = upper_mkdir(core->work.fd, temp, 0700);
	if (r < 0)
		return r;
	_cleanup_close_ int copy = sys_open(core->work.fd, temp, O_PATH | O_DIRECTORY, 0);

	if (copy < 0)
		return copy;
	struct clone_attr clone = {
		.core = core, .from = fd, .from_upper = true, .to = copy, .st = &st
	};

	r = clone_attributes(&clone);
	if (r == 0 && (node_is_merged(node) || node->dir->opaque))
		r = upper_setxattr(copy, core_key(core, XATTR_OPAQUE), "y", 1, 0);
	return r < 0 ? r : clone_finish(&clone);
}

int remove_clear_dir(struct core *core, struct node *node, const struct target *target,
		     bool *cleared)
{
	char temp[WORKDIR_TEMP_MAX];

	if (!node->dir->upper || (!node_is_merged(node) && !remove_must_store(core, node)))
		return 0;
	int fd = ldir_pin(&core->fds, node->dir->upper);

	if (fd < 0)
		return fd;
	workdir_temp_name(core, temp);
	int r = remove_make_empty_copy(core, node, fd, temp);

	ldir_unpin(node->dir->upper);
	if (r == 0)
		r = upper_rename(core->work.fd, temp, target->fd, target->name, RENAME_EXCHANGE);
	*cleared = r == 0;
	if (r < 0)
		workdir_discard(core, temp);
	else
		remove_store(core, node, temp);
	return r;
}

void remove_adopt_cleared(struct core *core, struct node *node, const struct target *target)
{
	struct node_dir *dir = node->dir;
	struct statx st;
	struct ldir *upper = NULL;

	if (sys_stat(target->fd, target->name, &st) == 0 && S_ISDIR(st.stx_mode))
		upper = ldir_new(target->dir->dir->upper, target->name, &st);
	if (!upper) { /* what is there cannot be told: the name has to be looked up again */
		remove_settle(core, node, target);
		return;
	}
	remove_unkeep_dir(core, dir);
	lowernames_drop(dir);
	node_lock(core, node);
	struct ldir *old = dir->upper;
	unsigned int count = dir->lower_count;

	dir->upper = upper;
	dir->lower_count = 0;
	dir->opaque |= count > 0;
	node->upper_ino = st.stx_ino;
	atomic_store(&dir->quiet, QUIET_UNKNOWN);
	node_unlock(core, node);
	for (unsigned int i = 0; i < count; i++)
		ldir_unref(&core->fds, dir->lowers[i]);
	if (dir->stored)
		workdir_discard(core, old->name->text);
	dir->stored = false;
	ldir_unref(&core->fds, old);
	target_changed(core, node, 0);
}
