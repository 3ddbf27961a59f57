/* SPDX-License-Identifier: MIT */
/*
 * A file that has several names in a lower is shown with the number it has there
 * where only the lower has the name: a union that does not look into the index,
 * as this one, takes a name in the upper for another file.  In a union on one file
 * system the numbers are the real ones.
 */
#include "tools/fsck_shown.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "offline/view.h"
#include "sys/file.h"

/* A directory that was entered and not left. */
struct fsck_shown_dir {
	uint64_t node, handle, offset;
};

struct fsck_shown {
	struct core *view;
	struct fsck_indexed **files; /* owned; sorted by the lower's number */
	size_t count;
	struct fsck_shown_dir *dirs; /* owned; the last one is being read */
	size_t depth, size;
	uint64_t subdir; /* the directory that the reading was stopped at; 0: none */
};

/* ---- what is counted ---- */

static int fsck_shown_compare(const void *a, const void *b)
{
	const struct fsck_indexed *left = *(struct fsck_indexed *const *)a;
	const struct fsck_indexed *right = *(struct fsck_indexed *const *)b;

	return left->lower < right->lower ? -1 : left->lower > right->lower;
}

static void fsck_shown_note(struct fsck_shown *shown, uint64_t ino)
{
	struct fsck_indexed wanted = { .lower = ino }, *key = &wanted;
	struct fsck_indexed **found =
		bsearch(&key, shown->files, shown->count, sizeof(*found), fsck_shown_compare);

	if (found)
		(*found)->shown++;
}

static bool fsck_shown_is_possible(const struct fsck *fsck)
{
	struct statx st;

	if (fsck->indexed_count == 0 || !fsck->can_open_handles || fsck->target.cross_mounts)
		return false;
	for (size_t i = 0; i < fsck->lower_count; i++)
		if (sys_stat(fsck->lowers[i].fd, "", &st) < 0 || sys_stat_dev(&st) != fsck->dev)
			return false;
	return true;
}

static int fsck_shown_init(struct fsck *fsck, struct fsck_shown *shown)
{
	shown->files = calloc(fsck->indexed_count, sizeof(struct fsck_indexed *));
	if (!shown->files)
		return -ENOMEM;
	for (size_t i = 0; i < fsck->indexed_count; i++)
		if (fsck->indexed[i].lower_links > 1)
			shown->files[shown->count++] = &fsck->indexed[i];
	if (shown->count > 1)
		qsort(shown->files, shown->count, sizeof(struct fsck_indexed *),
		      fsck_shown_compare);
	return 0;
}

/* ---- the walk ---- */

/* Takes the reference on @node. */
static int fsck_shown_enter(struct fsck_shown *shown, uint64_t node)
{
	struct fsck_shown_dir dir = { .node = node };
	enum core_dircache cache;

	if (shown->depth == shown->size) {
		size_t size = shown->size ? 2 * shown->size : 64;
		struct fsck_shown_dir *more = reallocarray(shown->dirs, size, sizeof(*more));

		if (!more) {
			core_forget(shown->view, node, 1);
			return -ENOMEM;
		}
		shown->dirs = more;
		shown->size = size;
	}
	int r = core_opendir(shown->view, node, &dir.handle, &cache);

	if (r < 0)
		core_forget(shown->view, node, 1);
	else
		shown->dirs[shown->depth++] = dir;
	return r == -ENOMEM ? r : 0; /* one that cannot be read was told of by the check */
}

static void fsck_shown_leave(struct fsck_shown *shown)
{
	const struct fsck_shown_dir *dir = &shown->dirs[--shown->depth];

	core_releasedir(shown->view, dir->handle);
	if (dir->node != CORE_ROOT)
		core_forget(shown->view, dir->node, 1);
}

/* Goes on until there is a directory to enter. */
static bool fsck_shown_take(void *context, const struct core_dirent *entry)
{
	struct fsck_shown *shown = context;
	uint64_t node = entry->entry.node;

	if (shown->subdir)
		return false;
	shown->dirs[shown->depth - 1].offset = entry->offset;
	if (node && S_ISDIR(entry->entry.attr.stx_mode)) {
		shown->subdir = node;
	} else if (node) {
		fsck_shown_note(shown, entry->entry.attr.stx_ino);
		core_forget(shown->view, node, 1);
	}
	return true;
}

static int fsck_shown_step(struct fsck_shown *shown)
{
	const struct fsck_shown_dir *dir = &shown->dirs[shown->depth - 1];
	const struct core_dirread read = {
		.handle = dir->handle,
		.offset = dir->offset,
		.lookup = true,
	};

	shown->subdir = 0;
	int r = core_readdir(shown->view, &view_call, &read, fsck_shown_take, shown);

	if (shown->subdir)
		return fsck_shown_enter(shown, shown->subdir);
	fsck_shown_leave(shown);
	return r == -ENOMEM ? r : 0;
}

static int fsck_shown_walk(struct fsck_shown *shown)
{
	int r = fsck_shown_enter(shown, CORE_ROOT);

	while (r == 0 && shown->depth > 0)
		r = fsck_shown_step(shown);
	while (shown->depth > 0)
		fsck_shown_leave(shown);
	return r;
}

int fsck_shown_count(struct fsck *fsck)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct fsck_shown shown = { 0 };

	if (!fsck_shown_is_possible(fsck))
		return 0;
	int r = fsck_shown_init(fsck, &shown);

	if (r == 0)
		r = view_open(&fsck->target, VIEW_UNION, &shown.view, &why);
	if (r == 0)
		r = fsck_shown_walk(&shown);
	if (shown.view)
		core_free(shown.view);
	if (why.length > 0)
		log_error("%s", why.failed ? "out of memory" : why.data);
	free(shown.files);
	free(shown.dirs);
	return r;
}
