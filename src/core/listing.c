/* SPDX-License-Identifier: MIT */
/*
 * Merging the names of a directory's layers.
 *
 * The layers are read top first into one array; a hash table over it (open
 * addressing, indexes into the array) says whether a name was met before.  A
 * whiteout takes part like a name, marked hidden, and is left out at the end.
 */
#include "core/listing.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "core/ahead.h"
#include "core/internal.h"
#include "core/lookup.h"
#include "core/lowernames.h"
#include "core/probe.h"
#include "core/watch.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define LISTING_SLOTS_MIN 64

/* ---- one layer's directory ---- */

void listing_part_init(struct listing_part *part, struct core *core, const struct ldir *ldir,
		       int fd)
{
	const struct layer *layer = ldir->layer;
	char value[2];

	*part = (struct listing_part){
		.core = core,
		.ldir = ldir,
		.fd = fd,
		.is_lower = !layer->is_upper,
		.has_subvolumes = layer->magic == BTRFS_SUPER_MAGIC || layer->crosses_mounts,
		.has_devices = layer->magic == OVERLAYFS_SUPER_MAGIC,
	};
	if (!part->is_lower || !atomic_load(&layer->xwhiteouts))
		return;
	/* The mark keeps ordinary directories from asking for each empty file. */
	ssize_t size = sys_getxattr(fd, core_key(core, XATTR_OPAQUE), value, sizeof(value));

	part->has_xwhiteouts = size > 0 && opaque_parse(value, size) == OPAQUE_XWHITEOUTS;
}

static enum listing_kind listing_kind_by_name(const char *name)
{
	switch (whiteout_name_kind(name)) {
	case WHITEOUT_NAME_NONE:
		return LISTING_SHOWN;
	case WHITEOUT_NAME_HIDES:
		return LISTING_NAME_HIDES;
	case WHITEOUT_NAME_OPAQUE:
	case WHITEOUT_NAME_META:
		break;
	}
	return LISTING_NOTHING;
}

/* True if the entry alone does not tell what it is. */
static bool listing_needs_stat(const struct listing_part *part, unsigned char type)
{
	return type == DT_CHR || type == DT_UNKNOWN || part->has_devices ||
	       (type == DT_REG && part->has_xwhiteouts) || (type == DT_DIR && part->has_subvolumes);
}

void listing_classify(const struct listing_part *part, const struct sys_dirent *entry,
		      struct listing_seen *seen)
{
	struct core *core = part->core;
	dev_t dev = part->ldir->dev;
	uint64_t ino = entry->ino;

	*seen = (struct listing_seen){ .kind = LISTING_SHOWN, .type = entry->type };
	if (part->is_lower)
		seen->kind = listing_kind_by_name(entry->name);
	if (seen->kind != LISTING_SHOWN)
		return;
	if (listing_needs_stat(part, entry->type)) {
		struct statx st;

		if (probe_stat(core, part->ldir, part->fd, entry->name, &st) < 0) {
			seen->kind = LISTING_NOTHING;
			return;
		}
		seen->type = IFTODT(st.stx_mode);
		dev = sys_stat_dev(&st);
		ino = st.stx_ino;
		if (whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)) ||
		    (part->has_xwhiteouts &&
		     probe_is_xattr_whiteout(core, part->fd, entry->name, &st))) {
			seen->kind = LISTING_WHITEOUT;
			return;
		}
	}
	seen->ino = ident_ino(&core->ident, dev, ino);
}

/* ---- building ---- */

struct listing_name {
	struct listing_entry entry;
	uint16_t part; /* where it was met first */
	bool is_hidden;
};

