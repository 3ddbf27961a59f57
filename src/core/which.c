/* SPDX-License-Identifier: MIT */
/* Which layers an object comes from, for who asks. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/lookup.h"
#include "core/place.h"

/* The parts of one object; their paths are owned. */
struct which {
	struct core_part *parts;
	unsigned int count;
};

static void which_deinit(struct which *which)
{
	for (unsigned int i = 0; i < which->count; i++)
		free((void *)which->parts[i].path);
	free(which->parts);
}

/* ---- paths ---- */

/* "a/b" of the directory from its layer's root, and @name behind it ("": none). NULL: no memory. */
static char *which_path(struct core *core, struct ldir *ldir, const char *name)
{
	char *path = strdup(name);

	ldir = ldir_ref(ldir);
	while (path && ldir) {
		struct name *part;
		struct ldir *parent = ldir_get_place(ldir, &part);

		if (part) {
			char *longer = malloc(part->length + strlen(path) + 2);

			if (longer)
				strcpy(stpcpy(stpcpy(longer, part->text), *path ? "/" : ""), path);
			free(path);
			path = longer;
		}
		name_unref(part);
		ldir_unref(&core->fds, ldir);
		ldir = parent;
	}
	ldir_unref(&core->fds, ldir);
	return path;
}

/* Adds @name in @ldir; there is room for it. */
static int which_add(struct core *core, struct which *which, struct ldir *ldir, const char *name)
{
	char *path = which_path(core, ldir, name);

	if (!path)
		return -ENOMEM;
	which->parts[which->count++] = (struct core_part){
		.layer = (unsigned int)(ldir->layer - core->layers),
		.path = path,
	};
	return 0;
}

/* ---- objects ---- */

static int which_dir(struct core *core, struct node *node, struct which *which)
{
	struct node_dir *dir = node->dir;
	int r = 0;

	lock_rw_read(&dir->lock);
	which->parts = calloc(dir->lower_count + 1, sizeof(*which->parts));
	if (!which->parts)
		r = -ENOMEM;
	if (r == 0 && dir->upper)
		r = which_add(core, which, dir->upper, "");
	for (unsigned int i = 0; r == 0 && i < dir->lower_count; i++)
		r = which_add(core, which, dir->lowers[i], "");
	lock_rw_read_unlock(&dir->lock);
	return r;
}

static int which_file_part(struct core *core, struct node *node, enum place_part part,
			   struct which *which)
{
	struct place place;
	int r = place_hold(core, node, part, &place);

	if (r < 0)
		return r;
	r = place.ldir ? which_add(core, which, place.ldir, place.name) : -ESTALE;
	place_release(core, &place);
	return r;
}

/* An indexed file is reached by its entry, but @name may be one of its names in the upper. */
static bool which_is_named(struct core *core, struct node *parent, const char *name,
			   const struct node *node)
{
	enum upper_name what = UPPER_ABSENT;
	struct statx st;

	lock_rw_read(&parent->dir->lock);
	bool is_named = parent->dir->upper &&
			lookup_upper_name(core, parent, name, &what, &st) == 0 &&
			what == UPPER_OBJECT && st.stx_ino == node->upper_ino;

	lock_rw_read_unlock(&parent->dir->lock);
	return is_named;
}

static int which_file(struct core *core, struct node *parent, const char *name, struct node *node,
		      struct which *which)
{
	int r;

	which->parts = calloc(2, sizeof(*which->parts));
	if (!which->parts)
		return -ENOMEM;
	if (node_has(node, NODE_UPPER | NODE_INDEXED) && which_is_named(core, parent, name, node))
		r = which_add(core, which, parent->dir->upper, name);
	else
		r = which_file_part(core, node, PLACE_META, which);
	if (r == 0 && node_has(node, NODE_METACOPY)) {
		r = which_file_part(core, node, PLACE_DATA, which);
		r = r == -ENOENT ? 0 : r; /* it is missing */
	}
	return r;
}

/* It is of the upper, and of something in a lower: its number tells. */
static bool which_is_copied_up(struct core *core, const struct node *node)
{
	if (!node_has(node, NODE_UPPER) || node == core->root)
		return false;
	if (node_has(node, NODE_METACOPY) || (node_is_dir(node) && node->dir->lower_count))
		return true;
	return node->ino != ident_ino(&core->ident, core->layers[0].dev, node->upper_ino);
}

/* ---- paths in the union ---- */

/* The object the path leads to, and the directory and name it is found by; counted. */
struct which_walk {
	struct node *parent, *node;
	char name[NAME_MAX + 1];
};

static int which_step(struct core *core, struct which_walk *walk, const char *name, size_t length)
{
	struct node *next = NULL;

	if (!node_is_dir(walk->node))
		return -ENOTDIR;
	if (length > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(walk->name, name, length);
	walk->name[length] = '\0';
	int r = lookup_name(core, walk->node, walk->name, &next, NULL);

	if (r < 0 || !next)
		return r < 0 ? r : -ENOENT;
	if (walk->parent)
		node_unref(core, walk->parent);
	walk->parent = walk->node;
	walk->node = next;
	return 0;
}

static int which_walk(struct core *core, const char *path, struct which_walk *walk)
{
	int r = 0;

	walk->node = node_ref(core->root);
	while (r == 0 && *path) {
		size_t length = strcspn(path, "/");

		if (length > 0)
			r = which_step(core, walk, path, length);
		path += length + (path[length] == '/');
	}
	return r;
}

int core_which(struct core *core, const char *path,
	       void (*visit)(void *context, const struct core_origin *origin), void *context)
{
	struct which_walk walk = { 0 };
	struct which which = { 0 };
	int r = which_walk(core, path, &walk);

	if (r == 0)
		r = node_is_dir(walk.node) ?
			    which_dir(core, walk.node, &which) :
			    which_file(core, walk.parent, walk.name, walk.node, &which);
	if (r == 0) {
		const struct core_origin origin = {
			.type = walk.node->type,
			.is_copied_up = which_is_copied_up(core, walk.node),
			.is_metacopy = node_has(walk.node, NODE_METACOPY),
			.parts = which.parts,
			.count = which.count,
		};

		visit(context, &origin);
	}
	which_deinit(&which);
	node_unref(core, walk.node);
	if (walk.parent)
		node_unref(core, walk.parent);
	return r;
}
