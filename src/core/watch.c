/* SPDX-License-Identifier: MIT */
/* Watching the layers for what others do there. */
#include "core/watch.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "core/lookup.h"
#include "core/tell.h"
#include "format/whiteout.h"

#define WATCH_BUCKETS_MIN 256
/* Nodes that one event is about: a real directory is part of one, or of a few if it was moved. */
#define WATCH_TARGETS_MAX 8

/* One real directory that is part of one directory of the union. */
struct watch_mark {
	struct watch_mark *hash_next;
	struct watch_mark *next; /* the node's others */
	struct ldir *ldir; /* counted */
	uint64_t node; /* its id */
	uint64_t hash;
	int type;
	unsigned int size;
	unsigned char bytes[]; /* of the handle */
};

/* ---- the table ---- */

int watch_init(struct core *core, struct strbuf *why)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return -ENOMEM;
	watch->buckets = calloc(WATCH_BUCKETS_MIN, sizeof(struct watch_mark *));
	watch->size = WATCH_BUCKETS_MIN;
	watch->fd = watch->buckets ? sys_watch_new() : -ENOMEM;
	if (watch->fd < 0) {
		int r = watch->fd;

		free(watch->buckets);
		free(watch);
		strbuf_append_format(why,
				     "watch: fanotify cannot be had here (%s); timeout=0 is "
				     "another way",
				     strerror(-r));
		return r;
	}
	lock_mutex_init(&watch->lock, LOCK_RANK_LEAF);
	core->watch = watch;
	return 0;
}

void watch_deinit(struct core *core)
{
	struct watch *watch = ptr_take(core->watch);

	if (!watch)
		return;
	assert(watch->count == 0);
	lock_mutex_deinit(&watch->lock);
	close(watch->fd);
	free(watch->buckets);
	free(watch);
}

static struct watch_mark **watch_bucket(const struct watch *watch, uint64_t hash)
{
	return &watch->buckets[hash & (watch->size - 1)];
}

static uint64_t watch_hash(int type, const unsigned char *bytes, unsigned int size)
{
	return hash_bytes(bytes, size, (uint64_t)type);
}

static bool watch_is(const struct watch_mark *mark, uint64_t hash, int type,
		     const unsigned char *bytes, unsigned int size)
{
	return mark->hash == hash && mark->type == type && mark->size == size &&
	       memcmp(mark->bytes, bytes, size) == 0;
}

/* Makes the table longer when it is full; without memory the chains get longer. */
static void watch_grow_locked(struct watch *watch)
{
	struct watch old = { .buckets = watch->buckets, .size = watch->size };
	struct watch_mark **buckets = calloc(2 * old.size, sizeof(struct watch_mark *));

	if (!buckets)
		return;
	watch->buckets = buckets;
	watch->size = 2 * old.size;
	for (uint64_t i = 0; i < old.size; i++) {
		while (old.buckets[i]) {
			struct watch_mark *mark = old.buckets[i];
			struct watch_mark **to = watch_bucket(watch, mark->hash);

			old.buckets[i] = mark->hash_next;
			mark->hash_next = *to;
			*to = mark;
		}
	}
	free(old.buckets);
}

/* ---- marks ---- */

static struct watch_mark *watch_mark_new(struct ldir *ldir, uint64_t node,
					 const struct sys_handle *handle)
{
	struct watch_mark *mark = malloc(sizeof(*mark) + handle->size);

	if (!mark)
		return NULL;
	*mark = (struct watch_mark){
		.ldir = ldir_ref(ldir),
		.node = node,
		.hash = watch_hash(handle->type, handle->bytes, handle->size),
		.type = handle->type,
		.size = handle->size,
	};
	memcpy(mark->bytes, handle->bytes, handle->size);
	return mark;
}

static void watch_mark_free(struct core *core, struct watch_mark *mark)
{
	ldir_unref(&core->fds, mark->ldir);
	free(mark);
}

static bool watch_has_locked(const struct node_dir *dir, const struct ldir *ldir)
{
	const struct watch_mark *mark = dir->marks;

	while (mark && mark->ldir != ldir)
		mark = mark->next;
	return mark;
}

