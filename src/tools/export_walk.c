/* SPDX-License-Identifier: MIT */
#include "tools/export_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "offline/entry.h"
#include "offline/view.h"
#include "sys/file.h"
#include "tools/export_entry.h"
#include "tools/export_extras.h"

struct export_walk {
	struct export *export;
	struct core *view;
	struct export_links links;
	struct export_extras extras;
	struct strbuf path; /* in the archive: of the object at hand; "" is the root */
	struct strbuf *why;
};

/* A directory of the upper, and what it is in the union. */
struct export_dir {
	int fd; /* open for reading; borrowed */
	const struct entry *entry;
	const struct core_entry *object;
};

static int export_walk_result(struct export_walk *walk, int r, const char *phrase)
{
	if (r == -EINTR && walk->why->length == 0)
		strbuf_append_string(walk->why, "interrupted");
	if (r < 0 && walk->why->length == 0)
		strbuf_append_format(walk->why, "/%s: %s", walk->path.length ? walk->path.data : "",
				     phrase && *phrase ? phrase : strerror(-r));
	return r;
}

/* ---- the path ---- */

static size_t export_walk_push(struct export_walk *walk, const char *prefix, const char *name)
{
	size_t length = walk->path.length;

	strbuf_append_format(&walk->path, "%s%s%s", length ? "/" : "", prefix, name);
	return length;
}

static void export_walk_pop(struct export_walk *walk, size_t length)
{
	walk->path.length = length;
	if (walk->path.data)
		walk->path.data[length] = '\0';
}

/* ---- entries ---- */

static int export_walk_object(struct export_walk *walk, const struct core_entry *object)
{
	_cleanup_strbuf_ struct strbuf phrase = STRBUF_INIT;
	const struct export_entry entry = {
		.export = walk->export,
		.view = walk->view,
		.links = &walk->links,
		.path = walk->path.length ? walk->path.data : "./",
		.object = object,
	};

	if (walk->path.failed)
		return -ENOMEM;
	if (walk->export->is_interrupted && walk->export->is_interrupted(NULL))
		return export_walk_result(walk, -EINTR, NULL);
	return export_walk_result(walk, export_entry(&entry, &phrase), phrase.data);
}

static int export_walk_mark(struct export_walk *walk, const char *prefix, const char *name)
{
	_cleanup_strbuf_ struct strbuf phrase = STRBUF_INIT;
	size_t length = export_walk_push(walk, prefix, name);
	int r = walk->path.failed ? -ENOMEM :
				    export_entry_mark(walk->export, walk->path.data, &phrase);

	r = export_walk_result(walk, r, phrase.data);
	export_walk_pop(walk, length);
	return r;
}

static int export_walk_opaque(struct export_walk *walk)
{
	walk->export->counts.opaque++;
	return export_walk_mark(walk, "", WHITEOUT_OPAQUE_NAME);
}

/* Finds the object of the union, with a reference. A name that the archive cannot have is refused. */
static int export_walk_lookup(struct export_walk *walk, uint64_t parent, const char *name,
			      struct core_entry *object)
{
	if (whiteout_name_kind(name) != WHITEOUT_NAME_NONE)
		return export_walk_result(walk, -EINVAL,
					  "an OCI layer cannot hold a name that begins with .wh.");
	int r = core_lookup(walk->view, &view_call, parent, name, object);

	if (r == 0 && !object->node)
		r = -ESTALE;
	if (r == -ESTALE)
		return export_walk_result(walk, r, "it changed while it was read; try again");
	return export_walk_result(walk, r, NULL);
}

/*
 * A name that only a lower has, of a file that the upper has another name for: without the index
 * the union shows what it was.
 */
