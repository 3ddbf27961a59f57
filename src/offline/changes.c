/* SPDX-License-Identifier: MIT */
/*
 * The walk over the upper.
 *
 * Each directory of the upper is walked beside its counterpart, the directory of
 * the lowers that it merges with: the one of the same name, unless a redirect
 * says another or it is opaque.  An opaque directory in the place of another is
 * compared with that one, unless a redirect leads there from elsewhere: then it
 * was moved away, and this is a new one.  So such directories are put off until
 * all redirects are known.
 */
#include "offline/changes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "format/redirect.h"
#include "offline/changes_compare.h"
#include "offline/entry.h"
#include "offline/view.h"
#include "sys/file.h"

struct frame {
	int fd; /* of the upper's directory, open for reading; owned, as is the rest */
	struct entry_names names;
	size_t next; /* of names */
	struct core_entry lower; /* the counterpart, with a reference; node 0: none */
	char *lower_path; /* of the counterpart, in the lowers */
	bool replaces; /* what the counterpart has and this has not, is removed */
	size_t path_length; /* of the walk's path, with a slash at its end */
};

/* An opaque directory in the place of one of the lowers. */
struct postponed {
	char *path;
	char *lower_path; /* of that one */
	struct postponed *next;
};

struct walk {
	const struct target *target;
	struct core *lowers; /* NULL: there are none */
	struct changes *changes;
	struct strbuf path; /* of the frame on top, then of the entry at hand */
	struct frame *frames;
	size_t depth, frames_size;
	struct postponed *postponed;
	int root_fd;
};

/* ---- what cannot be told ---- */

/* The object at hand is left out, and the walk goes on. */
static void walk_complain(struct walk *walk, const char *what)
{
	walk->changes->failed++;
	log_error("%s%s: %s", walk->target->upper, walk->path.data, what);
}

/* True of errors that say that an object is not what it was a moment ago. */
static bool walk_is_gone(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ELOOP || error == -ESTALE;
}

/* True of errors of one object, which say nothing of the others. */
static bool walk_is_local(int error)
{
	return error == -EACCES || error == -EPERM || error == -EIO;
}

/* ---- results ---- */

static void change_deinit(struct change *change)
{
	free(change->path);
	free(change->from);
	free(change->below);
}

void changes_deinit(struct changes *changes)
{
	for (size_t i = 0; i < changes->count; i++)
		change_deinit(&changes->items[i]);
	for (size_t i = 0; i < changes->parent_count; i++)
		free(changes->parents[i]);
	free(changes->items);
	free(changes->parents);
	*changes = CHANGES_INIT;
}

uint64_t changes_bytes(const struct changes *changes)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < changes->count; i++) {
		const struct change *change = &changes->items[i];

		if (change->after.stx_mask && S_ISREG(change->after.stx_mode) &&
		    (change->kind == CHANGE_ADDED || change->kind == CHANGE_TYPE ||
		     change->what & CHANGE_CONTENT))
			bytes += change->after.stx_size;
	}
	return bytes;
}

/* Takes what @change owns over; the path is copied from the walk. */
static int walk_add(struct walk *walk, struct change change)
{
	struct changes *changes = walk->changes;

	if (changes->count == changes->size) {
		size_t size = changes->size ? 2 * changes->size : 64;
		struct change *items = reallocarray(changes->items, size, sizeof(*items));

		if (items) {
			changes->items = items;
			changes->size = size;
		}
	}
	change.path = strdup(walk->path.data);
	if (changes->count == changes->size || !change.path) {
		change_deinit(&change);
		return -ENOMEM;
	}
	changes->items[changes->count++] = change;
	return 0;
}

static int walk_add_parent(struct changes *changes, const char *path)
{
	char **parents =
		reallocarray(changes->parents, changes->parent_count + 1, sizeof(*parents));
	char *copy = strdup(path);

	if (parents)
		changes->parents = parents;
	if (!parents || !copy) {
		free(copy);
		return -ENOMEM;
	}
	parents[changes->parent_count++] = copy;
	return 0;
}

