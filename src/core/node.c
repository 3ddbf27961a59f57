/* SPDX-License-Identifier: MIT */
/* Nodes: their life, their locks, their references. */
#include "core/node.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/datafd.h"
#include "core/internal.h"
#include "core/listing.h"
#include "core/lowernames.h"
#include "core/node_table.h"
#include "core/watch.h"

/* ---- one node ---- */

static struct node_dir *node_dir_new(struct core *core)
{
	struct node_dir *dir = pool_alloc(&core->nodes.pool, sizeof(*dir));

	if (!dir)
		return NULL;
	lock_rw_init(&dir->lock, LOCK_RANK_DIR);
	atomic_init(&dir->subdirs, -1);
	return dir;
}

static void node_dir_free(struct core *core, struct node_dir *dir)
{
	watch_forget(core, dir);
	lowernames_drop(dir);
	for (unsigned int i = 0; i < dir->lower_count; i++)
		ldir_unref(&core->fds, dir->lowers[i]);
	free(dir->lowers);
	if (dir->pinned) {
		ldir_unpin(dir->upper);
		atomic_fetch_sub(&core->orphans, 1);
	}
	if (dir->stored)
		workdir_discard(core, dir->upper->name->text);
	ldir_unref(&core->fds, dir->upper);
	free(dir->redirect);
	listing_forget(&core->listings, dir);
	lock_rw_deinit(&dir->lock);
	pool_free(&core->nodes.pool, dir, sizeof(*dir));
}

static void node_file_free(struct core *core, struct node_file *file)
{
	if (!file)
		return;
	if (file->data)
		datafd_unref(core, file->data);
	if (file->backing > 0) /* what was open never got to be */
		core->backing->close(core->backing->context, file->backing);
	if (file->orphan_kept) {
		fdslot_unpin(&file->orphan_slot);
		atomic_fetch_sub(&core->orphans, 1);
	}
	fdslot_close(&core->fds, &file->orphan_slot);
	if (file->orphan_name)
		datafd_discard_orphan(core, file->orphan_name);
	name_unref(file->orphan_name);
	ldir_unref(&core->fds, file->data_dir);
	name_unref(file->data_name);
	free(file->redirect);
	free(file->digest);
	name_unref(file->index_name);
	free(file);
}

static bool node_is_alive(void *object)
{
	return atomic_load_explicit(&((struct node *)object)->refs, memory_order_relaxed) > 0;
}

/* Gives the node the id @id, or a new one if that is 0, or another's who was faster. */
static int node_take_id(struct core *core, struct node *node, uint64_t id)
{
	node->id = id;
	if (id && idtable_restore(core->nodes.ids, id, node, node_is_alive) == 0)
		return 0;
	return idtable_add(core->nodes.ids, node, &node->id);
}

struct node *node_new(struct core *core, mode_t type, uint64_t ino)
{
	return node_new_again(core, type, ino, 0);
}

struct node *node_new_again(struct core *core, mode_t type, uint64_t ino, uint64_t id)
{
	struct node *node = pool_alloc(&core->nodes.pool, sizeof(*node));

	if (!node)
		return NULL;
	atomic_init(&node->refs, 1);
	atomic_init(&node->flags, NODE_RECENT); /* who listed it may ask for it yet */
	node->type = type & S_IFMT;
	node->ino = ino;
	if (S_ISDIR(type)) {
		node->dir = node_dir_new(core);
		if (!node->dir) {
			pool_free(&core->nodes.pool, node, sizeof(*node));
			return NULL;
		}
	}
	if (node_take_id(core, node, id) < 0) {
		if (S_ISDIR(type))
			node_dir_free(core, node->dir);
		pool_free(&core->nodes.pool, node, sizeof(*node));
		return NULL;
	}
	budget_note_more(&core->budget, idtable_count(core->nodes.ids));
	return node;
}

