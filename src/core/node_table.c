/* SPDX-License-Identifier: MIT */
/* The tables that find nodes: by name, and by the real inodes they are. */
#include "core/node_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/util.h"
#include "core/internal.h"

#define TABLE_SIZE_MIN 16

/* ---- names ---- */

static uint64_t name_hash(const struct node *parent, const char *name, size_t length)
{
	return hash_bytes(name, length, parent->id);
}

static struct name_stripe *name_stripe(struct core *core, uint64_t hash)
{
	return &core->nodes.names[hash % NODE_STRIPES];
}

static struct link **name_bucket(struct name_stripe *stripe, uint64_t hash)
{
	return &stripe->buckets[hash / NODE_STRIPES & (stripe->size - 1)];
}

/* Makes the table of a stripe @size buckets long; keeps the old one when out of memory. */
static void name_resize_locked(struct name_stripe *stripe, uint64_t size)
{
	struct name_stripe resized = { .size = size };

	resized.buckets = calloc(size, sizeof(*resized.buckets));
	if (!resized.buckets)
		return;
	for (uint64_t i = 0; i < stripe->size; i++) {
		while (stripe->buckets[i]) {
			struct link *link = stripe->buckets[i];
			struct link **to = name_bucket(&resized, link->hash);

			stripe->buckets[i] = link->hash_next;
			link->hash_next = *to;
			*to = link;
		}
	}
	free(stripe->buckets);
	stripe->buckets = resized.buckets;
	stripe->size = size;
}

static struct node *name_find_locked(struct name_stripe *stripe, uint64_t hash,
				     const struct node *parent, const char *name, size_t length)
{
	for (struct link *link = *name_bucket(stripe, hash); link; link = link->hash_next) {
		if (link->hash == hash && link->parent == parent && link->length == length &&
		    memcmp(link->name, name, length) == 0 && node_hold(link->node))
			return link->node;
	}
	return NULL;
}

struct node *node_find_name(struct core *core, struct node *parent, const char *name)
{
	size_t length = strlen(name);
	uint64_t hash = name_hash(parent, name, length);
	struct name_stripe *stripe = name_stripe(core, hash);

	lock_mutex_lock(&stripe->lock);
	struct node *node = name_find_locked(stripe, hash, parent, name, length);

	lock_mutex_unlock(&stripe->lock);
	if (node)
		node_note_use(node);
	return node;
}

/* Cannot fail: every stripe has buckets from the start, and a longer chain is no error. */
static void name_insert_locked(struct name_stripe *stripe, struct link *link)
{
	if (stripe->count >= stripe->size)
		name_resize_locked(stripe, 2 * stripe->size);
	struct link **bucket = name_bucket(stripe, link->hash);

	link->hash_next = *bucket;
	*bucket = link;
	stripe->count++;
	link->next = link->node->links;
	link->node->links = link;
}

/* A short name lies within what is the end of the structure anyway. */
static size_t link_size(size_t length)
{
	return MAX(sizeof(struct link), offsetof(struct link, name) + length + 1);
}

struct link *node_new_link(struct core *core, struct node *node, struct node *parent,
			   const char *name)
{
	size_t length = strlen(name);
	struct link *link = pool_alloc(&core->nodes.pool, link_size(length));

	if (!link)
		return NULL;
	*link = (struct link){
		.node = node,
		.hash = name_hash(parent, name, length),
		.length = length,
	};
	memcpy(link->name, name, length + 1);
	link->parent = node_ref(parent);
	return link;
}

void node_free_link_memory(struct core *core, struct link *link)
{
	pool_free(&core->nodes.pool, link, link_size(link->length));
}

void node_free_link(struct core *core, struct link *link)
{
	if (!link)
		return;
	node_unref(core, link->parent);
	node_free_link_memory(core, link);
}

void node_insert_link(struct core *core, struct link *link)
{
	struct node *node = link->node;
	struct name_stripe *stripe = name_stripe(core, link->hash);

	node_lock(core, node);
	lock_mutex_lock(&stripe->lock);
	name_insert_locked(stripe, link);
	lock_mutex_unlock(&stripe->lock);
	node_clear(node, NODE_ORPHAN);
	node_unlock(core, node);
}

