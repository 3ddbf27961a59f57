/* SPDX-License-Identifier: MIT */
/* From what the layers hold under a name to the node it leads to. */
#include "core/lookup.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/attr.h"
#include "core/datafd.h"
#include "core/index.h"
#include "core/lowernames.h"
#include "core/origin.h"
#include "core/owner.h"
#include "core/probe.h"
#include "core/verity.h"
#include "core/watch.h"
#include "format/protattr.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* ---- from what was found to a node ---- */

/* Flags kept beside an upper object, or in the attributes of a lower one. */
static void node_take_flags(struct core *core, struct node *node, const struct found *found)
{
	const struct ldir *dir = found->upper.dir ? found->upper.dir : found->top.dir;
	uint64_t attributes = layer_file_attributes(dir->layer, found_top_stat(found));
	char letters[PROTATTR_SIZE_MAX];
	unsigned int flags = 0;

	if (found->upper.dir && (S_ISREG(node->type) || S_ISDIR(node->type))) {
		int fd = ldir_pin(&core->fds, found->upper.dir);

		if (fd < 0)
			return;
		ssize_t r = sys_getxattr_at(fd, found->upper.name, core_key(core, XATTR_PROTATTR),
					    letters, sizeof(letters));

		owner_note(core, node, fd, found->upper.name);
		ldir_unpin(found->upper.dir);
		if (r > 0)
			flags = protattr_decode(letters, r);
	}
	if (flags & PROTATTR_IMMUTABLE || attributes & STATX_ATTR_IMMUTABLE)
		node_set(node, NODE_IMMUTABLE);
	if (flags & PROTATTR_APPEND || attributes & STATX_ATTR_APPEND)
		node_set(node, NODE_APPEND);
}

mode_t lookup_type(const struct found *found)
{
	return found->is_dir ? S_IFDIR : found_top_stat(found)->stx_mode & S_IFMT;
}

static int node_fill_dir(struct node *node, struct found *found)
{
	struct node_dir *dir = node->dir;

	if (found->upper.dir) {
		dir->upper = ldir_new(found->upper.dir, found->upper.name, &found->upper.st);
		if (!dir->upper)
			return -ENOMEM;
		dir->opaque = found->upper_opaque;
		dir->redirect = ptr_take(found->redirect);
	}
	dir->lowers = ptr_take(found->lowers);
	dir->lower_count = found->lower_count;
	found->lower_count = 0;
	return 0;
}

static int node_fill_index(struct core *core, struct node *node, struct found *found)
{
	struct node_file *file = node_get_file(core, node);

	if (!file)
		return -ENOMEM;
	file->index_name = name_ref(found->index_name);
	file->nlink = found->nlink;
	file->lower_nlink = found->top.dir ? found->top.st.stx_nlink : 0;
	node_set(node, NODE_INDEXED);
	return 0;
}

static int node_fill_file(struct core *core, struct node *node, struct found *found,
			  const char *name)
{
	if (found->top.dir) {
		node->lower_dir = ldir_ref(found->top.dir);
		/* An indexed file is reached whatever becomes of this name. */
		if (found->index_name || strcmp(found->top.name, name) != 0) {
			node->lower_name = name_new(found->top.name, strlen(found->top.name));
			if (!node->lower_name)
				return -ENOMEM;
		}
	}
	int r = found->index_name ? node_fill_index(core, node, found) : 0;

	if (r < 0 || !found->is_metacopy)
		return r;
	struct node_file *file = node_get_file(core, node);
	struct hit *data = found->top_is_metacopy ? &found->data : &found->top;

	if (!file)
		return -ENOMEM;
	node_set(node, NODE_METACOPY);
	file->redirect = ptr_take(found->redirect);
	r = verity_copy_digest(core, &found->metacopy, &file->digest);
	if (r == 0 && data->dir) { /* else it is missing: told at the first read */
		file->data_name = name_new(data->name, strlen(data->name));
		if (!file->data_name)
			return -ENOMEM;
		file->data_dir = ldir_ref(data->dir);
		file->data_ino = data->st.stx_ino;
	}
	return r;
}