bool node_hold(void *object)
{
	struct node *node = object;
	uint32_t refs = atomic_load_explicit(&node->refs, memory_order_relaxed);

	while (refs > 0) {
		if (atomic_compare_exchange_weak_explicit(&node->refs, &refs, refs + 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

struct node *node_find(struct core *core, uint64_t id)
{
	struct node *node = idtable_find(core->nodes.ids, id, node_hold);

	if (node)
		node_note_use(node);
	return node;
}

struct node *node_ref(struct node *node)
{
	atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
	return node;
}

static struct node_stripe *node_stripe(struct core *core, const struct node *node)
{
	return &core->nodes.nodes[(node->id ^ node->id >> 32) % NODE_STRIPES];
}

void node_lock(struct core *core, struct node *node)
{
	lock_mutex_lock(&node_stripe(core, node)->lock);
}

void node_unlock(struct core *core, struct node *node)
{
	lock_mutex_unlock(&node_stripe(core, node)->lock);
}

void node_wait(struct core *core, struct node *node, unsigned int ms)
{
	struct node_stripe *stripe = node_stripe(core, node);

	lock_cond_wait_ms(&stripe->copied, &stripe->lock, ms);
}

void node_wake(struct core *core, struct node *node)
{
	pthread_cond_broadcast(&node_stripe(core, node)->copied);
}

void node_note_use(struct node *node)
{
	/* Most have it already: then the line stays shared between processors. */
	if (!(atomic_load_explicit(&node->flags, memory_order_relaxed) & NODE_RECENT))
		atomic_fetch_or_explicit(&node->flags, NODE_RECENT, memory_order_relaxed);
}

bool node_has(const struct node *node, uint32_t flags)
{
	return (atomic_load_explicit(&node->flags, memory_order_acquire) & flags) == flags;
}

void node_set(struct node *node, uint32_t flags)
{
	atomic_fetch_or_explicit(&node->flags, flags, memory_order_release);
}

void node_clear(struct node *node, uint32_t flags)
{
	atomic_fetch_and_explicit(&node->flags, ~flags, memory_order_release);
}

bool node_is_merged(const struct node *node)
{
	return node->dir->lower_count + (node_has(node, NODE_UPPER) ? 1 : 0) > 1;
}

struct node_file *node_get_file(struct core *core, struct node *node)
{
	node_lock(core, node);
	if (!node->file) {
		node->file = calloc(1, sizeof(*node->file));
		if (node->file)
			fdslot_init(&node->file->orphan_slot);
	}
	struct node_file *file = node->file;

	node_unlock(core, node);
	return file;
}

void node_lookup_add(struct core *core, struct node *node)
{
	node_lock(core, node);
	if (node->lookups++ == 0)
		node_ref(node);
	node_unlock(core, node);
}

/* Before the kernel's reference goes, so that there is no moment at which nothing leads to it. */
static void node_remember_locked(struct core *core, const struct node *node)
{
	for (const struct link *link = node->links; link; link = link->next) {
		const struct recall_entry entry = {
			.id = node->id,
			.ino = node->ino,
			.parent = link->parent->id,
			.name = link->name,
			.length = link->length,
		};

		recall_note(&core->recall, &entry);
	}
}

void node_forget(struct core *core, struct node *node, uint64_t count)
{
	node_lock(core, node);
	bool had = node->lookups > 0;

	node->lookups -= count < node->lookups ? count : node->lookups;
	bool gone = had && node->lookups == 0;

	if (gone)
		node_remember_locked(core, node);
	node_unlock(core, node);
	if (gone)
		node_unref(core, node);
}

void node_forget_id(struct core *core, uint64_t id, uint64_t count)
{
	struct node *node = idtable_find(core->nodes.ids, id, node_hold);

	if (!node)
		return;
	node_forget(core, node, count);
	node_unref(core, node);
}

/* ---- the end of a node ---- */

/* Frees a node nobody refers to; returns the parents of its names chained to @parents. */
static void node_free(struct core *core, struct node *node, struct link **parents)
{
	if (!node_is_dir(node))
		node_remove_identities(core, node);
	node_take_names(core, node, parents);
	idtable_remove(core->nodes.ids, node->id, node);
	budget_note_less(&core->budget, idtable_count(core->nodes.ids));
	if (node_is_dir(node))
		node_dir_free(core, node->dir);
	else
		node_file_free(core, node->file);
	ldir_unref(&core->fds, node->lower_dir);
	name_unref(node->lower_name);
	pool_free(&core->nodes.pool, node, sizeof(*node));
}

struct node *node_unref(struct core *core, struct node *node)
{
	struct link *parents = NULL;

	/* A node's end may be its parent's, and so on up: a loop, trees may be of any depth. */
	while (node) {
		if (atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) == 1)
			node_free(core, node, &parents);
		node = NULL;
		if (parents) {
			struct link *link = parents;

			parents = link->next;
			node = link->parent;
			node_free_link_memory(core, link);
		}
	}
	return NULL;
}