struct listing_builder {
	struct core *core;
	struct listing_name *items; /* owned, as are the arrays below */
	uint32_t *slots; /* index + 1 into items; 0: free */
	char *names;
	uint32_t count, size, slot_count, names_used, names_size;
	/* The part being read. */
	struct listing_part part;
	uint16_t part_index;
	bool is_last_part;
	bool is_impure; /* the upper part: its entries' numbers come from elsewhere */
	bool stop_at_first; /* end with 1 at the first name that is shown */
	struct nameindex_builder *lower_names; /* borrowed; made on the way, or NULL */
};

static void listing_builder_deinit(struct listing_builder *b)
{
	free(b->items);
	free(b->slots);
	free(b->names);
}

/* Doubles *@sizep until @need fits; both arrays are indexed by 32 bits. */
static int listing_grow(void **array, uint32_t *sizep, uint64_t need, size_t item_size)
{
	uint64_t size = *sizep ? *sizep : LISTING_SLOTS_MIN;

	if (need <= *sizep)
		return 0;
	while (size < need)
		size *= 2;
	if (size > UINT32_MAX)
		return -ENOMEM;
	void *grown = realloc(*array, size * item_size);

	if (!grown)
		return -ENOMEM;
	*array = grown;
	*sizep = size;
	return 0;
}

/* The slot of the name: the one that has it, or the free one where it belongs. */
static uint32_t *listing_slot(const struct listing_builder *b, const char *name, size_t length)
{
	uint32_t mask = b->slot_count - 1;
	uint32_t at = hash_bytes(name, length, 0) & mask;

	for (; b->slots[at]; at = (at + 1) & mask) {
		const struct listing_entry *entry = &b->items[b->slots[at] - 1].entry;

		if (entry->name_length == length &&
		    memcmp(b->names + entry->name, name, length) == 0)
			break;
	}
	return &b->slots[at];
}

/* Keeps at least half of the slots free. */
static int listing_grow_slots(struct listing_builder *b)
{
	if (b->count < b->slot_count / 2)
		return 0;
	uint32_t count = b->slot_count ? 2 * b->slot_count : LISTING_SLOTS_MIN;
	uint32_t *slots = count ? calloc(count, sizeof(*slots)) : NULL;

	if (!slots)
		return -ENOMEM;
	free(b->slots);
	b->slots = slots;
	b->slot_count = count;
	for (uint32_t i = 0; i < b->count; i++) {
		const struct listing_entry *entry = &b->items[i].entry;

		*listing_slot(b, b->names + entry->name, entry->name_length) = i + 1;
	}
	return 0;
}

/* Takes a name that was not met before; @slot is its place. */
static int listing_add(struct listing_builder *b, uint32_t *slot, const char *name, size_t length,
		       const struct listing_seen *seen)
{
	int r = listing_grow((void **)&b->items, &b->size, b->count + UINT64_C(1),
			     sizeof(*b->items));

	if (r == 0)
		r = listing_grow((void **)&b->names, &b->names_size,
				 (uint64_t)b->names_used + length + 1, 1);
	if (r < 0)
		return r;
	struct listing_name *item = &b->items[b->count];

	*item = (struct listing_name){
		.entry = {
			.ino = b->is_impure ? 0 : seen->ino,
			.name = b->names_used,
			.name_length = length,
			.type = seen->type,
		},
		.part = b->part_index,
		.is_hidden = seen->kind != LISTING_SHOWN,
	};
	memcpy(b->names + b->names_used, name, length + 1);
	b->names_used += length + 1;
	*slot = ++b->count;
	return 0;
}

/* A name that was met before is met again. Returns whether it is shown only now. */
static bool listing_meet(struct listing_builder *b, struct listing_name *item,
			 const struct listing_seen *seen)
{
	if (seen->kind != LISTING_SHOWN)
		return false;
	if (item->part == b->part_index) {
		/* ".wh.NAME" hides what is below, not what lies beside it. */
		item->entry.ino = b->is_impure ? 0 : seen->ino;
		item->entry.type = seen->type;
		item->is_hidden = false;
		return true;
	}
	/* An upper directory over lower ones has the number of the first of those it merges
	 * with, and which that is, if any, only a lookup tells. */
	if (item->part == 0 && seen->type == DT_DIR)
		item->entry.ino = 0;
	return false;
}