uint64_t lookup_ino(struct core *core, struct node *parent, const struct found *found)
{
	const struct statx *st = found_top_stat(found);

	if (found->is_dir && found->lower_count)
		return ident_ino(&core->ident, found->lowers[0]->dev, found->lowers[0]->ino);
	/* In the index, found by a name that is only in the lower. */
	if (found->upper.dir && found->upper.dir == core->index)
		return ident_ino(&core->ident, sys_stat_dev(&found->top.st), found->top.st.stx_ino);
	if (found->upper.dir && lookup_is_impure(core, parent)) {
		struct statx origin;

		if (origin_find(core, parent, &found->upper.st, found->upper.dir, found->upper.name,
				&origin))
			return ident_ino(&core->ident, sys_stat_dev(&origin), origin.stx_ino);
	}
	return ident_ino(&core->ident, sys_stat_dev(st), st->stx_ino);
}

bool lookup_has_names(const struct found *found)
{
	if (found->is_dir)
		return false;
	return found->index_name || (found->upper.dir && found->upper.st.stx_nlink > 1);
}

/* The id that the object had before it was forgotten, or 0. */
static uint64_t found_id(struct core *core, struct node *parent, const char *name,
			 const struct found *found, uint64_t ino)
{
	uint64_t id = recall_find_name(&core->recall, parent->id, name, ino);

	/* One with a single name that is not where it was is none we know: its number may have
	 * been another's. */
	return id || !lookup_has_names(found) ? id : recall_find_ino(&core->recall, ino);
}

int lookup_fill(struct core *core, struct node *node, struct found *found, const char *name)
{
	int r = found->is_dir ? node_fill_dir(node, found) :
				node_fill_file(core, node, found, name);

	if (r < 0)
		return r;
	if (found->upper.dir) {
		node->upper_ino = found->upper.st.stx_ino;
		node_set(node, NODE_UPPER);
	}
	if (!found->is_dir || found->upper.dir)
		node_take_flags(core, node, found);
	return 0;
}

static int node_make(struct core *core, struct node *parent, const char *name, struct found *found,
		     struct node **nodep)
{
	uint64_t ino = lookup_ino(core, parent, found);
	uint64_t id = found_id(core, parent, name, found, ino);
	struct node *node = ino ? node_new_again(core, lookup_type(found), ino, id) : NULL;

	if (!node)
		return -ENOMEM;
	int r = lookup_fill(core, node, found, name);

	if (r < 0) {
		node_unref(core, node);
		return r;
	}
	*nodep = node;
	return 0;
}

/*
 * A node that is known already and is the same object: another name of an upper inode. The name
 * may be the only one by now, if the one that was known is gone; such a node keeps the inode, so
 * its number cannot have been given to another file.
 */
static struct node *node_find_same(struct core *core, const struct found *found)
{
	const struct statx *st = found_top_stat(found);

	if (found->is_dir || (!found->upper.dir && !found->index_name))
		return NULL;
	struct node *node = node_find_identity(core, sys_stat_dev(st), st->stx_ino);

	if (node && (node->type != (st->stx_mode & S_IFMT) ||
		     (!lookup_has_names(found) && !node_has(node, NODE_ORPHAN))))
		node = node_unref(core, node);
	return node;
}

/* Gives the node of @found its name; two lookups of one name, or of two names, may meet. */
static int node_settle(struct core *core, struct node *parent, const char *name,
		       struct found *found, struct node **nodep)
{
	struct node *node = node_find_same(core, found);
	int r = node ? 0 : node_make(core, parent, name, found, &node);

	if (r < 0)
		return r;
	if (lookup_has_names(found)) {
		const struct statx *st = found_top_stat(found);
		struct node *first = node_add_identity(core, node, sys_stat_dev(st), st->stx_ino);

		if (first != node)
			node_unref(core, node);
		node = first;
	}
	struct node *owner = node_add_name(core, node, parent, name);

	if (owner != node)
		node_unref(core, node);
	*nodep = owner;
	return owner ? 0 : -ENOMEM;
}

