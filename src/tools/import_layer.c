/* SPDX-License-Identifier: MIT */
/*
 * The archive is read to its end into a directory beside the layer, and only
 * then becomes the layer, or part of it: an archive that is damaged, or no
 * layer, changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "offline/entry.h"
#include "offline/hold.h"
#include "sys/file.h"
#include "tools/import.h"
#include "tools/import_entry.h"
#include "tools/import_merge.h"
#include "tools/import_path.h"

#define IMPORT_LAYER_MODE 0755

/* The layer's name, and what has it. */
struct import_place {
	char *parent; /* owned, as is @name */
	char *name;
	struct hold hold; /* on the directory that has it */
	bool is_there; /* a layer, to be put on */
};

static void import_place_deinit(struct import_place *place)
{
	free(place->parent);
	free(place->name);
	hold_deinit(&place->hold);
}

#define _cleanup_import_place_ _cleanup_(import_place_deinit)

static int import_layer_fail(struct strbuf *why, const char *layer, int error, const char *reason)
{
	if (why->length == 0)
		strbuf_append_format(why, "%s: %s", layer, reason);
	return error;
}

/* ---- where ---- */

static bool import_layer_is_empty(int fd)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;

	return entry_names_read(fd, &names) == 0 && names.count == 0;
}

/* The directory is there: empty, or to be put on. Nobody may have it mounted. */
static int import_layer_check(const struct import_request *request, const char *path,
			      struct import_place *place, struct strbuf *why)
{
	int r = hold_take(path, NULL, &place->hold, why);

	if (r < 0)
		return r;
	place->is_there = !import_layer_is_empty(place->hold.upper);
	if (!place->is_there || request->onto)
		return 0;
	return import_layer_fail(why, request->layer, -ENOTEMPTY,
				 "is not empty; --onto puts the archive on top of what is there");
}

static int import_layer_split(const char *path, struct import_place *place)
{
	char *slash;

	place->parent = strdup(path);
	if (!place->parent)
		return -ENOMEM;
	slash = strrchr(place->parent, '/');
	place->name = strdup(slash + 1);
	slash[slash == place->parent] = '\0';
	return place->name ? 0 : -ENOMEM;
}

/* The path of one that is to be made: what is around it is there. */
static int import_layer_future(const char *layer, char **path)
{
	_cleanup_strbuf_ struct strbuf full = STRBUF_INIT;
	_cleanup_free_ char *copy = strdup(layer), *around = NULL;
	size_t length = copy ? strlen(copy) : 0;

	while (length > 1 && copy[length - 1] == '/')
		copy[--length] = '\0';
	if (!copy)
		return -ENOMEM;
	const char *name = import_path_name(copy);

	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -ENOENT;
	strbuf_append(&full, copy, (size_t)(name - copy));
	around = realpath(full.length ? full.data : ".", NULL);
	if (!around)
		return -errno;
	strbuf_deinit(&full);
	strbuf_append_format(&full, "%s/%s", strcmp(around, "/") ? around : "", name);
	*path = strbuf_take(&full);
	return *path ? 0 : -ENOMEM;
}

static int import_layer_locate(const struct import_request *request, struct import_place *place,
			       struct strbuf *why)
{
	_cleanup_free_ char *path = realpath(request->layer, NULL);
	int r = path ? import_layer_check(request, path, place, why) : -errno;

	if (r == -ENOENT)
		r = import_layer_future(request->layer, &path);
	if (r == 0 && strcmp(path, "/") == 0)
		r = -EBUSY;
	if (r == 0)
		r = import_layer_split(path, place);
	return r < 0 ? import_layer_fail(why, request->layer, r, strerror(-r)) : 0;
}

/* ---- reading ---- */

static void import_layer_explain(const struct tarread_entry *entry, int error,
				 struct strbuf *reason, struct strbuf *why)
{
	if (error == -EINTR)
		strbuf_append_string(why, "interrupted; the layer is as it was");
	else
		strbuf_append_format(why, "entry %s: %s", entry->path,
				     reason->length ? reason->data : strerror(-error));
}