static int listing_visit(const struct sys_dirent *entry, void *context)
{
	struct listing_builder *b = context;
	const char *name = entry->name;
	size_t length = entry->name_length;
	struct listing_seen seen;

	if (b->lower_names && b->part.is_lower)
		lowernames_enter(b->lower_names, b->part_index - 1U, name);
	listing_classify(&b->part, entry, &seen);
	if (seen.kind == LISTING_NOTHING || (seen.kind != LISTING_SHOWN && b->is_last_part))
		return 0;
	if (seen.kind == LISTING_NAME_HIDES) {
		name += WHITEOUT_PREFIX_LENGTH;
		length -= WHITEOUT_PREFIX_LENGTH;
	}
	int r = listing_grow_slots(b);

	if (r < 0)
		return r;
	uint32_t *slot = listing_slot(b, name, length);
	bool is_new_name = !*slot && seen.kind == LISTING_SHOWN;

	if (*slot)
		is_new_name = listing_meet(b, &b->items[*slot - 1], &seen);
	else
		r = listing_add(b, slot, name, length, &seen);
	return r == 0 && is_new_name && b->stop_at_first ? 1 : r;
}

/* Reads one part. Returns 1 if stopped at the first name, 0 or -errno. */
static int listing_read_part(struct listing_builder *b, struct ldir *ldir)
{
	if (ldir->is_mount_point)
		return 0;
	_cleanup_close_ int fd = ldir_open(&b->core->fds, ldir);

	if (fd < 0)
		return fd;
	sys_keep_atime(fd); /* nobody has asked for the names yet: readdir_mark_access() */
	listing_part_init(&b->part, b->core, ldir, fd);
	if (b->lower_names && b->part.is_lower)
		lowernames_begin(b->lower_names, ldir->layer, fd);
	return sys_dir_for_each(fd, listing_visit, b);
}

/* The real directories of a node, top first, by reference. */
struct listing_parts {
	struct ldir **items;
	unsigned int count;
	bool has_upper;
};

static int listing_parts_get(struct core *core, struct node *node, struct listing_parts *parts)
{
	struct node_dir *dir = node->dir;

	*parts = (struct listing_parts){ 0 };
	parts->items = calloc(dir->lower_count + 1, sizeof(struct ldir *));
	if (!parts->items)
		return -ENOMEM;
	node_lock(core, node);
	parts->has_upper = dir->upper;
	if (dir->upper)
		parts->items[parts->count++] = ldir_ref(dir->upper);
	for (unsigned int i = 0; i < dir->lower_count; i++)
		parts->items[parts->count++] = ldir_ref(dir->lowers[i]);
	node_unlock(core, node);
	return 0;
}

static void listing_parts_put(struct core *core, struct listing_parts *parts)
{
	for (unsigned int i = 0; i < parts->count; i++)
		ldir_unref(&core->fds, parts->items[i]);
	free(parts->items);
}

/* Reads all parts into the zeroed @b. Returns 1 if stopped at the first name, 0 or -errno. */
static int listing_read(struct core *core, struct node *node, struct listing_builder *b)
{
	struct listing_parts parts;
	struct ahead_dirs ahead;
	int r = listing_parts_get(core, node, &parts);

	b->core = core;
	ahead_dirs_start(&ahead, parts.count);
	for (unsigned int i = 0; i < parts.count && r == 0; i++) {
		b->part_index = i + (parts.has_upper ? 0 : 1); /* 0 is the upper */
		b->is_last_part = i + 1 == parts.count;
		b->is_impure = i == 0 && parts.has_upper && lookup_is_impure(core, node);
		r = listing_read_part(b, parts.items[i]);
		if (r == 0 && ahead_dirs_step(&ahead))
			ahead_dirs_ask(&ahead, core, parts.items + i + 1, parts.count - i - 1,
				       NULL);
	}
	ahead_dirs_end(&ahead, core);
	listing_parts_put(core, &parts);
	return r;
}