/* True if what the layers hold now is what @node was made from. */
static bool node_matches(struct core *core, struct node *parent, struct node *node,
			 const struct found *found)
{
	const struct statx *st = found_top_stat(found);

	if (lookup_type(found) != node->type || !!found->upper.dir != node_has(node, NODE_UPPER))
		return false;
	if (found->upper.dir && found->upper.st.stx_ino != node->upper_ino)
		return false;
	if (!found->is_dir && !datafd_may_be(core, node, st))
		return false;
	if (!found->is_dir)
		return found->upper.dir || lookup_ino(core, parent, found) == node->ino;
	if (found->lower_count != node->dir->lower_count)
		return false;
	for (unsigned int i = 0; i < found->lower_count; i++) {
		if (found->lowers[i]->ino != node->dir->lowers[i]->ino ||
		    found->lowers[i]->dev != node->dir->lowers[i]->dev)
			return false;
	}
	return true;
}

/*
 * Asks the layers. @known (may be NULL) is what the name led to, its reference is consumed. If
 * that is another object now the name is taken from it, which is a change of the directory:
 * -EAGAIN unless @may_change.
 */
static int lookup_fresh(struct core *core, struct node *parent, const char *name,
			struct node *known, bool may_change, struct node **nodep, struct statx *st)
{
	struct found found = { 0 };

	watch_dir(core, parent);
	if (known) /* before asking: what is heard of while we ask counts again */
		node_clear(known, NODE_UNSURE);
	int r = probe_layers(core, parent, name, &found);

	if (r == 0)
		r = index_find(core, parent, &found);
	bool exists = found_exists(&found);

	if (r == 0 && known && !(exists && node_matches(core, parent, known, &found))) {
		r = may_change ? 0 : -EAGAIN;
		if (may_change)
			node_remove_name(core, known, parent, name);
		else
			node_set(known, NODE_UNSURE);
		known = node_unref(core, known);
	}
	*nodep = known;
	if (r == 0 && exists && !known)
		r = node_settle(core, parent, name, &found, nodep);
	else if (r < 0 && known)
		*nodep = node_unref(core, known);
	if (r == 0 && exists && st && (found.upper.dir || !found.is_dir))
		*st = *found_top_stat(&found);
	found_deinit(core, &found);
	return r;
}

static int lookup_try(struct core *core, struct node *parent, const char *name, bool may_change,
		      struct node **nodep, struct statx *st)
{
	if (st)
		st->stx_mask = 0;
	*nodep = NULL;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	if (parent->dir->dead)
		return 0;
	struct node *known = node_find_name(core, parent, name);

	if (known && !core->layers_change && !node_has(known, NODE_UNSURE)) {
		*nodep = known;
		return 0;
	}
	int r = lookup_fresh(core, parent, name, known, may_change, nodep, st);

	if (r == -ESTALE) /* the directory itself was taken away, or replaced */
		node_set(parent, NODE_UNSURE);
	return r;
}

int lookup_name_locked(struct core *core, struct node *parent, const char *name,
		       struct node **nodep, struct statx *st)
{
	return lookup_try(core, parent, name, true, nodep, st);
}

int lookup_name(struct core *core, struct node *parent, const char *name, struct node **nodep,
		struct statx *st)
{
	lock_rw_read(&parent->dir->lock);
	int r = lookup_try(core, parent, name, false, nodep, st);

	lock_rw_read_unlock(&parent->dir->lock);
	if (r != -EAGAIN)
		return r;
	lock_rw_write(&parent->dir->lock);
	r = lookup_try(core, parent, name, true, nodep, st);
	lock_rw_write_unlock(&parent->dir->lock);
	return r;
}

int lookup_entry(struct core *core, struct node *parent, const char *name, struct node **nodep,
		 struct statx *st)
{
	int r = lookup_name(core, parent, name, nodep, st);

	if (r < 0 || !*nodep)
		return r;
	r = st->stx_mask ? attr_present(core, *nodep, st) : attr_get(core, *nodep, st);
	if (r < 0)
		*nodep = node_unref(core, *nodep);
	return r;
}

