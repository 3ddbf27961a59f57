/* SPDX-License-Identifier: MIT */
/*
 * When an index is made.
 *
 * Each lower that is asked in vain is counted, and the index is made when that
 * has cost as much as reading all the names would have: so it never costs more
 * than twice the cheaper of the two ways, whatever is looked up later.  Whoever
 * lists the directory makes it on the way.
 */
#include "core/lowernames.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "format/whiteout.h"
#include "sys/dir.h"
#include "sys/file.h"

/*
 * What reading a directory costs, in lowers asked in vain (two failing calls each, as long as what
 * they look at is in memory): opening and closing it, and its entries, by the bytes they take.
 */
#define LOWERNAMES_COST_OPEN 5
#define LOWERNAMES_BYTES_PER_MISS 512

/* In place of what is due: somebody sees to it, or has made the index, or found that there is none. */
#define LOWERNAMES_DUE_NEVER UINT32_MAX

/* ---- asking ---- */

static uint64_t lowernames_hash(const char *name)
{
	return hash_bytes(name, strlen(name), 0);
}

unsigned int lowernames_next(const struct node_dir *dir, const char *name,
			     struct nameindex_cursor *cursor, unsigned int i, unsigned int *kinds)
{
	if (!cursor->index) {
		const struct nameindex *index =
			atomic_load_explicit(&dir->lower_names, memory_order_acquire);

		if (!index) {
			*kinds = NAMEINDEX_ALL;
			return i;
		}
		nameindex_find(index, lowernames_hash(name), cursor);
	}
	return nameindex_next(cursor, i, &i, kinds) ? i : dir->lower_count;
}

/* ---- making ---- */

bool lowernames_is_wanted(const struct core *core, const struct node_dir *dir)
{
	return dir->lower_count > 1 && !core->layers_change && !core->watch &&
	       !atomic_load_explicit(&dir->lower_names, memory_order_relaxed);
}

void lowernames_begin(struct nameindex_builder *b, const struct layer *layer, int fd)
{
	long magic = layer->magic;

	if ((layer->crosses_mounts && sys_fs_magic(fd, &magic) < 0) ||
	    !sys_dir_lists_all(fd, magic))
		b->has_failed = true;
}

void lowernames_enter(struct nameindex_builder *b, unsigned int lower, const char *name)
{
	switch (whiteout_name_kind(name)) {
	case WHITEOUT_NAME_NONE:
		nameindex_builder_add(b, lowernames_hash(name), lower, NAMEINDEX_ENTRY);
		break;
	case WHITEOUT_NAME_HIDES:
		nameindex_builder_add(b, lowernames_hash(name + WHITEOUT_PREFIX_LENGTH), lower,
				      NAMEINDEX_HIDES);
		break;
	case WHITEOUT_NAME_OPAQUE: /* of the format, never looked up */
	case WHITEOUT_NAME_META:
		break;
	}
}

void lowernames_publish(struct node_dir *dir, const struct nameindex_builder *b)
{
	struct nameindex *none = NULL;
	struct nameindex *index = nameindex_new(b);

	/* Release: who finds it finds what it holds. Two may have made one at the same time. */
	if (index &&
	    !atomic_compare_exchange_strong_explicit(&dir->lower_names, &none, index,
						     memory_order_release, memory_order_relaxed))
		nameindex_free(index);
}

void lowernames_drop(struct node_dir *dir)
{
	nameindex_free(atomic_exchange(&dir->lower_names, NULL));
}

/* ---- reading only for it ---- */

struct lowernames_reading {
	struct nameindex_builder builder;
	unsigned int lower;
};

static int lowernames_visit(const struct sys_dirent *entry, void *context)
{
	struct lowernames_reading *reading = context;

	lowernames_enter(&reading->builder, reading->lower, entry->name);
	return reading->builder.has_failed ? -ENOMEM : 0;
}

static int lowernames_read(struct core *core, struct ldir *ldir, struct lowernames_reading *reading)
{
	if (ldir->is_mount_point) /* what is in it cannot be seen: never asked */
		return 0;
	_cleanup_close_ int fd = ldir_open(&core->fds, ldir);

	if (fd < 0)
		return fd;
	sys_keep_atime(fd);
	lowernames_begin(&reading->builder, ldir->layer, fd);
	return reading->builder.has_failed ? -EOPNOTSUPP :
					     sys_dir_for_each(fd, lowernames_visit, reading);
}

static void lowernames_make(struct core *core, struct node_dir *dir)
{
	struct lowernames_reading reading = { 0 };
	int r = 0;

	nameindex_builder_init(&reading.builder, &core->lower_names_budget);
	for (unsigned int i = 0; i < dir->lower_count && r == 0; i++) {
		reading.lower = i;
		r = lowernames_read(core, dir->lowers[i], &reading);
	}
	if (r == 0)
		lowernames_publish(dir, &reading.builder);
	nameindex_builder_deinit(&reading.builder);
}

/* How many misses cost as much as making the index. */
static uint32_t lowernames_cost(struct core *core, const struct node_dir *dir)
{
	uint64_t cost = 0;

	for (unsigned int i = 0; i < dir->lower_count; i++) {
		struct statx st;

		cost += LOWERNAMES_COST_OPEN;
		if (ldir_stat(&core->fds, dir->lowers[i], &st) == 0)
			cost += st.stx_size / LOWERNAMES_BYTES_PER_MISS;
	}
	return cost < LOWERNAMES_DUE_NEVER ? cost : LOWERNAMES_DUE_NEVER;
}

/*
 * True if what is due is reached, for one thread only. It is looked at after the misses were counted,
 * by everyone who counts some: what one does not see yet, the next will.
 */
static bool lowernames_claim(struct node_dir *dir, uint32_t misses, bool *is_estimated)
{
	uint32_t due = atomic_load_explicit(&dir->lower_names_due, memory_order_relaxed);
	/* It is not to be asked for less. */
	uint32_t least = due ? due : dir->lower_count * LOWERNAMES_COST_OPEN;

	*is_estimated = due;
	return due != LOWERNAMES_DUE_NEVER && misses >= least &&
	       atomic_compare_exchange_strong_explicit(&dir->lower_names_due, &due,
						       LOWERNAMES_DUE_NEVER, memory_order_relaxed,
						       memory_order_relaxed);
}

void lowernames_note_misses(struct core *core, struct node *node, unsigned int misses)
{
	struct node_dir *dir = node->dir;
	bool is_estimated;

	if (!misses || !lowernames_is_wanted(core, dir))
		return;
	misses += atomic_fetch_add_explicit(&dir->lower_misses, misses, memory_order_relaxed);
	if (!lowernames_claim(dir, misses, &is_estimated))
		return;
	if (!is_estimated) {
		uint32_t cost = lowernames_cost(core, dir);

		/* Others may have taken the count over it meanwhile. */
		if (atomic_load_explicit(&dir->lower_misses, memory_order_relaxed) < cost) {
			atomic_store_explicit(&dir->lower_names_due, cost, memory_order_relaxed);
			return;
		}
	}
	lowernames_make(core, dir);
}
