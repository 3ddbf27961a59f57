/* SPDX-License-Identifier: MIT */
/*
 * Layers that change under a live union.
 *
 * While no call runs, every node that is known is held, and what could lose its
 * place is kept reachable, as what is removed while it is in use.  Then the
 * layers change.  Afterwards each node is looked up again by the names that it
 * is known by, directories from the root down, then all else: what is found
 * becomes its parts, or it has lost its name.
 *
 * Only forgetting goes on meanwhile, which takes node locks and gives
 * references back: so whatever both touch is under those locks here, too, and
 * all else is nobody else's.  No function here is called with a lock held.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/datafd.h"
#include "core/index.h"
#include "core/lookup.h"
#include "core/lowernames.h"
#include "core/node_table.h"
#include "core/owner.h"
#include "core/place.h"
#include "core/readdir.h"
#include "core/remove.h"
#include "core/tell.h"
#include "core/watch.h"
#include "sys/file.h"

/* A name that leads to another object now, or nowhere. */
struct renew_name {
	uint64_t parent;
	struct name *name; /* counted */
};

struct core_pause {
	enum core_change change;
	struct node **nodes; /* counted; all that there are */
	uint64_t count, size;
	struct renew_name *names; /* owned */
	uint64_t name_count, name_size;
};

/* ---- who there is ---- */

static void renew_note_node(void *object, void *context)
{
	struct core_pause *pause = context;

	if (pause->count < pause->size && node_hold(object)) {
		node_set(object, NODE_STALE);
		pause->nodes[pause->count++] = object;
	}
}

/* No node is made meanwhile. */
static struct core_pause *renew_collect(struct core *core, enum core_change change)
{
	_cleanup_free_ struct core_pause *pause = calloc(1, sizeof(*pause));

	if (!pause)
		return NULL;
	pause->change = change;
	pause->size = idtable_count(core->nodes.ids);
	pause->nodes = calloc(pause->size, sizeof(struct node *));
	if (!pause->nodes)
		return NULL;
	idtable_for_each(core->nodes.ids, renew_note_node, pause);
	return ptr_take(pause);
}

static void renew_free(struct core *core, struct core_pause *pause)
{
	for (uint64_t i = 0; i < pause->count; i++)
		node_unref(core, pause->nodes[i]);
	for (uint64_t i = 0; i < pause->name_count; i++)
		name_unref(pause->names[i].name);
	free(pause->names);
	free(pause->nodes);
	free(pause);
}

/* ---- before ---- */

static unsigned int renew_count_written(const struct core_pause *pause)
{
	unsigned int count = 0;

	for (uint64_t i = 0; i < pause->count; i++) {
		const struct node *node = pause->nodes[i];

		if (!node_is_dir(node) && node->links && node->file && node->file->backing > 0 &&
		    node->file->writers > 0)
			count++;
	}
	return count;
}

/*
 * What fails here costs an object that is removed its data, and nobody needs to know: it may not be
 * in use at all. A commit leaves all but oddities in place: there it is not worth more than what
 * descriptors there are.
 */
static void renew_keep(struct core *core, const struct core_pause *pause, struct node *node)
{
	bool has_room = atomic_load(&core->orphans) < core->orphan_max;
	struct place place;

	if (!node_has(node, NODE_UPPER) || node_has(node, NODE_ORPHAN) || node == core->root)
		return;
	if (node_is_dir(node)) {
		if (has_room)
			remove_keep_dir(core, node->dir);
		return;
	}
	if ((!has_room && pause->change == CORE_CHANGE_COMMIT) ||
	    place_hold(core, node, PLACE_META, &place) < 0)
		return;
	datafd_keep_orphan(core, node, place.dirfd, place.name);
	place_release(core, &place);
}

int core_pause(struct core *core, enum core_change change, struct core_pause **pausep,
	       unsigned int *written)
{
	struct core_pause *pause = renew_collect(core, change);

	if (!pause)
		return -ENOMEM;
	*written = change == CORE_CHANGE_COMMIT ? renew_count_written(pause) : 0;
	if (*written) {
		for (uint64_t i = 0; i < pause->count; i++)
			node_clear(pause->nodes[i], NODE_STALE);
		renew_free(core, pause);
		return -EBUSY;
	}
	for (uint64_t i = 0; i < pause->count; i++)
		renew_keep(core, pause, pause->nodes[i]);
	*pausep = pause;
	return 0;
}

/* ---- what has lost its name ---- */