struct node *node_add_name(struct core *core, struct node *node, struct node *parent,
			   const char *name)
{
	struct link *link = node_new_link(core, node, parent, name);

	if (!link)
		return NULL;
	struct name_stripe *stripe = name_stripe(core, link->hash);

	node_lock(core, node);
	lock_mutex_lock(&stripe->lock);
	struct node *owner = name_find_locked(stripe, link->hash, parent, link->name, link->length);

	if (!owner)
		name_insert_locked(stripe, link);
	lock_mutex_unlock(&stripe->lock);
	if (!owner)
		node_clear(node, NODE_ORPHAN);
	node_unlock(core, node);
	if (!owner)
		return node;
	node_free_link(core, link);
	if (owner == node)
		node_unref(core, owner); /* the caller has a reference of its own */
	return owner;
}

/* Takes the link out of the name table. */
static void name_remove(struct core *core, struct link *link)
{
	struct name_stripe *stripe = name_stripe(core, link->hash);

	lock_mutex_lock(&stripe->lock);
	struct link **at = name_bucket(stripe, link->hash);

	while (*at != link)
		at = &(*at)->hash_next;
	*at = link->hash_next;
	stripe->count--;
	if (stripe->size > TABLE_SIZE_MIN && stripe->count < stripe->size / 8)
		name_resize_locked(stripe, stripe->size / 2);
	lock_mutex_unlock(&stripe->lock);
}

void node_remove_name(struct core *core, struct node *node, struct node *parent, const char *name)
{
	struct link *found = NULL;

	node_lock(core, node);
	for (struct link **at = &node->links; *at; at = &(*at)->next) {
		if ((*at)->parent == parent && strcmp((*at)->name, name) == 0) {
			found = *at;
			*at = found->next;
			break;
		}
	}
	if (found)
		name_remove(core, found);
	node_unlock(core, node);
	recall_drop(&core->recall, parent->id, name);
	node_free_link(core, found);
}

struct node *node_get_parent(struct core *core, struct node *node)
{
	node_lock(core, node);
	struct node *parent = node->links ? node_ref(node->links->parent) : NULL;

	node_unlock(core, node);
	return parent;
}

void node_take_names(struct core *core, struct node *node, struct link **names)
{
	while (node->links) {
		struct link *link = node->links;

		node->links = link->next;
		name_remove(core, link);
		link->next = *names;
		*names = link;
	}
}

/* ---- identity ---- */

/* A real inode that a node is: its file in the upper, or its file in a lower. */
struct identity {
	struct identity *hash_next; /* identity table */
	struct identity *next; /* the node's others */
	struct node *node; /* borrowed: the node owns its identities */
	dev_t dev;
	uint64_t ino;
};

static struct identity **identity_bucket(struct identity **table, uint64_t size, dev_t dev,
					 uint64_t ino)
{
	return &table[hash_u64(dev, ino) & (size - 1)];
}

static void identity_resize_locked(struct node_table *table, uint64_t size)
{
	struct identity **resized = calloc(size, sizeof(struct identity *));

	if (!resized)
		return;
	for (uint64_t i = 0; i < table->identity_size; i++) {
		while (table->identities[i]) {
			struct identity *identity = table->identities[i];
			struct identity **to =
				identity_bucket(resized, size, identity->dev, identity->ino);

			table->identities[i] = identity->hash_next;
			identity->hash_next = *to;
			*to = identity;
		}
	}
	free(table->identities);
	table->identities = resized;
	table->identity_size = size;
}

static struct node *identity_find_locked(struct node_table *table, dev_t dev, uint64_t ino)
{
	if (!table->identity_size)
		return NULL;
	struct identity *at = *identity_bucket(table->identities, table->identity_size, dev, ino);

	while (at && (at->ino != ino || at->dev != dev || !node_hold(at->node)))
		at = at->hash_next;
	return at ? at->node : NULL;
}

struct node *node_find_identity(struct core *core, dev_t dev, uint64_t ino)
{
	lock_mutex_lock(&core->nodes.identity_lock);
	struct node *node = identity_find_locked(&core->nodes, dev, ino);