/* ---- listings ---- */

struct listing *listing_ref(struct listing *listing)
{
	atomic_fetch_add_explicit(&listing->refs, 1, memory_order_relaxed);
	return listing;
}

struct listing *listing_unref(struct listing *listing)
{
	if (listing && atomic_fetch_sub_explicit(&listing->refs, 1, memory_order_acq_rel) == 1) {
		free(listing->entries);
		free(listing->names);
		free(listing);
	}
	return NULL;
}

/* The names that are shown, in the order they were met; takes the names' memory. */
static struct listing *listing_finish(struct listing_builder *b, uint64_t version)
{
	struct listing *listing = calloc(1, sizeof(*listing));

	if (!listing)
		return NULL;
	atomic_init(&listing->refs, 1);
	listing->version = version;
	listing->entries = malloc((b->count + UINT64_C(1)) * sizeof(*listing->entries));
	if (!listing->entries)
		return listing_unref(listing);
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->items[i].is_hidden)
			continue;
		listing->entries[listing->count++] = b->items[i].entry;
		listing->subdirs += b->items[i].entry.type == DT_DIR;
	}
	listing->size = sizeof(*listing) + (b->count + UINT64_C(1)) * sizeof(*listing->entries) +
			b->names_size;
	listing->names = ptr_take(b->names);
	return listing;
}

/* Reads all parts into the zeroed @b, and what lookups can make use of. */
static int listing_read_whole(struct core *core, struct node *node, struct listing_builder *b)
{
	struct nameindex_builder lower_names;

	if (!lowernames_is_wanted(core, node->dir))
		return listing_read(core, node, b);
	nameindex_builder_init(&lower_names, &core->lower_names_budget);
	b->lower_names = &lower_names;
	int r = listing_read(core, node, b);

	if (r == 0)
		lowernames_publish(node->dir, &lower_names);
	nameindex_builder_deinit(&lower_names);
	b->lower_names = NULL;
	return r;
}

/* Reads the directory anew. */
static int listing_make(struct core *core, struct node *node, struct listing **listingp)
{
	watch_dir(core, node);
	/* Before the first name is read: a change while reading makes the listing an old one. */
	uint64_t version = atomic_load(&node->dir->version);
	struct listing_builder b = { 0 };
	int r = listing_read_whole(core, node, &b);
	struct listing *listing = r == 0 ? listing_finish(&b, version) : NULL;

	listing_builder_deinit(&b);
	if (r == 0 && !listing)
		r = -ENOMEM;
	if (r == 0)
		*listingp = listing;
	return r;
}

/* ---- the cache ---- */

void listing_cache_init(struct listing_cache *cache)
{
	lock_mutex_init(&cache->lock, LOCK_RANK_LEAF);
	list_init(&cache->ring);
}

void listing_cache_deinit(struct listing_cache *cache)
{
	assert(list_is_empty(&cache->ring) && cache->size == 0);
	lock_mutex_deinit(&cache->lock);
}

/* The listing that @dir keeps, which it does no more; or NULL. */
static struct listing *listing_take_locked(struct listing_cache *cache, struct node_dir *dir)
{
	struct listing *listing = dir->listing;

	if (listing) {
		list_remove(&dir->listing_ring);
		cache->size -= listing->size;
		dir->listing = NULL;
	}
	return listing;
}

static void listing_put_locked(struct listing_cache *cache, struct node_dir *dir,
			       struct listing *listing)
{
	dir->listing = listing_ref(listing);
	cache->size += listing->size;
	list_add_tail(&cache->ring, &dir->listing_ring);
}