static int export_walk_extra(struct export_walk *walk, const struct export_extra *extra)
{
	struct core_entry object;
	int r = view_lookup(walk->view, extra->source, &object);

	if (r == 0 && !object.node)
		r = -ESTALE;
	if (r < 0)
		return export_walk_result(walk, r, NULL);
	r = export_walk_object(walk, &object);
	core_forget(walk->view, object.node, 1);
	return r;
}

/* ---- all of a directory, as the union shows it ---- */

struct export_listing {
	struct entry_names *names;
	int error;
};

static bool export_walk_collect(void *context, const struct core_dirent *dirent)
{
	struct export_listing *listing = context;

	if (strcmp(dirent->name, ".") != 0 && strcmp(dirent->name, "..") != 0)
		listing->error = entry_names_add(listing->names, dirent->name);
	return listing->error == 0;
}

static int export_walk_names(struct export_walk *walk, uint64_t node, struct entry_names *names)
{
	struct export_listing listing = { .names = names };
	struct core_dirread read = { 0 };
	enum core_dircache cache;
	int r = core_opendir(walk->view, node, &read.handle, &cache);

	if (r < 0)
		return r;
	r = core_readdir(walk->view, &view_call, &read, export_walk_collect, &listing);
	core_releasedir(walk->view, read.handle);
	entry_names_sort(names);
	return r < 0 ? r : listing.error;
}

static int export_walk_whole(struct export_walk *walk, const struct core_entry *dir);

static int export_walk_whole_name(struct export_walk *walk, uint64_t parent, const char *name)
{
	struct core_entry object;
	size_t length = export_walk_push(walk, "", name);
	const struct export_extra *extra = export_extras_get(&walk->extras, walk->path.data);
	int r = extra ? export_walk_extra(walk, extra) :
			export_walk_lookup(walk, parent, name, &object);

	if (r == 0 && !extra) {
		r = export_walk_object(walk, &object);
		if (r == 0 && S_ISDIR(object.attr.stx_mode))
			r = export_walk_whole(walk, &object);
		core_forget(walk->view, object.node, 1);
	}
	export_walk_pop(walk, length);
	return r;
}

static int export_walk_whole(struct export_walk *walk, const struct core_entry *dir)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = export_walk_result(walk, export_walk_names(walk, dir->node, &names), NULL);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = export_walk_whole_name(walk, dir->node, names.names[i]);
	return r;
}

/* ---- what the upper has ---- */

static int export_walk_dir(struct export_walk *walk, const struct export_dir *dir);

/* Without its lowers nobody can tell what such an object is. */
static bool export_walk_needs_lowers(const struct export_walk *walk, const struct entry *entry)
{
	return walk->export->target->lowers.count == 0 &&
	       (entry->redirect || entry->is_metacopy || entry->has_bad_redirect);
}

static int export_walk_subdir(struct export_walk *walk, const struct export_dir *parent,
			      const char *name, const struct export_dir *found)
{
	int r;

	/* It shows what lies elsewhere below, where it came from: that comes along, and what lies
	 * below at the new place stays hidden. */
	if (found->entry->redirect) {
		r = export_walk_opaque(walk);
		return r < 0 ? r : export_walk_whole(walk, found->object);
	}
	_cleanup_close_ int fd = sys_open(parent->fd, name, O_RDONLY | O_DIRECTORY, 0);
	const struct export_dir dir = {
		.fd = fd,
		.entry = found->entry,
		.object = found->object,
	};

	return fd < 0 ? export_walk_result(walk, fd, NULL) : export_walk_dir(walk, &dir);
}

static int export_walk_found(struct export_walk *walk, const struct export_dir *parent,
			     const char *name, const struct entry *entry)
{
	struct core_entry object;
	int r;

	if (export_walk_needs_lowers(walk, entry))
		return export_walk_result(walk, -EINVAL,
					  "part of it is in the layers below: name them with "
					  "--lower");
	r = export_walk_lookup(walk, parent->object->node, name, &object);
	if (r < 0)
		return r;
	const struct export_dir found = { .entry = entry, .object = &object };

	r = export_walk_object(walk, &object);
	if (r == 0 && S_ISDIR(object.attr.stx_mode))
		r = export_walk_subdir(walk, parent, name, &found);
	core_forget(walk->view, object.node, 1);
	return r;
}