	lock_mutex_unlock(&core->nodes.identity_lock);
	return node;
}

static void identity_insert_locked(struct node_table *table, struct node *node, dev_t dev,
				   uint64_t ino)
{
	if (table->identity_count >= table->identity_size)
		identity_resize_locked(table, table->identity_size ? 2 * table->identity_size :
								     TABLE_SIZE_MIN);
	struct identity *identity = table->identity_size ? malloc(sizeof(*identity)) : NULL;

	if (!identity)
		return;
	struct identity **bucket =
		identity_bucket(table->identities, table->identity_size, dev, ino);

	*identity = (struct identity){
		.hash_next = *bucket,
		.next = node->identities,
		.node = node,
		.dev = dev,
		.ino = ino,
	};
	*bucket = identity;
	node->identities = identity;
	table->identity_count++;
}

struct node *node_add_identity(struct core *core, struct node *node, dev_t dev, uint64_t ino)
{
	struct node_table *table = &core->nodes;

	lock_mutex_lock(&table->identity_lock);
	struct node *first = identity_find_locked(table, dev, ino);

	if (!first)
		identity_insert_locked(table, node, dev, ino);
	lock_mutex_unlock(&table->identity_lock);
	if (first == node)
		node_unref(core, first); /* it was in already: the caller has its own reference */
	return first ? first : node;
}

/* Takes the identity at *@at, a link of its node's list, out of the table. */
static void identity_remove_locked(struct node_table *table, struct identity **at)
{
	struct identity *identity = *at;
	struct identity **bucket = identity_bucket(table->identities, table->identity_size,
						   identity->dev, identity->ino);

	*at = identity->next;
	while (*bucket != identity)
		bucket = &(*bucket)->hash_next;
	*bucket = identity->hash_next;
	free(identity);
	table->identity_count--;
	if (table->identity_size > TABLE_SIZE_MIN &&
	    table->identity_count < table->identity_size / 8)
		identity_resize_locked(table, table->identity_size / 2);
}

void node_remove_identity(struct core *core, struct node *node, dev_t dev, uint64_t ino)
{
	lock_mutex_lock(&core->nodes.identity_lock);
	struct identity **at = &node->identities;

	while (*at && ((*at)->dev != dev || (*at)->ino != ino))
		at = &(*at)->next;
	if (*at)
		identity_remove_locked(&core->nodes, at);
	lock_mutex_unlock(&core->nodes.identity_lock);
}

void node_remove_identities(struct core *core, struct node *node)
{
	lock_mutex_lock(&core->nodes.identity_lock);
	while (node->identities)
		identity_remove_locked(&core->nodes, &node->identities);
	lock_mutex_unlock(&core->nodes.identity_lock);
}

/* ---- the tables ---- */

int node_table_init(struct node_table *table)
{
	bool complete = true;

	*table = (struct node_table){ 0 };
	table->ids = idtable_new();
	if (!table->ids)
		return -ENOMEM;
	pool_init(&table->pool);
	for (int i = 0; i < NODE_STRIPES; i++) {
		lock_mutex_init(&table->nodes[i].lock, LOCK_RANK_NODE);
		pthread_cond_init(&table->nodes[i].copied, NULL);
		lock_mutex_init(&table->names[i].lock, LOCK_RANK_TABLE);
		name_resize_locked(&table->names[i], TABLE_SIZE_MIN);
		complete &= table->names[i].size > 0;
	}
	lock_mutex_init(&table->identity_lock, LOCK_RANK_TABLE);
	if (!complete)
		node_table_deinit(table);
	return complete ? 0 : -ENOMEM;
}

void node_table_deinit(struct node_table *table)
{
	assert(table->identity_count == 0);
	free(table->identities);
	lock_mutex_deinit(&table->identity_lock);
	for (int i = 0; i < NODE_STRIPES; i++) {
		assert(table->names[i].count == 0);
		free(table->names[i].buckets);
		lock_mutex_deinit(&table->names[i].lock);
		pthread_cond_destroy(&table->nodes[i].copied);
		lock_mutex_deinit(&table->nodes[i].lock);
	}
	pool_deinit(&table->pool);
	table->ids = idtable_free(table->ids);
}
