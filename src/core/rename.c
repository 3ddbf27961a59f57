/* SPDX-License-Identifier: MIT */
/*
 * Rename.  One renameat2(2) on the upper does it, with what the lowers need
 * folded into the same step: a whiteout left behind (RENAME_WHITEOUT), or the
 * target's whiteout exchanged to the old place (RENAME_EXCHANGE).  A directory
 * that lowers hold keeps them by the redirect attribute, so nothing inside is
 * touched.  The rules are the kernel's (fs/overlayfs/dir.c ovl_rename).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/attr.h"
#include "core/copyup.h"
#include "core/create.h"
#include "core/index.h"
#include "core/listing.h"
#include "core/lookup.h"
#include "core/origintable.h"
#include "core/quiet.h"
#include "core/readdir.h"
#include "core/relocate.h"
#include "core/remove.h"
#include "core/upper.h"
#include "sys/file.h"

/* One side: a name, and what it leads to. */
struct side {
	struct target at;
	struct node *node; /* counted; NULL: nothing */
	bool in_lower; /* a lower has the name as well */
	struct link *link; /* prepared: the other side's node under this name; owned */
	struct name *name; /* the same for its directory in the upper; owned */
};

struct renaming {
	struct core *core;
	const struct core_call *call;
	struct side from, to;
	unsigned int flags; /* as asked for */
	bool exchange;
	bool topology; /* the rename lock is held: a directory moves, or something between two, or
			* a redirect is written */
	bool copy_data; /* files have to be complete: no redirect can be written for them */
	bool target_locked; /* the lock of the directory that is overwritten is held */
	bool target_kept; /* remove_keep() */
	struct origintable_entry target_origin; /* goes with it */
	bool target_cleared; /* and it was replaced by an empty one that its node does not know */
};

/* ---- before the locks: everything in the upper ---- */

/* What a name leads to, copied up, with a reference in *@nodep (NULL: nothing there). */
static int rename_prepare_node(struct renaming *r, const struct target *at, struct node **nodep)
{
	int e = lookup_name(r->core, at->dir, at->name, nodep, NULL);

	if (e < 0 || !*nodep)
		return e;
	e = attr_check_change(*nodep);
	if (e == 0)
		e = copyup_node(r->core, r->call, *nodep, r->copy_data ? COPYUP_DATA : COPYUP_META);
	if (e < 0)
		*nodep = node_unref(r->core, *nodep);
	return e;
}

static int rename_prepare_dir(struct renaming *r, struct target *at, uint64_t id, const char *name)
{
	at->name = name;
	at->fd = -1;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	int e = node_find_dir(r->core, id, &at->dir);

	if (e < 0)
		return e;
	e = attr_check_names(at->dir, true);
	return e < 0 ? e : copyup_node(r->core, r->call, at->dir, COPYUP_META);
}

/* ---- locks ---- */

/* True if @node is @dir or lies somewhere above it. The rename lock is held. */
static bool rename_is_above(struct core *core, struct node *node, struct node *dir)
{
	struct node *at = node_ref(dir);
	bool above = false;

	while (at && !above) {
		struct node *parent = node_get_parent(core, at);

		above = at == node;
		node_unref(core, at);
		at = parent;
	}
	if (at)
		node_unref(core, at);
	return above;
}

/*
 * Takes the locks of both directories: the one above first, else by id (docs/locking.md).
 * Who is above whom cannot change meanwhile: that takes the rename lock.
 */
static void rename_lock_dirs(struct renaming *r)
{
	struct node *a = r->from.at.dir, *b = r->to.at.dir;

	if (a == b) {
		lock_rw_write(&a->dir->lock);
		return;
	}
	bool b_first = rename_is_above(r->core, b, a) ||
		       (!rename_is_above(r->core, a, b) && b->id < a->id);

	lock_rw_write(b_first ? &b->dir->lock : &a->dir->lock);
	lock_rw_write(b_first ? &a->dir->lock : &b->dir->lock);
}

static void rename_unlock_dirs(struct renaming *r)
{
	lock_rw_write_unlock(&r->from.at.dir->dir->lock);
	if (r->to.at.dir != r->from.at.dir)
		lock_rw_write_unlock(&r->to.at.dir->dir->lock);
}