/* Enters the mark, unless another thread was faster or there are too many. */
static bool watch_enter(struct watch *watch, struct node_dir *dir, struct watch_mark *mark)
{
	bool entered = false;

	lock_mutex_lock(&watch->lock);
	if (!watch_has_locked(dir, mark->ldir) && watch->count < WATCH_MARKS_MAX) {
		if (watch->count >= watch->size)
			watch_grow_locked(watch);
		struct watch_mark **bucket = watch_bucket(watch, mark->hash);

		mark->hash_next = *bucket;
		*bucket = mark;
		mark->next = dir->marks;
		dir->marks = mark;
		watch->count++;
		entered = true;
	}
	lock_mutex_unlock(&watch->lock);
	return entered;
}

static void watch_tell_full(struct watch *watch)
{
	if (!atomic_exchange(&watch->was_full, true))
		log_warning("watch: too many directories; changes of others in further ones may "
			    "not be seen");
}

static int watch_part(struct core *core, struct node *node, struct ldir *ldir)
{
	struct watch *watch = core->watch;
	struct sys_handle handle;

	lock_mutex_lock(&watch->lock);
	bool done = watch_has_locked(node->dir, ldir);
	bool full = watch->count >= WATCH_MARKS_MAX;

	lock_mutex_unlock(&watch->lock);
	if (done || full)
		return done ? 0 : -ENOSPC;
	int fd = ldir_pin(&core->fds, ldir);

	if (fd < 0)
		return fd;
	int r = sys_watch_handle(fd, &handle);
	struct watch_mark *mark = r == 0 ? watch_mark_new(ldir, node->id, &handle) : NULL;

	if (r == 0)
		r = mark ? sys_watch_add(watch->fd, fd) : -ENOMEM;
	ldir_unpin(ldir);
	if (mark && (r < 0 || !watch_enter(watch, node->dir, mark)))
		watch_mark_free(core, mark);
	return r;
}

void watch_dir(struct core *core, struct node *node)
{
	struct node_dir *dir = node->dir;

	if (!core->watch || atomic_load_explicit(&dir->watched, memory_order_acquire))
		return;
	/* First: who adds a part from here on asks for another look. */
	atomic_store(&dir->watched, true);
	node_lock(core, node);
	struct ldir *upper = dir->upper ? ldir_ref(dir->upper) : NULL;

	node_unlock(core, node);
	int r = upper ? watch_part(core, node, upper) : 0;

	ldir_unref(&core->fds, upper);
	for (unsigned int i = 0; i < dir->lower_count; i++) {
		int e = watch_part(core, node, dir->lowers[i]);

		r = e < 0 ? e : r;
	}
	if (r == -ENOSPC)
		watch_tell_full(core->watch);
	else if (r < 0 && r != -ESTALE)
		log_warning_limited("watch: a directory cannot be watched: %s", strerror(-r));
}

void watch_dir_again(struct node *dir)
{
	atomic_store_explicit(&dir->dir->watched, false, memory_order_release);
}

/* Takes the mark out of the table; true if it was the last one of its real directory. */
static bool watch_leave(struct watch *watch, struct watch_mark *mark)
{
	lock_mutex_lock(&watch->lock);
	struct watch_mark **at = watch_bucket(watch, mark->hash);
	bool last = true;

	for (const struct watch_mark *other = *at; other && last; other = other->hash_next)
		last = other == mark ||
		       !watch_is(other, mark->hash, mark->type, mark->bytes, mark->size);
	while (*at != mark)
		at = &(*at)->hash_next;
	*at = mark->hash_next;
	watch->count--;
	lock_mutex_unlock(&watch->lock);
	return last;
}

void watch_forget(struct core *core, struct node_dir *dir)
{
	while (dir->marks) {
		struct watch_mark *mark = dir->marks;

		dir->marks = mark->next;
		/* Where it cannot be reached any more it is gone, and its mark with it. */
		if (watch_leave(core->watch, mark)) {
			int fd = ldir_pin(&core->fds, mark->ldir);

			if (fd >= 0) {
				sys_watch_remove(core->watch->fd, fd);
				ldir_unpin(mark->ldir);
			}
		}
		watch_mark_free(core, mark);
	}
}