/* ---- the lowers ---- */

static void walk_forget(const struct walk *walk, const struct core_entry *entry)
{
	if (entry->node && entry->node != CORE_ROOT)
		core_forget(walk->lowers, entry->node, 1);
}

/* @name in the counterpart @lower; node 0 if there is none. */
static int walk_lookup(const struct walk *walk, const struct core_entry *lower, const char *name,
		       struct core_entry *entry)
{
	*entry = (struct core_entry){ 0 };
	if (!lower->node || !S_ISDIR(lower->attr.stx_mode))
		return 0;
	int r = core_lookup(walk->lowers, &view_call, lower->node, name, entry);

	if (r < 0)
		entry->node = 0;
	return r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
}

static char *walk_join(const char *directory, const char *name)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;

	strbuf_append_string(&path, strcmp(directory, "/") ? directory : "");
	strbuf_append_string(&path, "/");
	strbuf_append_string(&path, name);
	return strbuf_take(&path);
}

/* Where @redirect of an entry in @frame leads to: the path, the caller's, and what is there. */
static int walk_follow(const struct walk *walk, const struct frame *frame, const char *redirect,
		       char **path, struct core_entry *entry)
{
	*entry = (struct core_entry){ 0 };
	*path = redirect_is_absolute(redirect) ? strdup(redirect) :
						 walk_join(frame->lower_path ?: "", redirect);
	if (!*path)
		return -ENOMEM;
	if (!walk->lowers)
		return 0;
	return redirect_is_absolute(redirect) ? view_lookup(walk->lowers, redirect, entry) :
						walk_lookup(walk, &frame->lower, redirect, entry);
}

/* ---- frames ---- */

static void frame_deinit(const struct walk *walk, struct frame *frame)
{
	cleanup_close(&frame->fd);
	entry_names_deinit(&frame->names);
	walk_forget(walk, &frame->lower);
	free(frame->lower_path);
}

/* Goes into the directory @name of @dirfd, whose path is the walk's; takes the rest of @frame over. */
static int walk_push(struct walk *walk, int dirfd, const char *name, struct frame frame)
{
	int r = 0;

	if (walk->depth == walk->frames_size) {
		size_t size = walk->frames_size ? 2 * walk->frames_size : 16;
		struct frame *frames = reallocarray(walk->frames, size, sizeof(*frames));

		if (frames) {
			walk->frames = frames;
			walk->frames_size = size;
		} else {
			r = -ENOMEM;
		}
	}
	frame.names = ENTRY_NAMES_INIT;
	frame.next = 0;
	frame.fd = r < 0 ? r : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOATIME, 0);
	if (frame.fd == -EPERM)
		frame.fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	r = frame.fd < 0 ? frame.fd : entry_names_read(frame.fd, &frame.names);
	if (r < 0) {
		frame_deinit(walk, &frame);
		return r;
	}
	if (strcmp(walk->path.data, "/") != 0)
		strbuf_append_string(&walk->path, "/");
	frame.path_length = walk->path.length;
	walk->frames[walk->depth++] = frame;
	return walk->path.failed ? -ENOMEM : 0;
}

static void walk_set_name(struct walk *walk, const struct frame *frame, const char *name)
{
	walk->path.length = frame->path_length;
	walk->path.data[frame->path_length] = '\0';
	strbuf_append_string(&walk->path, name);
}

/* ---- one entry ---- */

/* What there is to know of an entry of the upper. */
struct met {
	const char *name;
	struct entry entry;
	struct core_entry below; /* of the same name in the counterpart; node 0: none */
	struct core_entry source; /* what it is compared with: below, or what a redirect says */
	char *below_path, *source_path;
	bool is_moved; /* source is not below */
};

static struct postponed *postponed_free(struct postponed *postponed)
{
	free(postponed->path);
	free(postponed->lower_path);
	free(postponed);
	return NULL;
}