static int rename_pin(struct renaming *r, struct side *side)
{
	struct node_dir *dir = side->at.dir->dir;

	side->at.fd = dir->dead || !dir->upper ? -ENOENT : ldir_pin(&r->core->fds, dir->upper);
	return side->at.fd < 0 ? side->at.fd : 0;
}

static void rename_unpin(struct side *side)
{
	if (side->at.fd >= 0)
		ldir_unpin(side->at.dir->dir->upper);
}

/* ---- what is allowed ---- */

/* The name still leads where it led before the locks were taken. */
static int rename_check_same(struct renaming *r, const struct side *side)
{
	struct node *node;
	int e = lookup_name_locked(r->core, side->at.dir, side->at.name, &node, NULL);

	if (e < 0)
		return e;
	if (node)
		node_unref(r->core, node);
	return node == side->node ? 0 : -EAGAIN;
}

static int rename_check_moves(const struct renaming *r, const struct side *side)
{
	if (relocate_needs_redirect(side->node) && r->core->redirect != CORE_REDIRECT_ON)
		return -EXDEV;
	return 0;
}

static int rename_check_types(const struct renaming *r)
{
	if (r->exchange || !r->to.node)
		return 0;
	if (node_is_dir(r->from.node) && !node_is_dir(r->to.node))
		return -ENOTDIR;
	if (!node_is_dir(r->from.node) && node_is_dir(r->to.node))
		return -EISDIR;
	return 0;
}

/* No directory may end up below itself. */
static int rename_check_loops(const struct renaming *r)
{
	if (r->from.at.dir == r->to.at.dir)
		return 0;
	if (node_is_dir(r->from.node) && rename_is_above(r->core, r->from.node, r->to.at.dir))
		return -EINVAL;
	if (r->to.node && node_is_dir(r->to.node) &&
	    rename_is_above(r->core, r->to.node, r->from.at.dir))
		return r->exchange ? -EINVAL : -ENOTEMPTY;
	return 0;
}

static int rename_check(struct renaming *r)
{
	int e = rename_check_same(r, &r->from);

	if (e == 0)
		e = rename_check_same(r, &r->to);
	if (e < 0)
		return e;
	if (!r->from.node || (r->exchange && !r->to.node))
		return -ENOENT;
	if (r->to.node && r->flags & RENAME_NOREPLACE)
		return -EEXIST;
	e = rename_check_types(r);
	if (e == 0)
		e = rename_check_loops(r);
	if (e == 0)
		e = rename_check_moves(r, &r->from);
	if (e == 0 && r->exchange)
		e = rename_check_moves(r, &r->to);
	return e;
}

/* ---- redirect and opaque ---- */