static int import_layer_read(const struct import_request *request, const struct import_job *job,
			     struct timespec *first, struct strbuf *why)
{
	struct tarread_entry entry;
	int r;

	while ((r = tarread_next(job->tar, &entry)) > 0) {
		_cleanup_strbuf_ struct strbuf reason = STRBUF_INIT;

		if (job->tree->counts.entries == 0)
			*first = entry.mtime;
		r = request->is_interrupted && request->is_interrupted(NULL) ?
			    -EINTR :
			    import_entry(job, &entry, &reason);
		if (r < 0) {
			import_layer_explain(&entry, r, &reason, why);
			return r;
		}
		if (request->progress)
			request->progress(request->context, tarread_done(job->tar));
	}
	if (r < 0)
		strbuf_append_format(why, "cannot be read as a tar archive: %s",
				     tarread_reason(job->tar));
	return r;
}

/* The archive may say nothing of the layer's root; what it gets then depends on the archive alone. */
static int import_layer_imply_root(struct import_tree *tree, const struct timespec *mtime)
{
	_cleanup_import_dir_ struct import_dir root = {
		.place = strdup(""),
		.mode = IMPORT_LAYER_MODE,
		.uid = geteuid(),
		.gid = getegid(),
		.mtime = *mtime,
	};

	if (import_dirs_find(&tree->dirs, ""))
		return 0;
	return root.place ? import_dirs_set(&tree->dirs, &root) : -ENOMEM;
}

/* ---- the end ---- */

static int import_layer_publish(const struct import_request *request, struct import_tree *tree,
				struct import_stage *stage, const struct import_place *place,
				const struct timespec *mtime, struct strbuf *why)
{
	int r = import_layer_imply_root(tree, mtime);

	if (r == 0)
		r = import_tree_settle(tree, why);
	if (r == 0)
		r = sys_syncfs(stage->layer);
	if (r == 0)
		r = import_stage_publish(stage, place->name);
	if (r == -EBUSY || r == -EXDEV)
		return import_layer_fail(why, request->layer, r,
					 "is a mount point; name a directory in it");
	return r < 0 ? import_layer_fail(why, request->layer, r, strerror(-r)) : 0;
}

static int import_layer_put_on(const struct import_request *request, struct import_tree *tree,
			       struct import_stage *stage, const struct import_place *place,
			       struct strbuf *why)
{
	int r = sys_syncfs(stage->layer);

	if (r == 0)
		r = import_merge(tree, stage, place->hold.upper, why);
	if (r == 0)
		r = import_tree_settle(tree, why);
	if (r == 0)
		r = sys_syncfs(place->hold.upper);
	if (r < 0)
		strbuf_append_format(why,
				     "%s%s: the archive is only partly in the layer; put it "
				     "on again",
				     why->length ? "; " : "", request->layer);
	return r;
}

int import_layer(const struct import_request *request, struct import_counts *counts,
		 struct strbuf *why)
{
	_cleanup_import_place_ struct import_place place = { .hold = HOLD_INIT };
	_cleanup_import_stage_ struct import_stage stage = IMPORT_STAGE_INIT;
	struct timespec first = { 0 };
	struct import_tree tree;
	int r = import_layer_locate(request, &place, why);

	if (r == 0)
		r = import_stage_init(&stage, place.parent, why);
	if (r == 0)
		r = import_tree_init(&tree, stage.layer, request->user_xattrs, why);
	if (r < 0)
		return r;
	tree.attribute_whiteouts = request->attribute_whiteouts;
	struct tarread *tar = tarread_new(request->fd);
	const struct import_job job = {
		.tar = tar,
		.tree = &tree,
		.stage = &stage,
		.is_interrupted = request->is_interrupted,
	};

	r = tar ? import_layer_read(request, &job, &first, why) : -ENOMEM;
	if (tar)
		tarread_free(tar);
	if (r == 0)
		r = place.is_there ?
			    import_layer_put_on(request, &tree, &stage, &place, why) :
			    import_layer_publish(request, &tree, &stage, &place, &first, why);
	*counts = tree.counts;
	import_tree_deinit(&tree);
	return r;
}