void listing_forget(struct listing_cache *cache, struct node_dir *dir)
{
	lock_mutex_lock(&cache->lock);
	struct listing *listing = listing_take_locked(cache, dir);

	lock_mutex_unlock(&cache->lock);
	listing_unref(listing);
}

/* Lets go of what was not used for longest until there is room; but not of what @dir keeps. */
static void listing_make_room(struct listing_cache *cache, const struct node_dir *dir)
{
	struct listing *old = NULL;

	do {
		listing_unref(old);
		old = NULL;
		lock_mutex_lock(&cache->lock);
		if (cache->size > LISTING_CACHE_MAX) {
			struct node_dir *first =
				list_entry(cache->ring.next, struct node_dir, listing_ring);

			if (first != dir)
				old = listing_take_locked(cache, first);
		}
		lock_mutex_unlock(&cache->lock);
	} while (old);
}

struct listing *listing_find(struct core *core, struct node *node)
{
	struct listing_cache *cache = &core->listings;
	struct node_dir *dir = node->dir;
	struct listing *listing = NULL;

	lock_mutex_lock(&cache->lock);
	if (dir->listing && dir->listing->version == atomic_load(&dir->version) &&
	    !core->layers_change) {
		listing = listing_take_locked(cache, dir);
		listing_put_locked(cache, dir, listing); /* used last */
	}
	lock_mutex_unlock(&cache->lock);
	return listing;
}

/* Keeps the listing for the next reader. */
static void listing_keep(struct core *core, struct node *node, struct listing *listing)
{
	struct listing_cache *cache = &core->listings;

	lock_mutex_lock(&cache->lock);
	struct listing *old = listing_take_locked(cache, node->dir);

	listing_put_locked(cache, node->dir, listing);
	lock_mutex_unlock(&cache->lock);
	listing_unref(old);
	listing_make_room(cache, node->dir);
}

/* ---- the listing of a directory ---- */

int listing_get(struct core *core, struct node *node, struct listing **listingp)
{
	struct node_dir *dir = node->dir;
	struct listing *listing = listing_find(core, node);
	int r = 0;

	if (!listing) {
		lock_rw_read(&dir->lock);
		r = dir->dead ? -ENOENT : listing_make(core, node, &listing);
		lock_rw_read_unlock(&dir->lock);
		if (r < 0)
			return r;
		listing_keep(core, node, listing);
	}
	*listingp = listing;
	return r;
}

/*
 * A change counts itself into a known number after it has raised the version: one that comes
 * between the two steps here finds the number, or is found by the second look at the version.
 */
void listing_keep_subdirs(struct node_dir *dir, uint64_t count, uint64_t version)
{
	atomic_store(&dir->subdirs, (int64_t)count);
	if (atomic_load(&dir->version) != version)
		atomic_store(&dir->subdirs, -1);
}

int listing_count_subdirs(struct core *core, struct node *node, uint64_t *count)
{
	int64_t known = core->layers_change ? -1 : atomic_load(&node->dir->subdirs);

	if (known >= 0) {
		*count = known;
		return 0;
	}
	struct listing *listing = listing_find(core, node);
	bool whole = listing || lock_rw_try_read(&node->dir->lock);
	int r = 0;

	if (!listing) {
		/* Whoever changes names may be who asks. What is seen of a change then is not
		 * kept: the change would be counted once more at its end. */
		r = listing_make(core, node, &listing);
		if (r == 0 && whole)
			listing_keep(core, node, listing);
		if (whole)
			lock_rw_read_unlock(&node->dir->lock);
		if (r < 0)
			return r;
	}
	*count = listing->subdirs;
	if (whole)
		listing_keep_subdirs(node->dir, listing->subdirs, listing->version);
	listing_unref(listing);
	return 0;
}

int listing_check_empty(struct core *core, struct node *node)
{
	struct listing_builder b = { .stop_at_first = true };
	int r = listing_read(core, node, &b);

	listing_builder_deinit(&b);
	return r > 0 ? -ENOTEMPTY : r;
}