static int walk_postpone(struct walk *walk, const struct met *met)
{
	struct postponed *postponed = calloc(1, sizeof(*postponed));

	if (!postponed)
		return -ENOMEM;
	postponed->path = strdup(walk->path.data);
	postponed->lower_path = strdup(met->source_path);
	if (!postponed->path || !postponed->lower_path) {
		postponed_free(postponed);
		return -ENOMEM;
	}
	postponed->next = walk->postponed;
	walk->postponed = postponed;
	return 0;
}

static int walk_compare(struct walk *walk, const struct frame *frame, struct met *met)
{
	const struct compared compared = {
		.dirfd = frame->fd,
		.name = met->name,
		.entry = &met->entry,
		.ns = walk->target->ns,
		.lowers = walk->lowers,
		.lower = &met->source,
	};

	entry_inherit_owner(&met->entry, &met->source.attr);
	struct change change = {
		.kind = met->is_moved ? CHANGE_RENAMED : CHANGE_MODIFIED,
		.before = met->source.attr,
		.after = met->entry.st,
	};
	int r = changes_compare(&compared, &change.what);

	if (r < 0 || (!met->is_moved && !change.what))
		return r;
	if (met->is_moved)
		change.from = ptr_take(met->source_path);
	change.below = ptr_take(met->below_path);
	return walk_add(walk, change);
}

/* Nothing of its type is there to compare it with. */
static int walk_add_new(struct walk *walk, struct met *met)
{
	struct change change = {
		.kind = met->below.node ? CHANGE_TYPE : CHANGE_ADDED,
		.below = ptr_take(met->below_path),
		.after = met->entry.st,
		.is_opaque = met->entry.opaque == OPAQUE_YES,
	};

	if (met->below.node)
		change.before = met->below.attr;
	return walk_add(walk, change);
}

/* What a rename to this name took the place of; dropped later, if it was moved away itself. */
static int walk_add_displaced(struct walk *walk, const struct met *met)
{
	struct change change = { .kind = CHANGE_REMOVED, .before = met->below.attr };

	if (!met->is_moved || !met->below.node)
		return 0;
	change.below = strdup(met->below_path);
	return change.below ? walk_add(walk, change) : -ENOMEM;
}

static bool met_can_compare(const struct met *met)
{
	return met->source.node &&
	       (met->source.attr.stx_mode & S_IFMT) == (met->entry.st.stx_mode & S_IFMT);
}

/* A directory: told itself, then gone into. */
static int walk_take_directory(struct walk *walk, const struct frame *frame, struct met *met)
{
	/* Below an opaque directory nothing is merged, unless a redirect says where it is. */
	bool is_opaque = met->entry.opaque == OPAQUE_YES || (frame->replaces && !met->is_moved);
	bool is_merged = met_can_compare(met);
	struct frame inner = { 0 };

	if (is_opaque && is_merged)
		return walk_postpone(walk, met);
	if (is_merged) {
		inner.lower_path = strdup(met->source_path);
		if (!inner.lower_path)
			return -ENOMEM;
	}
	int dirfd = frame->fd;
	int r = is_merged ? walk_compare(walk, frame, met) : walk_add_new(walk, met);

	if (r < 0) {
		free(inner.lower_path);
		return r;
	}
	if (is_merged) {
		inner.lower = met->source;
		met->source.node = 0;
	}
	return walk_push(walk, dirfd, met->name, inner);
}

static int walk_take_whiteout(struct walk *walk, struct met *met)
{
	struct change change = { .kind = CHANGE_REMOVED };

	/* One that hides nothing is no change. Without lowers nobody knows. */
	if (!met->below.node && walk->lowers)
		return 0;
	change.below = ptr_take(met->below_path);
	if (met->below.node)
		change.before = met->below.attr;
	return walk_add(walk, change);
}

