/* SPDX-License-Identifier: MIT */
#include "tools/import_dirs.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void import_dir_deinit(struct import_dir *dir)
{
	free(dir->place);
	strbuf_deinit(&dir->xattrs);
	*dir = (struct import_dir){ 0 };
}

static void import_dirs_free(void *object)
{
	import_dir_deinit(object);
	free(object);
}

static int import_dirs_compare(const void *left, const void *right)
{
	const struct import_dir *a = left, *b = right;

	return strcmp(a->place, b->place);
}

void import_dirs_deinit(struct import_dirs *dirs)
{
	tdestroy(dirs->root, import_dirs_free);
	dirs->root = NULL;
}

int import_dirs_set(struct import_dirs *dirs, struct import_dir *dir)
{
	struct import_dir *copy = malloc(sizeof(*copy));
	void **slot = copy && !dir->xattrs.failed ? tsearch(dir, &dirs->root, import_dirs_compare) :
						    NULL;

	if (!slot) {
		free(copy);
		return -ENOMEM;
	}
	/* The tree has the caller's object if it had none with this place. */
	if (*slot != dir)
		import_dirs_free(*slot);
	*copy = *dir;
	*slot = copy;
	*dir = (struct import_dir){ 0 };
	return 0;
}

const struct import_dir *import_dirs_find(const struct import_dirs *dirs, const char *place)
{
	struct import_dir wanted = { .place = (char *)place };
	void **slot = tfind(&wanted, &dirs->root, import_dirs_compare);

	return slot ? *slot : NULL;
}

void import_dirs_forget(struct import_dirs *dirs, const char *place)
{
	struct import_dir *dir = (struct import_dir *)import_dirs_find(dirs, place);

	if (!dir)
		return;
	tdelete(dir, &dirs->root, import_dirs_compare);
	import_dirs_free(dir);
}

struct import_dirs_list {
	const struct import_dir **items; /* NULL: only counted */
	size_t count;
};

static void import_dirs_collect(const void *node, VISIT order, void *context)
{
	struct import_dirs_list *list = context;

	if (order != postorder && order != leaf)
		return;
	if (list->items)
		list->items[list->count] = *(struct import_dir *const *)node;
	list->count++;
}

int import_dirs_for_each(const struct import_dirs *dirs,
			 int (*visit)(const struct import_dir *dir, void *context), void *context)
{
	_cleanup_free_ const struct import_dir **items = NULL;
	struct import_dirs_list list = { 0 };
	int r = 0;

	twalk_r(dirs->root, import_dirs_collect, &list);
	items = calloc(list.count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list = (struct import_dirs_list){ .items = items };
	twalk_r(dirs->root, import_dirs_collect, &list);
	/* In the order of bytes a directory comes before what is below it. */
	for (size_t i = list.count; r == 0 && i > 0; i--)
		r = visit(items[i - 1], context);
	return r;
}

void import_dir_add_xattr(struct import_dir *dir, const char *key, const void *value, size_t size)
{
	strbuf_append(&dir->xattrs, key, strlen(key) + 1);
	strbuf_append(&dir->xattrs, &size, sizeof(size));
	strbuf_append(&dir->xattrs, value, size);
}

bool import_dir_next_xattr(const struct import_dir *dir, size_t *position,
			   struct import_dir_xattr *xattr)
{
	if (*position >= dir->xattrs.length)
		return false;
	const char *at = dir->xattrs.data + *position;

	xattr->key = at;
	at += strlen(at) + 1;
	memcpy(&xattr->size, at, sizeof(xattr->size));
	at += sizeof(xattr->size);
	xattr->value = at;
	*position = (size_t)(at - dir->xattrs.data) + xattr->size;
	return true;
}
