/* SPDX-License-Identifier: MIT */
/*
 * Reading directories.
 *
 * A directory that lies in one layer is streamed: its file system's own
 * offsets are the cookies, and the descriptor, which the cache may close at any
 * time, is opened again and sought to where it was.  A merged one is read from
 * a snapshot, whose cookies are positions.  Which of the two it is, is decided
 * at offset 0 and holds until the stream is rewound, whatever is copied up
 * meanwhile.
 */
#include "core/readdir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/ahead.h"
#include "core/internal.h"
#include "core/listing.h"
#include "core/lookup.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "core/watch.h"
#include "sys/dir.h"
#include "sys/file.h"

/* With lookups fewer entries fit one answer, and what does not fit is read again. */
#define READDIR_BUFFER_SIZE (32 * 1024)
#define READDIR_BUFFER_SIZE_LOOKUP (8 * 1024)

#define DIRHANDLE_NOWHERE UINT64_MAX
/* The snapshot's cookies: 1 after ".", 2 after "..", then by entry. */
#define DIRHANDLE_DOTS 2

#define DIRHANDLE_CLOSE_BATCH 256

/* Room for one entry: reading it counts as reading the directory. */
#define READDIR_MARK_SIZE 512

/* What readers take for "not known": an entry is never left out for want of a number. */
#define READDIR_UNKNOWN_INO UINT32_MAX

struct dirhandle {
	_Atomic uint32_t refs; /* the id's counts as one */
	_Atomic bool is_released; /* the id's reference is given back */
	uint64_t id;
	struct node *node; /* counted */
	struct lock_mutex lock; /* LOCK_RANK_HANDLE: guards what follows */
	bool is_started;
	struct listing *listing; /* counted; the snapshot, or NULL while streaming */
	struct ldir *ldir; /* counted; what is streamed, or NULL */
	struct fdslot slot; /* of ldir, open for reading */
	uint64_t position; /* where the slot's descriptor is */
};

/* ---- handles ---- */

static bool dirhandle_hold(void *object)
{
	struct dirhandle *handle = object;

	/* The id's own reference is given back only after the id is gone. */
	atomic_fetch_add_explicit(&handle->refs, 1, memory_order_relaxed);
	return true;
}

static struct dirhandle *dirhandle_find(struct core *core, uint64_t id)
{
	return idtable_find(core->handles, id, dirhandle_hold);
}

/* Forgets what is being read; nobody else uses the handle. */
static void dirhandle_reset(struct core *core, struct dirhandle *handle)
{
	fdslot_close(&core->fds, &handle->slot);
	handle->ldir = ldir_unref(&core->fds, handle->ldir);
	handle->listing = listing_unref(handle->listing);
	handle->is_started = false;
}

static void dirhandle_unref(struct core *core, struct dirhandle *handle)
{
	if (atomic_fetch_sub_explicit(&handle->refs, 1, memory_order_acq_rel) != 1)
		return;
	dirhandle_reset(core, handle);
	node_unref(core, handle->node);
	lock_mutex_deinit(&handle->lock);
	free(handle);
}

/* ---- both ---- */

/* The only real directory of the node, with a reference; NULL: what it shows is made up. */
static struct ldir *readdir_single(struct core *core, struct node *node)
{
	struct node_dir *dir = node->dir;
	struct ldir *ldir = NULL;

	node_lock(core, node);
	if (dir->upper && dir->lower_count == 0)
		ldir = ldir_ref(dir->upper);
	else if (!dir->upper && dir->lower_count == 1)
		ldir = dir->lowers[0]->is_mount_point ? NULL : ldir_ref(dir->lowers[0]);
	node_unlock(core, node);
	return ldir;
}

/*
 * Where a handle begins before it is first read: the kernel may have the entries up to some
 * cookie from another handle, and go on with this one after a change. Decides what it may keep.
 *
 * A handle that was opened before a change has cookies of the time before. Were the kernel to
 * fill its copy anew while there is such a handle, it would look for the old cookie among new
 * ones: then nothing is kept until that handle is gone.
 */
static enum core_dircache dirhandle_begin(struct core *core, struct dirhandle *handle)
{
	struct node_dir *dir = handle->node->dir;
	enum core_dircache cache = CORE_DIRCACHE_NONE;
	uint64_t version = atomic_load(&dir->version); /* first: what is older is marked as older */

	handle->ldir = readdir_single(core, handle->node);
	handle->listing = handle->ldir ? NULL : listing_find(core, handle->node);
	handle->is_started = handle->ldir || handle->listing;
	enum core_dircache_of of = handle->ldir ? DIRCACHE_OF_STREAM : DIRCACHE_OF_LISTING;

