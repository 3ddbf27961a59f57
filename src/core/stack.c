/* SPDX-License-Identifier: MIT */
/* The union object: made from its layers, its root, and its end. */
#include <assert.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "core/index.h"
#include "core/internal.h"
#include "core/layers.h"
#include "core/lowernames.h"
#include "core/origintable.h"
#include "core/owner.h"
#include "core/readdir.h"
#include "core/upper.h"
#include "core/watch.h"
#include "format/whiteout.h"
#include "sys/creds.h"
#include "sys/file.h"

/*
 * Nodes forgotten in one walk over the table. Each walk begins at the start of it, so the work is
 * the square of how many walks it takes.
 */
#define CORE_FORGET_BATCH 16384

/* ---- making ---- */

static void core_take_config(struct core *core, const struct core_config *config)
{
	core->redirect = config->redirect;
	core->fsync = config->fsync;
	core->metacopy = config->metacopy;
	core->verity = config->verity;
	core->read_only = config->read_only || !config->upperdir;
	core->unlocked = config->unlocked && core->read_only;
	core->static_nlink = config->static_nlink;
	core->noatime = config->noatime;
	core->metacopy_write = config->metacopy && config->metacopy_write;
	core->layers_change = config->layers_change;
	core->can_chown = sys_creds_has_cap(CAP_CHOWN);
	core->in_userns = !sys_creds_is_initial_userns();
	core->can_open_handles = !core->in_userns && sys_creds_has_cap(CAP_DAC_READ_SEARCH);
	owner_init(core);
	core->can_override = sys_creds_has_cap(CAP_DAC_OVERRIDE);
}

/* More are of little use, and each keeps an inode in the kernel's memory. */
#define CORE_FDS_MAX 16384U

/* The cache's share of the descriptors; the rest is for calls under way and the transport. */
static unsigned int core_fd_budget(const struct core_config *config)
{
	unsigned int limit = MIN(sys_raise_nofile(), CORE_FDS_MAX);

	sys_grow_fd_table(limit);
	if (config->max_fds)
		return config->max_fds;
	return limit < 256 ? limit / 2 : limit / 4 * 3;
}

/* A union without layers, which core_free() takes apart; NULL: out of memory. */
static struct core *core_alloc(const struct core_config *config)
{
	struct core *core = calloc(1, sizeof(*core));

	if (!core)
		return NULL;
	core->handles = idtable_new();
	if (!core->handles || node_table_init(&core->nodes) < 0) {
		if (core->handles)
			idtable_free(core->handles);
		free(core);
		return NULL;
	}
	unsigned int budget = core_fd_budget(config);

	fdcache_init(&core->fds, budget);
	core->orphan_max = budget / 4;
	ident_init(&core->ident);
	recall_init(&core->recall, config->nfs_export ? RECALL_LIMIT_EXPORT : RECALL_LIMIT_DEFAULT);
	progress_init(&core->progress);
	ahead_init(&core->ahead);
	core->lower_names_budget.max = LOWERNAMES_MAX;
	listing_cache_init(&core->listings);
	lock_mutex_init(&core->index_lock, LOCK_RANK_INDEX);
	lock_mutex_init(&core->rename_lock, LOCK_RANK_RENAME);
	atomic_init(&core->origins_fd, -1);
	core->work.fd = core->work.base_fd = core->work.upper_fd = -1;
	lock_mutex_init(&core->work.whiteout_lock, LOCK_RANK_LEAF);
	atomic_init(&core->work.can_link_whiteout, true);
	core_take_config(core, config);
	return core;
}

/* True if the lower root says, in the image layers' way, that nothing below it is to be seen. */
static bool core_root_is_opaque(const struct layer *layer)
{
	struct statx st;

	return sys_stat(layer->fd, WHITEOUT_OPAQUE_NAME, &st) == 0;
}

/*
 * All layers' roots merge.  The opaque attribute of a root is not looked at, which is what the
 * kernel does; ".wh..wh..opq" counts as in any other lower directory.
 */
static int core_merge_roots(struct core *core, struct node_dir *dir)
{
	unsigned int first = core->has_upper ? 1 : 0;
	unsigned int end = core->layer_count - core->data_count;

	dir->lowers = calloc(end - first, sizeof(*dir->lowers));
	if (!dir->lowers)
		return -ENOMEM;
	for (unsigned int i = first; i < end; i++) {
		dir->lowers[dir->lower_count++] = ldir_ref(core->layers[i].root);
		if (core_root_is_opaque(&core->layers[i]))
			break;
	}
	if (core->has_upper)
		dir->upper = ldir_ref(core->layers[0].root);
	return 0;
}

static int core_make_root(struct core *core)
{
	const struct ldir *top = core->layers[0].root; /* the upper, if there is one */
	struct node *root = node_new(core, S_IFDIR, ident_ino(&core->ident, top->dev, top->ino));

	if (!root)
		return -ENOMEM;
	core->root = root;
	if (!ENSURE(root->id == CORE_ROOT))
		return -EIO;
	if (core->has_upper) {
		node_set(root, NODE_UPPER);
		root->upper_ino = top->ino;
		owner_note(core, root, core->layers[0].fd, "");
	}
	return core_merge_roots(core, root->dir);
}