/* Finds what the entry is to be compared with. */
static int walk_find_source(struct walk *walk, const struct frame *frame, struct met *met)
{
	if (met->entry.redirect) {
		met->is_moved = true;
		int r = walk_follow(walk, frame, met->entry.redirect, &met->source_path,
				    &met->source);

		if (r < 0)
			return r;
		/* A redirect may lead to where it is. */
		met->is_moved = met->source.node && strcmp(met->source_path, walk->path.data) != 0;
		if (!met->source.node && walk->lowers && !met->entry.is_metacopy)
			walk_complain(walk, "its redirect leads nowhere: see 'veneer fsck'");
		return 0;
	}
	met->source_path = met->below_path ? strdup(met->below_path) : NULL;
	if (met->below_path && !met->source_path)
		return -ENOMEM;
	return walk_lookup(walk, &frame->lower, met->name, &met->source);
}

static int walk_take(struct walk *walk, const struct frame *frame, struct met *met)
{
	int r = entry_read(frame->fd, met->name, walk->target->ns, &met->entry);

	if (r == -ENOENT)
		return 0; /* gone meanwhile */
	if (r == 0 && frame->lower_path) {
		met->below_path = walk_join(frame->lower_path, met->name);
		r = met->below_path ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = walk_lookup(walk, &frame->lower, met->name, &met->below);
	if (r < 0)
		return r;
	if (met->entry.is_whiteout)
		return walk_take_whiteout(walk, met);
	r = walk_find_source(walk, frame, met);
	if (r == 0 && met_can_compare(met))
		r = walk_add_displaced(walk, met);
	if (r < 0)
		return r;
	if (S_ISDIR(met->entry.st.stx_mode))
		return walk_take_directory(walk, frame, met);
	if (met->entry.is_metacopy && !met->source.node && walk->lowers)
		walk_complain(walk, "its data is not there: see 'veneer fsck'");
	return met_can_compare(met) ? walk_compare(walk, frame, met) : walk_add_new(walk, met);
}

/* ---- what an opaque directory does not have any more ---- */

struct replaced {
	struct walk *walk;
	const struct frame *frame;
	int error;
};

static bool walk_take_replaced(void *context, const struct core_dirent *entry)
{
	struct replaced *replaced = context;
	struct walk *walk = replaced->walk;
	struct change change = { .kind = CHANGE_REMOVED };
	struct core_entry below;

	if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..") ||
	    entry_names_has(&replaced->frame->names, entry->name))
		return true;
	replaced->error = walk_lookup(walk, &replaced->frame->lower, entry->name, &below);
	if (replaced->error == 0 && below.node) {
		change.before = below.attr;
		change.below = walk_join(replaced->frame->lower_path, entry->name);
		walk_forget(walk, &below);
		walk_set_name(walk, replaced->frame, entry->name);
		replaced->error = walk->path.failed || !change.below ? -ENOMEM :
								       walk_add(walk, change);
	}
	return replaced->error == 0;
}

static int walk_tell_replaced(struct walk *walk, const struct frame *frame)
{
	struct replaced replaced = { .walk = walk, .frame = frame };
	struct core_dirread read = { 0 };
	enum core_dircache cache;
	int r = core_opendir(walk->lowers, frame->lower.node, &read.handle, &cache);

	if (r < 0)
		return r;
	r = core_readdir(walk->lowers, &view_call, &read, walk_take_replaced, &replaced);
	core_releasedir(walk->lowers, read.handle);
	return r < 0 ? r : replaced.error;
}

/* ---- the walk ---- */

static int walk_step(struct walk *walk)
{
	/* Copied: going into a directory may move the frames. */
	struct frame frame = walk->frames[walk->depth - 1];
	struct met met = { 0 };

	if (frame.next == frame.names.count) {
		int r = frame.replaces ? walk_tell_replaced(walk, &frame) : 0;

		frame_deinit(walk, &walk->frames[--walk->depth]);
		return r;
	}
	walk->frames[walk->depth - 1].next++;
	met.name = frame.names.names[frame.next];
	walk_set_name(walk, &frame, met.name);
	int r = walk->path.failed ? -ENOMEM : walk_take(walk, &frame, &met);

	if (walk_is_local(r))
		walk_complain(walk, strerror(-r));
	if (walk_is_local(r) || walk_is_gone(r))
		r = 0;

	walk_forget(walk, &met.below);
	walk_forget(walk, &met.source);
	entry_deinit(&met.entry);
	free(met.source_path);
	free(met.below_path);
	return r;
}