/* Who cannot be told of it for want of memory finds out when the kernel asks again. */
static void renew_note_name(struct core_pause *pause, const struct link *link)
{
	if (pause->name_count == pause->name_size) {
		uint64_t size = pause->name_size ? 2 * pause->name_size : 64;
		struct renew_name *names = realloc(pause->names, size * sizeof(*names));

		if (!names)
			return;
		pause->names = names;
		pause->name_size = size;
	}
	struct name *name = name_new(link->name, link->length);

	if (name)
		pause->names[pause->name_count++] =
			(struct renew_name){ .parent = link->parent->id, .name = name };
}

/* Takes the names that are marked as leaving away. */
static void renew_drop_names(struct core *core, struct core_pause *pause, struct node *node)
{
	bool stays = false;

	for (const struct link *link = node->links; link; link = link->next)
		stays |= !link->leaves;
	if (!stays && !node_is_dir(node)) {
		if (!node_has(node, NODE_UPPER) && node->links)
			remove_keep_lower(core, node, node->links->name);
		if (node_has(node, NODE_INDEXED))
			node->file->nlink = 0;
		node_remove_identities(core, node);
	}
	for (struct link *link = node->links, *next; link; link = next) {
		next = link->next;
		if (!link->leaves)
			continue;
		renew_note_name(pause, link);
		remove_forget_name(core, node, link->parent, link->name);
	}
}

/* ---- looking up ---- */

static int renew_probe(struct core *core, const struct link *link, struct found *found)
{
	struct node *parent = link->parent;

	if (parent->dir->dead)
		return 0;
	lock_rw_read(&parent->dir->lock);
	int r = probe_layers(core, parent, link->name, found);

	if (r == 0)
		r = index_find(core, parent, found);
	lock_rw_read_unlock(&parent->dir->lock);
	return r;
}

/* What was found is, to its users, the object that @node was. */
static bool renew_is_same(struct core *core, const struct core_pause *pause,
			  const struct node *node, const struct link *link,
			  const struct found *found, uint64_t *ino)
{
	if (!found_exists(found) || lookup_type(found) != node->type)
		return false;
	/* The kernel would go on with the file it has. */
	if (!node_is_dir(node) && node->file && node->file->backing > 0)
		return false;
	lock_rw_read(&link->parent->dir->lock);
	*ino = lookup_ino(core, link->parent, found);
	lock_rw_read_unlock(&link->parent->dir->lock);
	return *ino && (pause->change == CORE_CHANGE_COMMIT || *ino == node->ino);
}

static void renew_take_flags(struct node *node, const struct node *fresh)
{
	const uint32_t parts = NODE_UPPER | NODE_METACOPY | NODE_IMMUTABLE | NODE_APPEND |
			       NODE_INDEXED | NODE_OWNER;

	node_clear(node, parts | NODE_UNSURE | NODE_STRIPPED | NODE_NO_CAPS);
	node_set(node, (atomic_load(&fresh->flags) & parts) | NODE_RENEWED);
	node->upper_ino = fresh->upper_ino;
}

/* ---- directories ---- */

/* Nothing that was remembered of its names and its attributes counts any more. */
static void renew_forget_content(struct core *core, struct node *node)
{
	struct node_dir *dir = node->dir;

	watch_forget(core, dir);
	watch_dir_again(node);
	lowernames_drop(dir);
	atomic_store(&dir->lower_misses, 0);
	atomic_store(&dir->lower_names_due, 0);
	atomic_store(&dir->impure, false);
	atomic_store(&dir->impure_known, false);
	atomic_store(&dir->subdirs, -1);
	node_lock(core, node);
	dir->times = (struct times){ 0 };
	atomic_store(&dir->quiet, QUIET_UNKNOWN);
	dir->cached_of = DIRCACHE_OF_NOTHING;
	node_unlock(core, node);
	atomic_fetch_add(&dir->version, 1);
	atomic_fetch_add(&dir->changes, 1);
}

static bool renew_has_same_lowers(const struct node_dir *dir, const struct found *found)
{
	if (dir->upper || found->upper.dir || dir->lower_count != found->lower_count)
		return false;
	for (unsigned int i = 0; i < dir->lower_count; i++)
		if (dir->lowers[i]->ino != found->lowers[i]->ino ||
		    dir->lowers[i]->dev != found->lowers[i]->dev)
			return false;
	return true;
}

static int renew_fill_dir(struct core *core, struct node *node, struct found *found)
{
	struct node_dir parts = { 0 };
	struct node fresh = { .id = node->id, .type = node->type, .dir = &parts };
	int r = lookup_fill(core, &fresh, found, node->links->name);

	if (r < 0)
		return r;
	struct node_dir *dir = node->dir;
	struct ldir *old_upper = dir->upper, **old_lowers = dir->lowers;
	unsigned int old_count = dir->lower_count;
	char *old_redirect = dir->redirect;

	renew_forget_content(core, node);
	remove_unkeep_dir(core, dir);
	node_lock(core, node);
	dir->upper = parts.upper;
	dir->lowers = parts.lowers;
	dir->lower_count = parts.lower_count;
	dir->opaque = parts.opaque;
	dir->redirect = parts.redirect;
	renew_take_flags(node, &fresh);
	node_unlock(core, node);
	for (unsigned int i = 0; i < old_count; i++)
		ldir_unref(&core->fds, old_lowers[i]);
	free(old_lowers);
	free(old_redirect);
	ldir_unref(&core->fds, old_upper);
	return 0;
}