int core_new(const struct core_config *config, struct core **corep, struct strbuf *why)
{
	struct core *core = core_alloc(config);
	int r = core ? layers_open(core, config, why) : -ENOMEM;

	if (r == 0 && config->no_user_redirect && core->ns == XATTR_USER) {
		core->redirect = CORE_REDIRECT_NOFOLLOW;
		core->metacopy_write = false;
	}
	for (unsigned int i = 1; r == 0 && i < core->layer_count - core->data_count; i++)
		core->keeps_numbers |=
			core->has_upper &&
			(config->cross_mounts || !origintable_is_followed(core, &core->layers[i]));
	if (r == 0 && config->index != CORE_INDEX_OFF)
		r = index_init(core, config->index == CORE_INDEX_ON, why);
	if (r == 0 && config->watch)
		r = watch_init(core, why);
	if (r == 0)
		r = core_make_root(core);
	if (r < 0) {
		if (core)
			core_free(core);
		if (!why->length)
			strbuf_append_string(why, strerror(-r));
		return r;
	}
	*corep = core;
	return 0;
}

/* ---- the end ---- */

struct core_batch {
	uint64_t ids[CORE_FORGET_BATCH];
	unsigned int count;
};

static void core_note_node(void *object, void *context)
{
	const struct node *node = object;
	struct core_batch *batch = context;

	if (node->lookups > 0 && batch->count < CORE_FORGET_BATCH)
		batch->ids[batch->count++] = node->id;
}

/* The kernel does not forget what it knows when a connection ends: this does it instead. */
static void core_forget_all(struct core *core)
{
	struct core_batch batch;

	do {
		batch.count = 0;
		idtable_for_each(core->nodes.ids, core_note_node, &batch);
		for (unsigned int i = 0; i < batch.count; i++)
			core_forget(core, batch.ids[i], UINT64_MAX);
	} while (batch.count > 0);
}

static void core_sync(struct core *core)
{
	if (core->read_only || core->fsync == CORE_FSYNC_VOLATILE)
		return;
	int r = sys_syncfs(core->layers[0].fd);

	if (r < 0)
		log_error("upperdir=%s: cannot be synced: %s", core->layers[0].path, strerror(-r));
}

struct core *core_free(struct core *core)
{
	if (!core)
		return NULL;
	bool was_live = core->root;

	ahead_deinit(&core->ahead);
	recall_close(&core->recall);
	readdir_close_all(core);
	if (was_live) {
		core_forget_all(core);
		core->root = node_unref(core, core->root);
	}
	index_deinit(core);
	origintable_deinit(core);
	workdir_deinit(core);
	if (was_live)
		core_sync(core);
	layers_close(core);
	watch_deinit(core);
	node_table_deinit(&core->nodes);
	idtable_free(core->handles);
	fdcache_deinit(&core->fds);
	ident_deinit(&core->ident);
	recall_deinit(&core->recall);
	progress_deinit(&core->progress);
	listing_cache_deinit(&core->listings);
	lock_mutex_deinit(&core->index_lock);
	lock_mutex_deinit(&core->rename_lock);
	free(core);
	return NULL;
}

/* ---- facts ---- */

bool core_is_read_only(const struct core *core)
{
	return core->read_only;
}

bool core_is_half_done(const struct core *core)
{
	return atomic_load(&core->is_half_done);
}

bool core_uses_user_xattrs(const struct core *core)
{
	return core->ns == XATTR_USER;
}

void core_faults_arm(void)
{
	upper_faults_arm();
}

void core_set_backing(struct core *core, const struct core_backing *backing)
{
	core->backing = backing;
}

void core_trim(struct core *core)
{
	fdcache_trim(&core->fds);
	idtable_trim(core->nodes.ids);
	idtable_trim(core->handles);
	pool_trim(&core->nodes.pool);
}

void core_do_without_open(struct core *core)
{
	core->no_open = true;
}

bool core_can_reopen(const struct core *core)
{
	return core->can_override && core->verity == CORE_VERITY_OFF;
}

bool core_passes_stacked(const struct core *core)
{
	unsigned int count = core->read_only ? core->layer_count : core->has_upper;

	for (unsigned int i = 0; i < count; i++) {
		long magic;

		if (core->layers[i].crosses_mounts) /* to what, nobody knows */
			return true;
		if (sys_fs_magic(core->layers[i].fd, &magic) == 0 &&
		    (magic == OVERLAYFS_SUPER_MAGIC || magic == FUSE_SUPER_MAGIC))
			return true;
	}
	return false;
}

int core_statfs(struct core *core, struct statvfs *st)
{
	int r = sys_statvfs(core->layers[0].fd, st);

	if (r < 0)
		return r;
	for (unsigned int i = 1; i < core->layer_count; i++) {
		struct statvfs other;

		if (sys_statvfs(core->layers[i].fd, &other) == 0)
			st->f_namemax = MAX(st->f_namemax, other.f_namemax);
	}
	return 0;
}