/* A directory that only lowers have, with no more in it than what leads to such names. */
static int export_walk_bare(struct export_walk *walk, const struct core_entry *parent,
			    const char *name)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	size_t length = export_walk_push(walk, "", name);
	const struct export_extra *extra = export_extras_get(&walk->extras, walk->path.data);
	struct core_entry object;
	int r = extra ? export_walk_extra(walk, extra) :
			export_walk_lookup(walk, parent->node, name, &object);

	if (r == 0 && !extra) {
		r = export_walk_object(walk, &object);
		if (r == 0)
			r = export_extras_names(&walk->extras, walk->path.data, &names);
		for (size_t i = 0; r == 0 && i < names.count; i++)
			r = export_walk_bare(walk, &object, names.names[i]);
		core_forget(walk->view, object.node, 1);
	}
	export_walk_pop(walk, length);
	return r;
}

static int export_walk_name(struct export_walk *walk, const struct export_dir *dir,
			    const char *name)
{
	_cleanup_entry_ struct entry entry = ENTRY_INIT;
	int r = entry_read(dir->fd, name, walk->export->target->ns, &entry);

	if (r == -ENOENT && walk->extras.count > 0)
		return export_walk_bare(walk, dir->object, name);
	if (r == 0 && entry.is_whiteout) {
		/* In an opaque directory there is nothing to hide. */
		if (dir->entry->opaque == OPAQUE_YES)
			return 0;
		walk->export->counts.whiteouts++;
		return export_walk_mark(walk, WHITEOUT_PREFIX, name);
	}
	size_t length = export_walk_push(walk, "", name);

	r = r < 0 ? export_walk_result(walk, r, NULL) : export_walk_found(walk, dir, name, &entry);
	export_walk_pop(walk, length);
	return r;
}

static int export_walk_dir(struct export_walk *walk, const struct export_dir *dir)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	const char *path = walk->path.length ? walk->path.data : "";
	int r = entry_names_read(dir->fd, &names);

	if (r == 0)
		r = export_extras_names(&walk->extras, path, &names);
	r = export_walk_result(walk, r, NULL);
	/* Before the content of the directory, so that it hides none of it. */
	if (r == 0 && dir->entry->opaque == OPAQUE_YES)
		r = export_walk_opaque(walk);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = export_walk_name(walk, dir, names.names[i]);
	return r;
}

static int export_walk_root(struct export_walk *walk, int fd)
{
	_cleanup_entry_ struct entry entry = ENTRY_INIT;
	struct core_entry object = { .node = CORE_ROOT };
	const struct export_dir root = { .fd = fd, .entry = &entry, .object = &object };
	int r = fd < 0 ? fd : entry_read(fd, "", walk->export->target->ns, &entry);

	if (r == 0)
		r = core_getattr(walk->view, CORE_ROOT, &object.attr);
	if (r == 0)
		r = export_walk_object(walk, &object);
	return r < 0 ? export_walk_result(walk, r, NULL) : export_walk_dir(walk, &root);
}

int export_walk(struct export *export, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(export->target->upper, O_RDONLY | O_DIRECTORY);
	struct export_walk walk = { .export = export, .why = why };
	int r = view_open(export->target, VIEW_UNION, &walk.view, why);

	if (r < 0)
		return r;
	sys_raise_nofile(); /* a directory on the way takes one */
	r = export_extras_find(export->target, &walk.extras, why);
	if (r == 0)
		r = export_walk_root(&walk, fd);
	export_extras_deinit(&walk.extras);
	export_links_deinit(&walk.links);
	strbuf_deinit(&walk.path);
	core_free(walk.view);
	return r;
}