/* Its parts are the roots of the layers, as ever. */
static void renew_root(struct core *core, struct node *root)
{
	renew_forget_content(core, root);
	node_clear(root, NODE_IMMUTABLE | NODE_APPEND | NODE_UNSURE);
	owner_note(core, root, core->layers[0].fd, "");
}

static void renew_named_dir(struct core *core, struct core_pause *pause, struct node *node)
{
	struct found found = { 0 };
	uint64_t ino;
	int r = renew_probe(core, node->links, &found);

	if (r == 0 && renew_is_same(core, pause, node, node->links, &found, &ino)) {
		/* A discard changes no lower, nor what is below this, then. */
		if (pause->change == CORE_CHANGE_DISCARD &&
		    renew_has_same_lowers(node->dir, &found))
			node_set(node, NODE_STEADY);
		else
			r = renew_fill_dir(core, node, &found);
		if (r == 0)
			node->ino = ino;
	} else {
		r = -ESTALE;
	}
	found_deinit(core, &found);
	if (r == 0)
		return;
	node->links->leaves = true;
	renew_drop_names(core, pause, node);
}

static bool renew_is_steady(const struct node *node)
{
	return node->links && !node_has(node, NODE_UPPER) &&
	       node_has(node->links->parent, NODE_STEADY);
}

static void renew_dir(struct core *core, struct core_pause *pause, struct node *node)
{
	node_clear(node, NODE_STALE);
	if (node == core->root)
		renew_root(core, node);
	else if (renew_is_steady(node))
		node_set(node, NODE_STEADY);
	else if (node->links) /* else it was removed long since */
		renew_named_dir(core, pause, node);
}

/* The highest directory above @node, itself included, that is stale; @node is. */
static struct node *renew_find_top(struct node *node)
{
	struct node *top = node;

	for (struct node *at = node; at->links; at = at->links->parent)
		if (node_has(at->links->parent, NODE_STALE))
			top = at->links->parent;
	return top;
}

/* From the root down: each has the parts of its parent to be found by. */
static void renew_dirs(struct core *core, struct core_pause *pause)
{
	for (uint64_t i = 0; i < pause->count; i++) {
		struct node *node = pause->nodes[i];

		while (node_is_dir(node) && node_has(node, NODE_STALE))
			renew_dir(core, pause, renew_find_top(node));
	}
}

/* ---- other objects ---- */

/* Moves what @from says of an object's parts to @to, which has none. */
static void renew_move_file(struct node_file *to, const struct node_file *from)
{
	to->data_dir = from->data_dir;
	to->data_name = from->data_name;
	to->data_ino = from->data_ino;
	to->redirect = from->redirect;
	to->digest = from->digest;
	to->index_name = from->index_name;
	to->nlink = from->nlink;
	to->lower_nlink = from->lower_nlink;
}

static void renew_release_file(struct core *core, const struct node_file *file)
{
	ldir_unref(&core->fds, file->data_dir);
	name_unref(file->data_name);
	free(file->redirect);
	free(file->digest);
	name_unref(file->index_name);
}

static void renew_release_lower(struct core *core, struct ldir *dir, struct name *name)
{
	ldir_unref(&core->fds, dir);
	name_unref(name);
}

static int renew_fill_file(struct core *core, struct node *node, struct found *found,
			   const char *name)
{
	const struct statx st = *found_top_stat(found);
	struct node fresh = { .id = node->id, .type = node->type };
	int r = lookup_fill(core, &fresh, found, name);

	if (r < 0) {
		if (fresh.file)
			renew_release_file(core, fresh.file);
		free(fresh.file);
		renew_release_lower(core, fresh.lower_dir, fresh.lower_name);
		return r;
	}
	datafd_drop_orphan(core, node);
	node_lock(core, node);
	struct ldir *old_dir = node->lower_dir;
	struct name *old_name = node->lower_name;
	struct node_file *file = node->file;
	struct node_file old = { 0 };

	node->lower_dir = fresh.lower_dir;
	node->lower_name = fresh.lower_name;
	if (file) {
		static const struct node_file none;

		renew_move_file(&old, file);
		renew_move_file(file, fresh.file ? fresh.file : &none);
	} else {
		node->file = ptr_take(fresh.file);
	}
	renew_take_flags(node, &fresh);
	node_unlock(core, node);
	free(fresh.file);
	renew_release_file(core, &old);
	renew_release_lower(core, old_dir, old_name);
	datafd_renew(core, node, &st);
	return 0;
}