static int walk_all(struct walk *walk)
{
	int r = 0;

	while (r == 0 && walk->depth > 0)
		r = walk_step(walk);
	while (walk->depth > 0)
		frame_deinit(walk, &walk->frames[--walk->depth]);
	return r;
}

static void walk_set_path(struct walk *walk, const char *path)
{
	walk->path.length = 0;
	strbuf_append_string(&walk->path, path);
}

/* The root is where it always was; its attributes may differ. */
static int walk_root(struct walk *walk)
{
	struct frame frame = { .lower_path = strdup("/") };
	struct met met = { .name = "" };
	int r = frame.lower_path ? 0 : -ENOMEM;

	walk_set_path(walk, "/");
	if (r == 0 && walk->lowers) {
		met.source.node = CORE_ROOT;
		r = core_getattr(walk->lowers, CORE_ROOT, &met.source.attr);
		frame.lower = met.source;
	}
	if (r == 0)
		r = entry_read(walk->root_fd, "", walk->target->ns, &met.entry);
	if (r == 0 && walk->lowers) {
		frame.fd = walk->root_fd;
		r = walk_compare(walk, &frame, &met);
	}
	entry_deinit(&met.entry);
	if (r < 0) {
		free(frame.lower_path);
		return r;
	}
	return walk_push(walk, walk->root_fd, "", frame);
}

static bool walk_is_source(const struct changes *changes, const char *path)
{
	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].from && !strcmp(changes->items[i].from, path))
			return true;
	return false;
}

/* Opens the directory @path of the upper. */
static int walk_open(const struct walk *walk, const char *path)
{
	int fd = sys_dup(walk->root_fd);
	_cleanup_free_ char *copy = strdup(path);
	char *at = copy;

	for (char *name; fd >= 0 && at && (name = strsep(&at, "/"));) {
		if (!*name)
			continue;
		int inner = sys_open(fd, name, O_PATH | O_DIRECTORY, 0);

		cleanup_close(&fd);
		fd = inner;
	}
	return copy ? fd : -ENOMEM;
}

/* An opaque directory, now that it is known whether what it hides was moved away. */
static int walk_take_postponed(struct walk *walk, const struct postponed *postponed)
{
	_cleanup_close_ int fd = walk_open(walk, postponed->path);
	struct frame frame = {
		.fd = fd,
		.replaces = !walk_is_source(walk->changes, postponed->lower_path),
	};
	struct met met = { .name = "" };
	int r = fd < 0 ? fd : entry_read(fd, "", walk->target->ns, &met.entry);

	walk_set_path(walk, postponed->path);
	met.below_path = strdup(postponed->lower_path);
	if (r == 0 && !met.below_path)
		r = -ENOMEM;
	if (r == 0 && frame.replaces)
		r = view_lookup(walk->lowers, postponed->lower_path, &met.source);
	if (r == 0)
		r = met_can_compare(&met) ? walk_compare(walk, &frame, &met) :
					    walk_add_new(walk, &met);
	frame.replaces &= met_can_compare(&met);
	entry_deinit(&met.entry);
	free(met.below_path);
	if (frame.replaces) {
		frame.lower = met.source;
		frame.lower_path = strdup(postponed->lower_path);
		r = r == 0 && !frame.lower_path ? -ENOMEM : r;
	} else {
		walk_forget(walk, &met.source);
	}
	if (r == 0)
		return walk_push(walk, fd, "", frame);
	walk_forget(walk, &frame.lower);
	free(frame.lower_path);
	return r;
}

static int walk_all_postponed(struct walk *walk)
{
	int r = 0;

	while (walk->postponed) {
		struct postponed *postponed = walk->postponed;

		walk->postponed = postponed->next;
		if (r == 0)
			r = walk_take_postponed(walk, postponed);
		if (walk_is_local(r))
			walk_complain(walk, strerror(-r));
		if (walk_is_local(r) || walk_is_gone(r))
			r = 0;
		if (r == 0)
			r = walk_all(walk);
		postponed_free(postponed);
	}
	return r;
}