/* ---- events ---- */

/* A directory that an event is about. */
struct watch_target {
	uint64_t node;
	bool is_lower;
};

struct watch_run {
	struct core *core;
	const struct core_watcher *watcher;
};

static unsigned int watch_find(struct watch *watch, const struct sys_watch_event *event,
			       struct watch_target targets[WATCH_TARGETS_MAX])
{
	uint64_t hash = watch_hash(event->handle_type, event->handle, event->handle_size);
	unsigned int count = 0;

	lock_mutex_lock(&watch->lock);
	for (const struct watch_mark *mark = *watch_bucket(watch, hash); mark;
	     mark = mark->hash_next) {
		if (count < WATCH_TARGETS_MAX &&
		    watch_is(mark, hash, event->handle_type, event->handle, event->handle_size))
			targets[count++] = (struct watch_target){
				.node = mark->node,
				.is_lower = !mark->ldir->layer->is_upper,
			};
	}
	lock_mutex_unlock(&watch->lock);
	return count;
}

static void watch_tell_node(const struct watch_run *run, const struct node *node)
{
	run->watcher->node(run->watcher->context, node->id);
}

static void watch_tell_name(const struct watch_run *run, const struct node *dir, const char *name)
{
	run->watcher->name(run->watcher->context, dir->id, name);
}

static int watch_lookup(const struct watch_run *run, struct node *dir, const char *name,
			struct node **nodep)
{
	const struct core_watcher *watcher = run->watcher;

	if (watcher->enter)
		watcher->enter(watcher->context);
	int r = lookup_name(run->core, dir, name, nodep, NULL);

	if (watcher->leave)
		watcher->leave(watcher->context);
	return r;
}

/* What lies under the name may be another object, or the same with other attributes. */
static void watch_check_name(const struct watch_run *run, struct node *dir, struct node *known,
			     const char *name)
{
	struct node *now = NULL;

	if (known)
		node_set(known, NODE_UNSURE);
	int r = known ? watch_lookup(run, dir, name, &now) : 0;

	/* Not known here is perhaps known to be absent there. */
	if (!known || r < 0 || now != known)
		watch_tell_name(run, dir, name);
	if (now)
		node_unref(run->core, now);
}

/* The directory's set of names changed. */
static void watch_change_names(const struct watch_run *run, struct node *dir)
{
	atomic_fetch_add(&dir->dir->version, 1);
	atomic_store(&dir->dir->subdirs, -1);
	watch_tell_node(run, dir);
}

/* A name of the node and the directory it is in, both with a reference, or neither. */
static void watch_get_link(struct core *core, struct node *node, struct node **parentp,
			   struct name **namep)
{
	node_lock(core, node);
	if (node->links) {
		*namep = name_new(node->links->name, node->links->length);
		*parentp = *namep ? node_ref(node->links->parent) : NULL;
	}
	node_unlock(core, node);
}

static void watch_put_link(struct core *core, struct node *parent, struct name *name)
{
	name_unref(name);
	if (parent)
		node_unref(core, parent);
}

/* The directory itself may be hidden, opaque, or another one. */
static void watch_change_dir(const struct watch_run *run, struct node *dir)
{
	struct node *parent = NULL;
	struct name *name = NULL;

	watch_get_link(run->core, dir, &parent, &name);
	watch_change_names(run, dir);
	if (parent)
		watch_check_name(run, parent, dir, name->text);
	watch_put_link(run->core, parent, name);
}

static void watch_change_entry(const struct watch_run *run, struct node *dir,
			       const struct watch_target *target, const char *name,
			       unsigned int kinds)
{
	struct node *known = node_find_name(run->core, dir, name);
	bool is_covered = known && target->is_lower && !node_is_dir(known) &&
			  node_has(known, NODE_UPPER) && !node_has(known, NODE_METACOPY);

	if (kinds & SYS_WATCH_NAME)
		watch_change_names(run, dir);
	if (kinds & (SYS_WATCH_NAME | SYS_WATCH_ATTRIBUTES))
		watch_check_name(run, dir, known, name);
	if (known && !is_covered)
		watch_tell_node(run, known);
	if (known)
		node_unref(run->core, known);
}