	node_lock(core, handle->node);
	if (dir->handles++ == 0)
		dir->handles_version = version;
	if (dir->handles_version == version && atomic_load(&dir->version) == version) {
		bool keep = handle->is_started && dir->cached_of == of &&
			    (handle->ldir || (dir->cached_version == version &&
					      handle->listing->version == version));

		cache = keep ? CORE_DIRCACHE_KEEP : CORE_DIRCACHE_FRESH;
		dir->cached_of = of;
		dir->cached_version = version;
	} else {
		dir->cached_of = DIRCACHE_OF_NOTHING;
	}
	node_unlock(core, handle->node);
	return cache;
}

/* Takes the id away, once, however many ask for it. */
static void dirhandle_release(struct core *core, struct dirhandle *handle)
{
	if (atomic_exchange(&handle->is_released, true))
		return;
	node_lock(core, handle->node);
	handle->node->dir->handles--;
	node_unlock(core, handle->node);
	idtable_remove(core->handles, handle->id, handle);
	dirhandle_unref(core, handle);
}

int core_opendir(struct core *core, uint64_t node_id, uint64_t *handlep, enum core_dircache *cache)
{
	struct node *node = node_find(core, node_id);

	if (!node)
		return -ESTALE;
	struct dirhandle *handle = node_is_dir(node) ? calloc(1, sizeof(*handle)) : NULL;

	if (!handle) {
		int r = node_is_dir(node) ? -ENOMEM : -ENOTDIR;

		node_unref(core, node);
		return r;
	}
	atomic_init(&handle->refs, 2); /* the id's and ours */
	handle->node = node;
	fdslot_init(&handle->slot);
	lock_mutex_init(&handle->lock, LOCK_RANK_HANDLE);
	lock_mutex_lock(&handle->lock); /* whoever guesses the id waits for the rest */
	int r = idtable_add(core->handles, handle, &handle->id);

	if (r == 0) {
		*cache = dirhandle_begin(core, handle);
		*handlep = handle->id;
	}
	lock_mutex_unlock(&handle->lock);
	if (r < 0)
		dirhandle_unref(core, handle); /* there is no id */
	dirhandle_unref(core, handle);
	return r;
}

void core_releasedir(struct core *core, uint64_t id)
{
	struct dirhandle *handle = dirhandle_find(core, id);

	if (!handle)
		return;
	dirhandle_release(core, handle);
	dirhandle_unref(core, handle);
}

struct dirhandle_batch {
	struct dirhandle *handles[DIRHANDLE_CLOSE_BATCH];
	unsigned int count;
};

static void dirhandle_note(void *object, void *context)
{
	struct dirhandle_batch *batch = context;

	if (batch->count < DIRHANDLE_CLOSE_BATCH)
		batch->handles[batch->count++] = object;
}

/* A snapshot is good for as long as somebody reads from it, whatever changes. */
static void dirhandle_begin_again(void *object, void *context)
{
	struct dirhandle *handle = object;

	if (handle->ldir)
		dirhandle_reset(context, handle);
}

void readdir_begin_again(struct core *core)
{
	idtable_for_each(core->handles, dirhandle_begin_again, core);
}

void readdir_forget_parent(struct core *core, struct node *node)
{
	node_lock(core, node);
	node->dir->cached_of = DIRCACHE_OF_NOTHING;
	node_unlock(core, node);
}

void readdir_close_all(struct core *core)
{
	struct dirhandle_batch batch;

	do {
		batch.count = 0;
		idtable_for_each(core->handles, dirhandle_note, &batch);
		for (unsigned int i = 0; i < batch.count; i++)
			dirhandle_release(core, batch.handles[i]);
	} while (batch.count > 0);
}

/* ---- one entry ---- */

/* One call of core_readdir(). */
struct reading {
	struct core *core;
	struct node *node;
	bool lookup;
	unsigned int *plain; /* so many files more are not looked up */
	bool (*emit)(void *context, const struct core_dirent *entry);
	void *context;
};

/* Inode number of "..". */
static uint64_t reading_parent_ino(const struct reading *reading)
{
	struct node *parent = node_get_parent(reading->core, reading->node);

	if (!parent)
		return reading->node->ino;
	uint64_t ino = parent->ino;

	node_unref(reading->core, parent);
	return ino;
}

static bool reading_emit_dot(const struct reading *reading, const char *name, uint64_t offset)
{
	const struct core_dirent entry = {
		.name = name,
		.name_length = strlen(name),
		.ino = name[1] ? reading_parent_ino(reading) : reading->node->ino,
		.offset = offset,
		.type = DT_DIR,
	};

	return reading->emit(reading->context, &entry);
}

