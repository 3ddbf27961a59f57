/* SPDX-License-Identifier: MIT */
/* Where the parts of a node can be reached on disk. */
#include "core/place.h"

#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "core/internal.h"
#include "sys/file.h"

/* A directory is its own place. */
static int place_hold_dir(struct core *core, struct node *node, struct place *place)
{
	node_lock(core, node);
	struct ldir *ldir = ldir_ref(node->dir->upper ? node->dir->upper : node->dir->lowers[0]);

	node_unlock(core, node);
	int fd = ldir_pin(&core->fds, ldir);

	if (fd < 0) {
		ldir_unref(&core->fds, ldir);
		return fd;
	}
	*place = (struct place){
		.dirfd = fd,
		.name = "",
		.is_upper = ldir->layer->is_upper,
		.ldir = ldir,
	};
	return 0;
}

static int place_pin(struct core *core, struct place *place, struct ldir *ldir, const char *name)
{
	int fd = ldir_pin(&core->fds, ldir);

	if (fd < 0)
		return fd;
	place->dirfd = fd;
	place->name = name;
	place->ldir = ldir_ref(ldir);
	place->is_upper = ldir->layer->is_upper;
	return 0;
}

/* The object in the upper has lost its last name. -EAGAIN: it was given one meanwhile. */
static int place_hold_orphan(struct core *core, struct node *node, struct place *place)
{
	struct node_file *file = node->file;
	int fd = -1;

	node_lock(core, node);
	bool is_named = node->links;

	if (file && file->orphan_kept)
		fd = fdslot_pin(&file->orphan_slot);
	node_unlock(core, node);
	if (fd < 0 && !(file && file->orphan_name))
		return is_named ? -EAGAIN : -ESTALE;
	*place = (struct place){
		.dirfd = fd < 0 ? core->work.fd : fd,
		.name = fd < 0 ? file->orphan_name->text : "",
		.is_upper = true,
		.slot = fd < 0 ? NULL : &file->orphan_slot,
	};
	return 0;
}

/* The data of a metacopy file lies apart. */
static int place_hold_data(struct core *core, struct node *node, struct place *place)
{
	if (!node->file || !node->file->data_dir)
		return -ENOENT; /* in none of the data-only layers */
	place->is_apart = true;
	return place_pin(core, place, node->file->data_dir, node->file->data_name->text);
}

/* Takes the lock of the directory that holds the node's first name, if it has one. */
static struct link *place_lock_parent(struct core *core, struct node *node, struct place *place)
{
	for (;;) {
		struct node *parent = node_get_parent(core, node);

		if (!parent)
			return NULL;
		lock_rw_read(&parent->dir->lock);
		node_lock(core, node);
		struct link *link = node->links;
		bool same = link && link->parent == parent;

		node_unlock(core, node);
		if (same) {
			place->locked = parent;
			return link;
		}
		lock_rw_read_unlock(&parent->dir->lock); /* it was renamed meanwhile */
		node_unref(core, parent);
	}
}

/*
 * None of its names is known, but it has an entry in the index, which goes with the last one:
 * true, with the lock that holds it, unless that has happened.
 */
static bool place_lock_index(struct core *core, struct node *node, struct place *place)
{
	lock_mutex_lock(&core->index_lock);
	place->index_locked = !node_has(node, NODE_ORPHAN);
	if (!place->index_locked)
		lock_mutex_unlock(&core->index_lock);
	return place->index_locked;
}

static int place_try(struct core *core, struct node *node, enum place_part part,
		     struct place *place)
{
	struct place held = { .dirfd = -1 };
	int r;

	if (node_is_dir(node))
		return place_hold_dir(core, node, place);
	struct link *link = place_lock_parent(core, node, &held);
	bool upper = node_has(node, NODE_UPPER);
	bool indexed = upper && node_has(node, NODE_INDEXED);

	if (part == PLACE_DATA && node_has(node, NODE_METACOPY))
		r = place_hold_data(core, node, &held);
	else if (indexed && (link || place_lock_index(core, node, &held)))
		r = place_pin(core, &held, core->index, node->file->index_name->text);
	else if (upper && !link)
		r = place_hold_orphan(core, node, &held);
	else if (upper) /* somebody else may have put a link of the file where it cannot be */
		r = held.locked->dir->upper ?
			    place_pin(core, &held, held.locked->dir->upper, link->name) :
			    -ESTALE;
	else if (!node->lower_dir)
		r = -ESTALE;
	else if (node->lower_name || link)
		r = place_pin(core, &held, node->lower_dir,
			      node->lower_name ? node->lower_name->text : link->name);
	else
		r = -ESTALE;
	if (r < 0) {
		place_release(core, &held);
		return r;
	}
	*place = held;
	return 0;
}

int place_hold(struct core *core, struct node *node, enum place_part part, struct place *place)
{
	int r;

	do
		r = place_try(core, node, part, place);
	while (r == -EAGAIN);
	return r;
}

void place_release(struct core *core, struct place *place)
{
	if (place->slot)
		fdslot_unpin(place->slot);
	if (place->ldir) {
		ldir_unpin(place->ldir);
		ldir_unref(&core->fds, place->ldir);
	}
	if (place->index_locked)
		lock_mutex_unlock(&core->index_lock);
	if (place->locked) {
		lock_rw_read_unlock(&place->locked->dir->lock);
		node_unref(core, place->locked);
	}
}

bool place_is_node(struct core *core, const struct place *place, const struct node *node,
		   const struct statx *st)
{
	if ((st->stx_mode & S_IFMT) != node->type)
		return false;
	if (place->is_apart)
		return st->stx_ino == node->file->data_ino;
	if (place->is_upper)
		return st->stx_ino == node->upper_ino;
	/* The number of what is in a lower only is made from the real one. */
	return ident_ino(&core->ident, sys_stat_dev(st), st->stx_ino) == node->ino;
}

int place_stat(const struct place *place, struct statx *st)
{
	int r = sys_stat(place->dirfd, place->name, st);

	return r == -ENOENT ? -ESTALE : r; /* the union's names are right: the layer was changed */
}

int place_open(const struct place *place, int flags)
{
	bool self = !place->name[0];
	int fd = self ? sys_reopen(place->dirfd, flags) :
			sys_open(place->dirfd, place->name, flags, 0);

	return fd == -ENOENT ? -ESTALE : fd;
}

int place_open_path(const struct place *place)
{
	if (!place->name[0])
		return sys_dup(place->dirfd); /* it is one already */
	return place_open(place, O_PATH | O_NOFOLLOW);
}