static void watch_change(const struct watch_run *run, struct node *dir,
			 const struct watch_target *target, const struct sys_watch_event *event)
{
	enum whiteout_name kind = target->is_lower ? whiteout_name_kind(event->name) :
						     WHITEOUT_NAME_NONE;

	/* Its attributes: one of them may be that it is opaque. */
	if (strcmp(event->name, ".") == 0)
		watch_change_dir(run, dir);
	else if (kind == WHITEOUT_NAME_NONE)
		watch_change_entry(run, dir, target, event->name, event->kinds);
	else if (kind == WHITEOUT_NAME_HIDES)
		watch_change_entry(run, dir, target, event->name + WHITEOUT_PREFIX_LENGTH,
				   event->kinds);
	else
		watch_change_dir(run, dir);
}

/* ---- events that were lost ---- */

struct watch_lost {
	uint64_t *ids; /* owned */
	uint64_t count, size;
};

/* The flag is what counts; who is told of it is remembered as far as there is room. */
static void watch_note_lost(void *object, void *context)
{
	struct node *node = object;
	struct watch_lost *lost = context;

	node_set(node, NODE_UNSURE);
	if (node_is_dir(node)) {
		atomic_fetch_add(&node->dir->version, 1);
		atomic_store(&node->dir->subdirs, -1);
	}
	if (lost->count < lost->size)
		lost->ids[lost->count++] = node->id;
}

static void watch_doubt(const struct watch_run *run, struct node *node)
{
	struct node *parent = NULL;
	struct name *name = NULL;

	watch_get_link(run->core, node, &parent, &name);
	/* A directory is looked up first: forgetting its name can unmount what is mounted in it. */
	if (parent && node_is_dir(node))
		watch_check_name(run, parent, node, name->text);
	else if (parent)
		watch_tell_name(run, parent, name->text);
	watch_tell_node(run, node);
	if (node_is_dir(node))
		tell_names(run->core, node, run->watcher);
	watch_put_link(run->core, parent, name);
}

/* Nothing is known for sure any more. */
static void watch_lose(const struct watch_run *run)
{
	struct core *core = run->core;
	/* Nodes made meanwhile are made from what there is now. */
	struct watch_lost lost = { .size = idtable_count(core->nodes.ids) };

	log_debug("watch: events were lost");
	lost.ids = malloc((lost.size + 1) * sizeof(*lost.ids));
	if (!lost.ids)
		lost.size = 0;
	idtable_for_each(core->nodes.ids, watch_note_lost, &lost);
	for (uint64_t i = 0; i < lost.count; i++) {
		struct node *node = node_find(core, lost.ids[i]);

		if (!node)
			continue;
		watch_doubt(run, node);
		node_unref(core, node);
	}
	free(lost.ids);
}

/* ---- for the daemon's thread ---- */

static void watch_handle_event(const struct watch_run *run, const struct sys_watch_event *event)
{
	struct watch_target targets[WATCH_TARGETS_MAX];
	unsigned int count = 0;

	if (event->kinds & SYS_WATCH_LOST)
		watch_lose(run);
	else if (!event->is_own && event->handle)
		count = watch_find(run->core->watch, event, targets);
	for (unsigned int i = 0; i < count; i++) {
		struct node *dir = node_find(run->core, targets[i].node);

		if (!dir)
			continue;
		watch_change(run, dir, &targets[i], event);
		node_unref(run->core, dir);
	}
}

int core_watch_fd(const struct core *core)
{
	return core->watch ? core->watch->fd : -1;
}

int core_watch_run(struct core *core, const struct core_watcher *watcher)
{
	const struct watch_run run = { .core = core, .watcher = watcher };
	_cleanup_free_ void *buf = malloc(SYS_WATCH_BUFFER_SIZE);
	struct sys_watch_event event;
	size_t at = 0;

	if (!buf)
		return -ENOMEM;
	int size = sys_watch_read(core->watch->fd, buf, SYS_WATCH_BUFFER_SIZE);

	while (size > 0 && sys_watch_next(buf, (size_t)size, &at, &event))
		watch_handle_event(&run, &event);
	return size < 0 ? size : 0;
}