/* READDIRPLUS: with a reference for the kernel, taken back if the entry is. */
static bool reading_emit_lookup(const struct reading *reading, struct core_dirent *entry)
{
	struct core *core = reading->core;
	struct node *child = NULL;
	int r = lookup_entry(core, reading->node, entry->name, &child, &entry->entry.attr);

	if (r == 0 && !child)
		return true; /* removed meanwhile */
	if (!child) { /* it is there, and a lookup of its own will tell what is wrong with it */
		entry->ino = entry->ino ? entry->ino : READDIR_UNKNOWN_INO;
		return reading->emit(reading->context, entry);
	}
	entry->entry.node = child->id;
	entry->ino = child->ino;
	entry->type = IFTODT(child->type);
	node_lookup_add(core, child);
	bool taken = reading->emit(reading->context, entry);

	if (!taken)
		node_forget(core, child, 1);
	node_unref(core, child);
	return taken;
}

/* The number of an entry whose real one is not the union's. False: the name is gone. */
static bool reading_find_ino(const struct reading *reading, struct core_dirent *entry)
{
	struct core *core = reading->core;
	struct node *child = node_find_name(core, reading->node, entry->name);
	int r = 0;

	if (!child)
		r = lookup_name(core, reading->node, entry->name, &child, NULL);
	entry->ino = child ? child->ino : READDIR_UNKNOWN_INO;
	if (child)
		node_unref(core, child);
	return child || r < 0;
}

static bool reading_emit(const struct reading *reading, struct core_dirent *entry)
{
	bool lookup = reading->lookup;

	if (lookup && *reading->plain && entry->type != DT_DIR) {
		*reading->plain -= 1;
		lookup = false;
	}
	if (lookup)
		return reading_emit_lookup(reading, entry);
	if (!entry->ino && !reading_find_ino(reading, entry))
		return true;
	return reading->emit(reading->context, entry);
}

/* ---- from a snapshot ---- */

static int dirhandle_read_listing(const struct dirhandle *handle, const struct reading *reading,
				  uint64_t offset)
{
	const struct listing *listing = handle->listing;

	if (offset == 0 && !reading_emit_dot(reading, ".", ++offset))
		return 0;
	if (offset == 1 && !reading_emit_dot(reading, "..", ++offset))
		return 0;
	for (uint64_t i = offset - DIRHANDLE_DOTS; i < listing->count; i++) {
		const struct listing_entry *e = &listing->entries[i];
		struct core_dirent entry = {
			.name = listing->names + e->name,
			.name_length = e->name_length,
			.ino = e->ino,
			.offset = i + DIRHANDLE_DOTS + 1,
			.type = e->type,
		};

		if (!reading_emit(reading, &entry))
			break;
	}
	return 0;
}

/* ---- from one layer ---- */

/* The descriptor, pinned, at @offset. */
static int dirhandle_pin_at(struct core *core, struct dirhandle *handle, uint64_t offset)
{
	int fd = fdslot_pin(&handle->slot);

	if (fd < 0) {
		fd = ldir_open(&core->fds, handle->ldir);
		if (fd < 0)
			return fd;
		handle->position = 0;
		if (core_keeps_atime(core, handle->ldir->layer))
			sys_keep_atime(fd);
		fd = fdslot_install(&core->fds, &handle->slot, fd);
	}
	if (handle->position == offset)
		return fd;
	off_t at = sys_seek(fd, (off_t)offset, SEEK_SET);

	if (at < 0) {
		fdslot_unpin(&handle->slot);
		return (int)at;
	}
	handle->position = offset;
	return fd;
}

static bool reading_emit_real(const struct reading *reading, const struct listing_part *part,
			      bool is_impure, const struct sys_dirent *real)
{
	struct listing_seen seen;

	if (strcmp(real->name, ".") == 0 || strcmp(real->name, "..") == 0)
		return reading_emit_dot(reading, real->name, real->offset);
	listing_classify(part, real, &seen);
	if (seen.kind != LISTING_SHOWN)
		return true;
	struct core_dirent entry = {
		.name = real->name,
		.name_length = real->name_length,
		.ino = is_impure ? 0 : seen.ino,
		.offset = real->offset,
		.type = seen.type,
	};

	return reading_emit(reading, &entry);
}

/* Reads buffers full of entries until one is refused. handle->position follows. */
static int dirhandle_stream(struct dirhandle *handle, const struct reading *reading, int fd)
{
	size_t size = reading->lookup ? READDIR_BUFFER_SIZE_LOOKUP : READDIR_BUFFER_SIZE;
	_cleanup_free_ void *buf = malloc(size);
	struct listing_part part;
	int got;

	if (!buf)
		return -ENOMEM;
	listing_part_init(&part, reading->core, handle->ldir, fd);
	bool is_impure = !part.is_lower && lookup_is_impure(reading->core, reading->node);

	while ((got = sys_getdents(fd, buf, size)) > 0) {
		struct ahead_watch watch = { 0 };
		struct sys_dirent real;
		size_t at = 0;
		int r;

		if (reading->lookup)
			ahead_watch_start(&watch);

		handle->position = DIRHANDLE_NOWHERE; /* until the buffer is used up */
		while ((r = sys_dirent_next(buf, got, &at, &real)) > 0) {
			if (!reading_emit_real(reading, &part, is_impure, &real))
				return 0;
			ahead_watch_step(&watch, reading->core, handle->ldir, buf, at, got);
		}
		if (r < 0)
			return r;
		handle->position = real.offset;
	}
	return got;
}

