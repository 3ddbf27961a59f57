/* SPDX-License-Identifier: MIT */
/*
 * Objects by id alone, as whoever holds a file handle asks for them: of nodes
 * that the kernel has forgotten, core/recall.h knows where they were.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "core/attr.h"
#include "core/internal.h"
#include "core/lookup.h"

/* Deeper trees can be made, step by step; a handle of an object in one may be stale. */
#define EXPORT_DEPTH_MAX (1u << 16)

/* The ids from an object up to the nearest directory above it that is known. */
struct export_path {
	uint64_t *ids; /* owned; the object's comes first */
	unsigned int count, size;
};

static bool export_push(struct export_path *path, uint64_t id)
{
	if (path->count == EXPORT_DEPTH_MAX)
		return false;
	if (path->count == path->size) {
		unsigned int size = path->size ? 2 * path->size : 16;
		uint64_t *ids = realloc(path->ids, size * sizeof(*ids));

		if (!ids)
			return false;
		path->ids = ids;
		path->size = size;
	}
	path->ids[path->count++] = id;
	return true;
}

/* The nearest one at or above @id that is known, with a reference; the others' ids in @path. */
static struct node *export_climb(struct core *core, uint64_t id, struct export_path *path)
{
	for (;;) {
		struct node *node = node_find(core, id);

		if (node)
			return node;
		if (!export_push(path, id) || !recall_find_id(&core->recall, id, 0, &id, NULL))
			return NULL;
	}
}

/*
 * The object @id, at the name in @dir that is said to lead to it, or NULL. A lookup gives an
 * object the id it had if it is the same one: so the id proves it.
 */
static struct node *export_lookup(struct core *core, struct node *dir, const char *name,
				  uint64_t id)
{
	struct node *node = NULL;
	int r = node_is_dir(dir) ? lookup_name(core, dir, name, &node, NULL) : -ENOTDIR;

	if (r < 0)
		return NULL;
	return node && node->id != id ? node_unref(core, node) : node;
}

/* The directory @id, looked up from the nearest one above that is known, or NULL. */
static struct node *export_find_dir(struct core *core, uint64_t id)
{
	struct export_path path = { 0 };
	struct node *node = export_climb(core, id, &path);

	while (node && path.count > 0) {
		char name[NAME_MAX + 1];
		uint64_t child = path.ids[--path.count], parent;
		struct node *next = NULL;

		if (recall_find_id(&core->recall, child, 0, &parent, name) && parent == node->id)
			next = export_lookup(core, node, name, child);
		node_unref(core, node);
		node = next;
	}
	free(path.ids);
	return node;
}

/* The object @id with a reference, or NULL: it is gone, or was forgotten here as well. */
static struct node *export_find(struct core *core, uint64_t id)
{
	struct node *node = node_find(core, id);
	char name[NAME_MAX + 1];
	uint64_t parent;

	for (unsigned int i = 0; !node && recall_find_id(&core->recall, id, i, &parent, name);
	     i++) {
		struct node *dir = export_find_dir(core, parent);

		if (!dir)
			continue;
		node = export_lookup(core, dir, name, id);
		node_unref(core, dir);
	}
	return node;
}

/* Consumes the reference of @node; NULL: there is no such object. */
static int export_answer(struct core *core, struct node *node, struct core_entry *entry)
{
	int r = node ? attr_get(core, node, &entry->attr) : -ESTALE;

	if (r == 0) {
		entry->node = node->id;
		node_lookup_add(core, node);
	}
	if (node)
		node_unref(core, node);
	return r;
}

int core_lookup_self(struct core *core, uint64_t node, struct core_entry *entry)
{
	return export_answer(core, export_find(core, node), entry);
}

int core_lookup_parent(struct core *core, uint64_t node, struct core_entry *entry)
{
	struct node *child = export_find(core, node);

	if (!child)
		return -ESTALE;
	struct node *parent = child == core->root ? node_ref(child) : node_get_parent(core, child);

	node_unref(core, child);
	return export_answer(core, parent, entry);
}