/* Which object the node is, for its other names. */
struct renew_identity {
	bool is_known;
	dev_t dev;
	uint64_t ino;
};

static int renew_take_file(struct core *core, struct node *node, struct found *found,
			   const char *name, struct renew_identity *identity)
{
	const struct statx *st = found_top_stat(found);

	*identity = (struct renew_identity){ true, sys_stat_dev(st), st->stx_ino };
	if (lookup_has_names(found)) {
		struct node *first = node_add_identity(core, node, identity->dev, identity->ino);

		/* Another one has become this object. */
		if (first != node) {
			node_unref(core, first);
			return -EEXIST;
		}
	}
	return renew_fill_file(core, node, found, name);
}

/* True if the name stays. */
static bool renew_link(struct core *core, struct core_pause *pause, struct node *node,
		       struct link *link, struct renew_identity *identity)
{
	struct found found = { 0 };
	uint64_t ino;
	int r = renew_probe(core, link, &found);
	bool stays = r == 0 && renew_is_same(core, pause, node, link, &found, &ino);

	if (stays && identity->is_known) {
		const struct statx *st = found_top_stat(&found);

		stays = st->stx_ino == identity->ino && sys_stat_dev(st) == identity->dev;
	} else if (stays) {
		stays = renew_take_file(core, node, &found, link->name, identity) == 0;
		identity->is_known = stays;
		if (stays)
			node->ino = ino;
	}
	found_deinit(core, &found);
	return stays;
}

static void renew_file(struct core *core, struct core_pause *pause, struct node *node)
{
	struct renew_identity identity = { 0 };

	if (node_has(node, NODE_ORPHAN))
		return;
	/* One that is in the index alone has no name to be found by. */
	if (!node->links && node_has(node, NODE_INDEXED)) {
		node->file->nlink = 0;
		node_set(node, NODE_ORPHAN);
	}
	for (struct link *link = node->links; link; link = link->next)
		link->leaves = !renew_link(core, pause, node, link, &identity);
	renew_drop_names(core, pause, node);
}

/* Directories have been renewed. */
static void renew_files(struct core *core, struct core_pause *pause)
{
	for (uint64_t i = 0; i < pause->count; i++) {
		struct node *node = pause->nodes[i];

		if (node_is_dir(node))
			continue;
		if (renew_is_steady(node))
			node_clear(node, NODE_STALE);
		else if (!node_has(node, NODE_ORPHAN))
			node_remove_identities(core, node);
	}
	for (uint64_t i = 0; i < pause->count; i++) {
		struct node *node = pause->nodes[i];

		if (!node_is_dir(node) && node_has(node, NODE_STALE))
			renew_file(core, pause, node);
	}
}

static bool renew_is_news(const struct node *node)
{
	return node_is_dir(node) ? !node_has(node, NODE_STEADY) : node_has(node, NODE_STALE);
}

/* Whoever goes on with a commit goes by what it found at its beginning: the upper must not change. */
static void renew_note_commit(struct core *core)
{
	bool is_half_done = workdir_is_half_done(core);

	if (is_half_done)
		log_warning(
			"a commit was begun and is not finished: nothing can be changed in this "
			"mount until veneer commit was run again");
	atomic_store(&core->is_half_done, is_half_done);
}

void core_resume(struct core *core, struct core_pause *pause, const struct core_watcher *watcher)
{
	renew_note_commit(core);
	/* A number may be another object's now. */
	recall_clear(&core->recall);
	renew_dirs(core, pause);
	renew_files(core, pause);
	readdir_begin_again(core);
	for (uint64_t i = 0; i < pause->count; i++)
		if (renew_is_news(pause->nodes[i]))
			watcher->attributes(watcher->context, pause->nodes[i]->id);
}

/* ---- after ---- */

void core_pause_end(struct core *core, struct core_pause *pause, const struct core_watcher *watcher)
{
	for (uint64_t i = 0; i < pause->name_count; i++)
		watcher->name(watcher->context, pause->names[i].parent, pause->names[i].name->text);
	for (uint64_t i = 0; i < pause->count; i++) {
		struct node *node = pause->nodes[i];
		bool is_news = renew_is_news(node);

		node_clear(node, NODE_STEADY | NODE_STALE);
		if (!is_news)
			continue;
		watcher->node(watcher->context, node->id);
		if (node_is_dir(node) && !node_has(node, NODE_ORPHAN))
			tell_names(core, node, watcher);
	}
	renew_free(core, pause);
}