/* What lets the object of @side be itself at the place of @other. */
static int rename_prepare_move(struct renaming *r, struct side *side, const struct side *other)
{
	bool same_dir = side->at.dir == other->at.dir;
	bool redirect = relocate_needs_redirect(side->node);

	/* Its number is a lower's, which a listing will not find under that name. */
	if (!same_dir || redirect) {
		int e = copyup_mark_impure(r->core, other->at.dir);

		if (e < 0)
			return e;
	}
	if (!redirect && !(node_is_dir(side->node) && !side->node->dir->opaque &&
			   other->at.dir->dir->lower_count))
		return 0;
	_cleanup_close_ int fd = sys_open(side->at.fd, side->at.name, O_PATH | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	/* A directory of the upper alone must not merge with what lowers have at the new place. */
	if (!redirect)
		return relocate_set_opaque(r->core, side->node, fd);
	const struct relocate_name by = {
		.dir = side->at.dir,
		.name = side->at.name,
		/* What is relative would be wrong for the other names of a hard link. */
		.same_dir = same_dir && !node_has(side->node, NODE_INDEXED),
	};
	int e = relocate_set_redirect(r->core, side->node, fd, &by);

	if (e == -EXDEV && !node_is_dir(side->node)) {
		r->copy_data = true; /* without its lower part it needs no redirect: once more */
		return -EAGAIN;
	}
	return e;
}

/* ---- the rename itself ---- */

/* What an overwriting rename must do about the lowers at the old place. */
static unsigned int rename_real_flags(const struct renaming *r, bool to_whiteout,
				      bool *leaves_whiteout)
{
	*leaves_whiteout = false;
	if (r->exchange)
		return RENAME_EXCHANGE;
	if (r->from.in_lower)
		return to_whiteout ? RENAME_EXCHANGE : RENAME_WHITEOUT;
	if (node_is_dir(r->from.node) && to_whiteout) {
		*leaves_whiteout = true;
		return RENAME_EXCHANGE;
	}
	return 0;
}

/*
 * Where the file system leaves no whiteout behind by itself (RENAME_WHITEOUT), one is put in the new
 * place first, and exchanged for the file. It hides nothing: the place is free. One that is
 * not cannot be taken in one step, so that is left to the caller, who copies then.
 */
static int rename_by_exchange(struct renaming *r, bool to_free)
{
	if (!to_free)
		return -EXDEV;
	int e = workdir_make_whiteout(r->core, r->to.at.fd, r->to.at.name);

	if (e < 0)
		return e;
	e = upper_rename(r->from.at.fd, r->from.at.name, r->to.at.fd, r->to.at.name,
			 RENAME_EXCHANGE);
	if (e < 0 && upper_unlink(r->to.at.fd, r->to.at.name) < 0)
		log_warning_limited("%s: a whiteout that hides nothing stays", r->to.at.name);
	return e;
}

static int rename_on_disk(struct renaming *r)
{
	enum upper_name what;
	struct statx st;
	bool leaves_whiteout;
	int e = lookup_upper_name(r->core, r->to.at.dir, r->to.at.name, &what, &st);

	if (e < 0)
		return e;
	if (what == UPPER_OBJECT && (!r->to.node || st.stx_ino != r->to.node->upper_ino) &&
	    !r->target_cleared)
		return -ESTALE; /* changed underneath */
	unsigned int flags = rename_real_flags(r, what == UPPER_WHITEOUT, &leaves_whiteout);

	e = upper_rename(r->from.at.fd, r->from.at.name, r->to.at.fd, r->to.at.name, flags);
	if (e == -EINVAL && flags == RENAME_WHITEOUT)
		e = rename_by_exchange(r, what == UPPER_ABSENT);
	if (e == 0 && leaves_whiteout && upper_unlink(r->from.at.fd, r->from.at.name) < 0)
		log_warning_limited("%s: a whiteout that hides nothing stays", r->from.at.name);
	return e;
}

/* A directory that is overwritten is locked, and must be empty. */
static int rename_check_overwritten(struct renaming *r)
{
	struct node *node = r->to.node;

	if (!node || r->exchange || !node_is_dir(node))
		return 0;
	lock_rw_write(&node->dir->lock);
	r->target_locked = true;
	return listing_check_empty(r->core, node);
}

/*
 * Makes the object that is overwritten ready to go: last of all, as a directory that was emptied
 * is another one on disk, which its node does not know.
 */
static int rename_prepare_overwritten(struct renaming *r)
{
	struct node *node = r->to.node;

	if (!node || r->exchange)
		return 0;
	origintable_note(r->core, node->type, r->to.at.fd, r->to.at.name, &r->target_origin);
	int e = remove_keep(r->core, node, &r->to.at);

	r->target_kept = e == 0;
	if (e == 0 && node_is_dir(node))
		e = remove_clear_dir(r->core, node, &r->to.at, &r->target_cleared);
	return e;
}

/* Indexed files get the names in the upper that are moved or overwritten there. */
static int rename_prepare_aliases(struct renaming *r)
{
	int e = 0;

	if (node_has(r->from.node, NODE_INDEXED))
		e = index_alias(r->core, r->from.node, &r->from.at);
	if (e == 0 && r->to.node && node_has(r->to.node, NODE_INDEXED))
		e = index_alias(r->core, r->to.node, &r->to.at);
	return e;
}

/* The rename, which may take a name from an indexed file. */
static int rename_counted(struct renaming *r)
{
	struct node *loser = r->exchange ? NULL : r->to.node;
	int e = loser ? index_begin(r->core, loser) : 0;

	if (e < 0)
		return e;
	e = rename_on_disk(r);
	if (e == 0 && loser)
		origintable_drop(r->core, &r->target_origin);
	if (loser)
		index_end(r->core, loser, -1, e);
	return e;
}

/* The names and directories that the tables will need, so that nothing can fail afterwards. */
static int rename_prepare_tables(struct renaming *r)
{
	struct side *from = &r->from, *to = &r->to;

	to->link = node_new_link(r->core, from->node, to->at.dir, to->at.name);
	to->name = name_new(to->at.name, strlen(to->at.name));
	if (!to->link || !to->name)
		return -ENOMEM;
	if (!r->exchange)
		return 0;
	from->link = node_new_link(r->core, to->node, from->at.dir, from->at.name);
	from->name = name_new(from->at.name, strlen(from->at.name));
	return from->link && from->name ? 0 : -ENOMEM;
}

/* Gives @node the name and place of @side. */
static void rename_settle_side(struct core *core, struct node *node, struct side *side)
{
	node_insert_link(core, ptr_take(side->link));
	if (!node_is_dir(node))
		return;
	ldir_move(&core->fds, node->dir->upper, side->at.dir->dir->upper, ptr_take(side->name));
	readdir_forget_parent(core, node);
}

static void rename_settle(struct renaming *r)
{
	struct core *core = r->core;
	struct side *from = &r->from, *to = &r->to;
	bool from_dir = node_is_dir(from->node);
	bool to_dir = to->node && node_is_dir(to->node);

	if (to->node && !r->exchange)
		remove_settle(core, to->node, &to->at);
	else if (to->node)
		node_remove_name(core, to->node, to->at.dir, to->at.name);
	node_remove_name(core, from->node, from->at.dir, from->at.name);
	rename_settle_side(core, from->node, to);
	if (r->exchange)
		rename_settle_side(core, to->node, from);
	int back = r->exchange && to_dir;

	target_changed(core, from->at.dir, back - from_dir);
	target_changed(core, to->at.dir, from_dir - back);
	if (from_dir)
		quiet_changed(core, from->node);
	if (back)
		quiet_changed(core, to->node);
}

/* The real directory that moves with @node, kept open; NULL if it is none. Or -errno. */
static int rename_hold_open(struct core *core, const struct node *node, struct ldir **ldirp)
{
	*ldirp = NULL;
	if (!node || !node_is_dir(node))
		return 0;
	int fd = ldir_pin(&core->fds, node->dir->upper);

	if (fd < 0)
		return fd;
	*ldirp = node->dir->upper;
	return 0;
}

/*
 * Moves on disk, then in the tables.  In between a moved directory is at neither of its names
 * for whoever looks (a copy-up that publishes in it holds only its own lock): so it stays open,
 * and is found, like all below it, by its descriptor.
 */
static int rename_move(struct renaming *r)
{
	struct ldir *from = NULL, *to = NULL;
	int e = rename_hold_open(r->core, r->from.node, &from);

	if (e == 0 && r->exchange)
		e = rename_hold_open(r->core, r->to.node, &to);
	if (e == 0)
		e = rename_counted(r);
	if (e == 0)
		rename_settle(r);
	if (from)
		ldir_unpin(from);
	if (to)
		ldir_unpin(to);
	return e;
}

/* The directories' locks are held. */
static int rename_locked(struct renaming *r)
{
	int e = rename_check(r);

	if (e < 0 || r->from.node == r->to.node)
		return e; /* two names of one inode: nothing to do, says POSIX */
	int in_lower = lookup_lower_has(r->core, r->from.at.dir, r->from.at.name);

	if (in_lower < 0)
		return in_lower;
	r->from.in_lower = in_lower;
	e = rename_prepare_tables(r);
	if (e == 0)
		e = rename_prepare_aliases(r);
	if (e == 0)
		e = rename_check_overwritten(r);
	if (e == 0)
		e = rename_prepare_move(r, &r->from, &r->to);
	if (e == 0 && r->exchange)
		e = rename_prepare_move(r, &r->to, &r->from);
	if (e == 0)
		e = rename_prepare_overwritten(r);
	if (e == 0)
		e = rename_move(r);
	if (e < 0 && r->target_cleared)
		remove_adopt_cleared(r->core, r->to.node, &r->to.at);
	else if (e < 0 && r->target_kept)
		remove_unkeep(r->core, r->to.node, &r->to.at);
	return e;
}

static int rename_with_locks(struct renaming *r)
{
	if (r->topology)
		lock_mutex_lock(&r->core->rename_lock);
	rename_lock_dirs(r);
	int e = rename_pin(r, &r->from);

	if (e == 0)
		e = rename_pin(r, &r->to);
	if (e == 0)
		e = rename_locked(r);
	rename_unpin(&r->to);
	rename_unpin(&r->from);
	r->from.at.fd = r->to.at.fd = -1;
	if (r->target_locked)
		lock_rw_write_unlock(&r->to.node->dir->lock);
	r->target_locked = r->target_kept = r->target_cleared = false;
	rename_unlock_dirs(r);
	if (r->topology)
		lock_mutex_unlock(&r->core->rename_lock);
	return e;
}

/* ---- the call ---- */

static void side_forget_node(struct core *core, struct side *side)
{
	if (side->node)
		side->node = node_unref(core, side->node);
	node_free_link(core, ptr_take(side->link));
	name_unref(ptr_take(side->name));
}

/* What is overwritten stays where it is; only what is exchanged has to be in the upper. */
static int rename_prepare_target(struct renaming *r)
{
	const struct target *at = &r->to.at;

	if (r->exchange)
		return rename_prepare_node(r, at, &r->to.node);
	int e = lookup_name(r->core, at->dir, at->name, &r->to.node, NULL);

	if (e < 0 || !r->to.node)
		return e;
	e = attr_check_change(r->to.node);
	/* To lose a name an indexed file needs its entry. */
	if (e == 0 && node_has(r->to.node, NODE_INDEXED))
		e = copyup_node(r->core, r->call, r->to.node, COPYUP_META);
	return e;
}

/* -EXDEV if the name leads to a directory that cannot move. */
static int rename_check_dir_moves(struct renaming *r, const struct target *at)
{
	struct node *node;
	int e = lookup_name(r->core, at->dir, at->name, &node, NULL);

	if (e < 0 || !node)
		return e;
	if (node_is_dir(node) && relocate_needs_redirect(node))
		e = -EXDEV;
	node_unref(r->core, node);
	return e;
}

/*
 * An exchange with a directory that cannot move is refused before the other side is copied up:
 * that a file was shows in its time of change.
 */
static int rename_check_exchange(struct renaming *r)
{
	if (!r->exchange || r->core->redirect == CORE_REDIRECT_ON)
		return 0;
	int e = rename_check_dir_moves(r, &r->from.at);

	return e < 0 ? e : rename_check_dir_moves(r, &r->to.at);
}

/* Once: from finding what the names lead to, to the end. -EAGAIN: they changed meanwhile. */
static int rename_try(struct renaming *r)
{
	int e = rename_check_exchange(r);

	if (e == 0)
		e = rename_prepare_node(r, &r->from.at, &r->from.node);
	if (e == 0 && !r->from.node)
		e = -ENOENT;
	if (e == 0)
		e = rename_prepare_target(r);
	if (e < 0)
		return e;
	r->topology = r->from.at.dir != r->to.at.dir || node_is_dir(r->from.node) ||
		      (r->to.node && node_is_dir(r->to.node)) ||
		      relocate_needs_redirect(r->from.node) ||
		      (r->exchange && relocate_needs_redirect(r->to.node));
	return rename_with_locks(r);
}

int core_rename(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		uint64_t new_parent, const char *new_name, unsigned int flags)
{
	struct renaming r = {
		.core = core,
		.call = call,
		.flags = flags,
		.exchange = flags & RENAME_EXCHANGE,
		.copy_data = core->redirect != CORE_REDIRECT_ON,
	};

	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    (flags & RENAME_NOREPLACE && flags & RENAME_EXCHANGE))
		return -EINVAL;
	if (core_refuses_changes(core))
		return -EROFS;
	int e = rename_prepare_dir(&r, &r.from.at, parent, name);

	if (e == 0)
		e = rename_prepare_dir(&r, &r.to.at, new_parent, new_name);
	/* -EAGAIN: a name led elsewhere once the locks were taken, so look again. */
	for (int tries = 0; (e == 0 || e == -EAGAIN) && tries < 10; tries++) {
		e = rename_try(&r);
		side_forget_node(core, &r.from);
		side_forget_node(core, &r.to);
		if (e == 0)
			break;
	}
	if (r.from.at.dir)
		node_unref(core, r.from.at.dir);
	if (r.to.at.dir)
		node_unref(core, r.to.at.dir);
	return e;
}