/* ---- afterwards ---- */

/* What is in a directory follows it at once. */
static int changes_rank(unsigned char c)
{
	return c == '\0' ? 0 : c == '/' ? 1 : c + 1;
}

int changes_compare_paths(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return changes_rank((unsigned char)*a) - changes_rank((unsigned char)*b);
}

static int change_compare_paths(const void *a, const void *b)
{
	const struct change *one = a, *other = b;
	int order = changes_compare_paths(one->path, other->path);

	return order ? order : (other->kind == CHANGE_REMOVED) - (one->kind == CHANGE_REMOVED);
}

static int change_compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What a rename moved away is not removed besides, and what is there now is new. */
static int changes_drop_sources(struct changes *changes)
{
	size_t count = 0, kept = 0;
	_cleanup_free_ char **sources = calloc(changes->count + 1, sizeof(*sources));

	if (!sources)
		return -ENOMEM;
	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].from)
			sources[count++] = changes->items[i].from;
	qsort(sources, count, sizeof(*sources), change_compare_strings);
	for (size_t i = 0; i < changes->count; i++) {
		struct change *change = &changes->items[i];

		bool is_source = change->below && bsearch(&change->below, sources, count,
							  sizeof(*sources), change_compare_strings);

		if (is_source && change->kind == CHANGE_REMOVED) {
			change_deinit(change);
			continue;
		}
		if (is_source && change->kind != CHANGE_RENAMED) {
			change->kind = CHANGE_ADDED;
			change->what = 0;
			change->before = (struct statx){ 0 };
		}
		changes->items[kept++] = *change;
	}
	changes->count = kept;
	return 0;
}

/* The directories above what changed, each once; the changes are sorted. */
static int changes_collect_parents(struct changes *changes)
{
	const char *previous = "";

	for (size_t i = 0; i < changes->count; i++) {
		char *path = changes->items[i].path;
		size_t same = 0;

		while (path[same] && path[same] == previous[same])
			same++;
		/* A directory whose name ends before the first difference was met before. */
		for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
			size_t length = (size_t)(slash - path);

			if (length < same || (length == same && previous[same] == '\0'))
				continue;
			*slash = '\0';
			int r = walk_add_parent(changes, path);

			*slash = '/';
			if (r < 0)
				return r;
		}
		previous = path;
	}
	return 0;
}

static int changes_finish(struct changes *changes)
{
	int r = changes_drop_sources(changes);

	if (r < 0)
		return r;
	if (changes->count > 1)
		qsort(changes->items, changes->count, sizeof(*changes->items),
		      change_compare_paths);
	return changes_collect_parents(changes);
}

int changes_read(const struct target *target, struct changes *changes, struct strbuf *why)
{
	struct walk walk = { .target = target, .changes = changes, .root_fd = -1 };
	int r = view_open(target, VIEW_LOWERS, &walk.lowers, why);

	*changes = CHANGES_INIT;
	sys_raise_nofile(); /* one for each level of the tree */
	if (r < 0)
		return r;
	if (target->upper) {
		walk.root_fd = sys_open_path(target->upper, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = walk.root_fd < 0 ? walk.root_fd : walk_root(&walk);
		if (r == 0)
			r = walk_all(&walk);
		if (r == 0)
			r = walk_all_postponed(&walk);
		if (r < 0)
			strbuf_append_format(why, "%s%s: %s", target->upper,
					     walk.path.data ? walk.path.data : "", strerror(-r));
	}
	if (r == 0)
		r = changes_finish(changes);
	while (walk.postponed) {
		struct postponed *postponed = walk.postponed;

		walk.postponed = postponed->next;
		postponed_free(postponed);
	}
	cleanup_close(&walk.root_fd);
	free(walk.frames);
	strbuf_deinit(&walk.path);
	if (walk.lowers)
		core_free(walk.lowers);
	return r;
}
