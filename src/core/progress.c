/* SPDX-License-Identifier: MIT */
#include "core/progress.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "core/internal.h"

#define PROGRESS_MS_PER_S 1000
#define PROGRESS_NS_PER_MS 1000000

void progress_init(struct progress *progress)
{
	lock_mutex_init(&progress->lock, LOCK_RANK_LEAF);
	list_init(&progress->running);
}

void progress_deinit(struct progress *progress)
{
	assert(list_is_empty(&progress->running));
	lock_mutex_deinit(&progress->lock);
}

/* ---- the copying thread ---- */

void progress_enter(struct progress *progress, struct progress_item *item, struct node *node)
{
	*item = (struct progress_item){ .progress = progress, .node = node };
	clock_gettime(CLOCK_MONOTONIC, &item->started);
	lock_mutex_lock(&progress->lock);
	list_add_tail(&progress->running, &item->link);
	lock_mutex_unlock(&progress->lock);
}

void progress_set_size(struct progress_item *item, uint64_t size)
{
	atomic_store_explicit(&item->size, size, memory_order_relaxed);
}

void progress_set_done(struct progress_item *item, uint64_t done)
{
	atomic_store_explicit(&item->done, done, memory_order_relaxed);
}

void progress_set_finishing(struct progress_item *item)
{
	atomic_store_explicit(&item->phase, CORE_COPYUP_FINISHING, memory_order_relaxed);
}

void progress_leave(struct progress_item *item, int result)
{
	struct progress *progress = item->progress;

	lock_mutex_lock(&progress->lock);
	list_remove(&item->link);
	lock_mutex_unlock(&progress->lock);
	if (result < 0)
		return;
	atomic_fetch_add_explicit(&progress->copyups, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&progress->bytes, atomic_load(&item->done), memory_order_relaxed);
}

/* ---- whoever asks ---- */

/* A copy-up as it was at one moment. */
struct progress_shot {
	struct node *node; /* counted */
	struct core_copyup copyup;
};

/* The parent by one of the node's names, with a reference, and that name; NULL: it has none. */
static struct node *progress_climb(struct core *core, struct node *node, char name[NAME_MAX + 1])
{
	struct node *parent = NULL;

	node_lock(core, node);
	if (node->links) {
		parent = node_ref(node->links->parent);
		memcpy(name, node->links->name, node->links->length);
		name[node->links->length] = '\0';
	}
	node_unlock(core, node);
	return parent;
}

/* Where the union shows @node now; NULL: nowhere any more, or out of memory. */
static char *progress_path(struct core *core, struct node *node)
{
	struct strbuf path = STRBUF_INIT;
	struct node *at = node_ref(node), *parent;
	char name[NAME_MAX + 1];

	while ((parent = progress_climb(core, at, name))) {
		struct strbuf longer = STRBUF_INIT;

		strbuf_append_string(&longer, "/");
		strbuf_append_string(&longer, name);
		strbuf_append(&longer, path.data, path.length);
		longer.failed |= path.failed;
		strbuf_deinit(&path);
		path = longer;
		node_unref(core, at);
		at = parent;
	}
	bool is_reachable = at == core->root;

	node_unref(core, at);
	if (is_reachable && path.length == 0)
		strbuf_append_string(&path, "/");
	if (is_reachable)
		return strbuf_take(&path);
	strbuf_deinit(&path);
	return NULL;
}

static uint64_t progress_ms_since(const struct timespec *started)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)((now.tv_sec - started->tv_sec) * PROGRESS_MS_PER_S +
			  (now.tv_nsec - started->tv_nsec) / PROGRESS_NS_PER_MS);
}

static struct progress_shot progress_take_shot(struct progress_item *item)
{
	return (struct progress_shot){
		.node = node_ref(item->node),
		.copyup = {
			.phase = atomic_load_explicit(&item->phase, memory_order_relaxed),
			.done = atomic_load_explicit(&item->done, memory_order_relaxed),
			.size = atomic_load_explicit(&item->size, memory_order_relaxed),
			.elapsed_ms = progress_ms_since(&item->started),
		},
	};
}

/* At most @max of those under way into @shots; returns how many there are. */
static size_t progress_take_shots(struct progress *progress, struct progress_shot *shots,
				  size_t max)
{
	struct list *at;
	size_t count = 0;

	lock_mutex_lock(&progress->lock);
	list_for_each(at, &progress->running) {
		if (count < max)
			shots[count] =
				progress_take_shot(list_entry(at, struct progress_item, link));
		count++;
	}
	lock_mutex_unlock(&progress->lock);
	return count;
}

int core_copyups(struct core *core, void (*visit)(void *context, const struct core_copyup *copyup),
		 void *context)
{
	size_t max = progress_take_shots(&core->progress, NULL, 0);

	if (max == 0)
		return 0;
	_cleanup_free_ struct progress_shot *shots = calloc(max, sizeof(*shots));

	if (!shots)
		return -ENOMEM;
	/* Those that began since are for the next time. */
	size_t count = progress_take_shots(&core->progress, shots, max);

	for (size_t i = 0; i < MIN(count, max); i++) {
		_cleanup_free_ char *path = progress_path(core, shots[i].node);

		shots[i].copyup.path = path;
		visit(context, &shots[i].copyup);
		node_unref(core, shots[i].node);
	}
	return 0;
}