int core_lookup(struct core *core, const struct core_call *call, uint64_t parent_id,
		const char *name, struct core_entry *entry)
{
	struct node *parent = node_find(core, parent_id);
	struct node *node = NULL;

	if (!parent)
		return -ESTALE;
	int r = node_is_dir(parent) ? lookup_entry(core, parent, name, &node, &entry->attr) :
				      -ENOTDIR;

	node_unref(core, parent);
	if (r < 0)
		return r;
	entry->node = node ? node->id : 0;
	if (node) {
		node_lookup_add(core, node);
		node_unref(core, node);
	}
	return 0;
}

void core_forget(struct core *core, uint64_t id, uint64_t count)
{
	node_forget_id(core, id, count);
}

/* ---- smaller questions ---- */

enum lower_name {
	LOWER_ABSENT,
	LOWER_OBJECT,
	LOWER_HIDDEN, /* here and from here on down */
};

/* What the lower directory @in, of which an index knows @kinds of the name, says of it. */
static int lookup_in_lower(struct core *core, struct ldir *in, const char *name, unsigned int kinds,
			   enum lower_name *what)
{
	struct statx st;
	int fd = ldir_pin(&core->fds, in);

	if (fd < 0)
		return fd;
	int r = kinds & NAMEINDEX_ENTRY ? probe_stat(core, in, fd, name, &st) : -ENOENT;

	if (r == 0)
		*what = probe_is_whiteout(core, fd, name, &st) ? LOWER_HIDDEN : LOWER_OBJECT;
	else if (r == -ENOENT || r == -ENAMETOOLONG)
		r = 0;
	if (r == 0 && *what == LOWER_ABSENT && kinds & NAMEINDEX_HIDES && !in->layer->is_last &&
	    probe_lower_hides(fd, name) > 0)
		*what = LOWER_HIDDEN;
	ldir_unpin(in);
	return r;
}

int lookup_lower_has(struct core *core, struct node *parent, const char *name)
{
	const struct node_dir *dir = parent->dir;
	struct nameindex_cursor cursor = { 0 };
	enum lower_name what = LOWER_ABSENT;
	unsigned int misses = 0;
	int r = 0;

	if (whiteout_name_kind(name) != WHITEOUT_NAME_NONE)
		return 0;
	for (unsigned int i = 0; r == 0 && what == LOWER_ABSENT; i++) {
		unsigned int kinds;

		i = lowernames_next(dir, name, &cursor, i, &kinds);
		if (i >= dir->lower_count)
			break;
		if (!dir->lowers[i]->is_mount_point)
			r = lookup_in_lower(core, dir->lowers[i], name, kinds, &what);
		misses += what == LOWER_ABSENT;
	}
	lowernames_note_misses(core, parent, misses);
	return r < 0 ? r : what == LOWER_OBJECT;
}

int lookup_upper_name(struct core *core, struct node *parent, const char *name,
		      enum upper_name *what, struct statx *st)
{
	int fd = ldir_pin(&core->fds, parent->dir->upper);

	if (fd < 0)
		return fd;
	int r = sys_stat(fd, name, st);

	if (r == 0)
		*what = probe_is_whiteout(core, fd, name, st) ? UPPER_WHITEOUT : UPPER_OBJECT;
	else if (r == -ENOENT)
		*what = UPPER_ABSENT;
	ldir_unpin(parent->dir->upper);
	return r == -ENOENT ? 0 : r;
}

bool lookup_is_impure(struct core *core, struct node *node)
{
	struct node_dir *dir = node->dir;
	char value[4];

	if (!dir->upper)
		return false;
	if (atomic_load(&dir->impure_known))
		return atomic_load(&dir->impure);
	int fd = ldir_pin(&core->fds, dir->upper);

	if (fd < 0)
		return true;
	ssize_t r = sys_getxattr(fd, core_key(core, XATTR_IMPURE), value, sizeof(value));

	ldir_unpin(dir->upper);
	/* Not known is not remembered; what asks for more than needed finds the same. */
	if (r < 0 && r != -ENODATA && r != -EOPNOTSUPP && r != -EPERM && r != -EACCES)
		return true;
	if (r > 0)
		atomic_store(&dir->impure, true);
	atomic_store(&dir->impure_known, true);
	return r > 0;
}