static int dirhandle_read_stream(struct dirhandle *handle, const struct reading *reading,
				 uint64_t offset)
{
	int fd = dirhandle_pin_at(reading->core, handle, offset);

	if (fd < 0)
		return fd;
	int r = dirhandle_stream(handle, reading, fd);

	fdslot_unpin(&handle->slot);
	return r;
}

static bool readdir_is_dead(struct node *node)
{
	lock_rw_read(&node->dir->lock);
	bool dead = node->dir->dead;

	lock_rw_read_unlock(&node->dir->lock);
	return dead;
}

static bool readdir_is_later(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* As relatime has it: once after each change, and once a day. */
static bool readdir_is_access_due(const struct statx *st)
{
	const time_t day = 24 * 60 * 60;

	return !readdir_is_later(&st->stx_atime, &st->stx_mtime) ||
	       !readdir_is_later(&st->stx_atime, &st->stx_ctime) ||
	       time(NULL) - st->stx_atime.tv_sec >= day;
}

/*
 * The snapshot of a merged directory is taken when it is first needed, which is not when it is
 * read: the access time of the upper's directory follows here, by reading a little of it.
 */
static void readdir_mark_access(struct core *core, struct node *node)
{
	char buf[READDIR_MARK_SIZE];
	struct statx st;

	if (core->noatime || core->read_only)
		return;
	node_lock(core, node);
	struct ldir *upper = node->dir->upper ? ldir_ref(node->dir->upper) : NULL;

	node_unlock(core, node);
	if (!upper)
		return;
	int r = ldir_stat(&core->fds, upper, &st);

	if (r == 0)
		quiet_present_change(core, node, &st);
	if (r == 0 && readdir_is_access_due(&st)) {
		_cleanup_close_ int fd = ldir_open(&core->fds, upper);

		if (fd >= 0)
			sys_getdents(fd, buf, sizeof(buf));
	}
	ldir_unref(&core->fds, upper);
}

/* Decides from what the stream is read until it is rewound. */
static int dirhandle_start(struct core *core, struct dirhandle *handle)
{
	struct node *node = handle->node;
	int r = 0;

	dirhandle_reset(core, handle);
	if (readdir_is_dead(node))
		return -ENOENT;
	watch_dir(core, node);
	handle->ldir = readdir_single(core, node);
	if (!handle->ldir) {
		r = listing_get(core, node, &handle->listing);
		readdir_mark_access(core, node);
	}
	handle->is_started = r == 0;
	return r;
}

int core_readdir(struct core *core, const struct core_call *call, const struct core_dirread *read,
		 bool (*emit)(void *context, const struct core_dirent *entry), void *context)
{
	struct dirhandle *handle = dirhandle_find(core, read->handle);
	unsigned int plain = read->plain;
	int r = 0;

	if (!handle)
		return -EBADF;
	const struct reading reading = {
		.core = core,
		.node = handle->node,
		.lookup = read->lookup,
		.plain = &plain,
		.emit = emit,
		.context = context,
	};

	lock_mutex_lock(&handle->lock);
	/* A fresh handle may be asked to go on where another one was (seekdir after a reopen). */
	if (read->offset == 0 || !handle->is_started)
		r = dirhandle_start(core, handle);
	if (r == 0 && handle->listing)
		r = dirhandle_read_listing(handle, &reading, read->offset);
	else if (r == 0)
		r = dirhandle_read_stream(handle, &reading, read->offset);
	lock_mutex_unlock(&handle->lock);
	dirhandle_unref(core, handle);
	return r;
}

int core_fsyncdir(struct core *core, uint64_t node_id, bool data_only)
{
	struct node *node = node_find(core, node_id);

	if (!node)
		return -ESTALE;
	struct ldir *upper = NULL;
	int r = 0;

	node_lock(core, node);
	if (node_is_dir(node) && node->dir->upper)
		upper = ldir_ref(node->dir->upper);
	node_unlock(core, node);
	if (upper && !core->read_only && core->fsync != CORE_FSYNC_VOLATILE) {
		_cleanup_close_ int fd = ldir_open(&core->fds, upper);

		r = fd < 0 ? fd : upper_fsync(fd, data_only);
	}
	ldir_unref(&core->fds, upper);
	node_unref(core, node);
	return r;
}
