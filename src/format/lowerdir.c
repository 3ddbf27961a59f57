/* SPDX-License-Identifier: MIT */
/* Kernel fs/overlayfs/params.c: what it accepts is accepted here, and nothing else. */
#include "format/lowerdir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define _cleanup_lowerdir_list_ _cleanup_(lowerdir_list_deinit)

/* Adds a layer whose path becomes the list's. */
static int lowerdir_list_push(struct lowerdir_list *list, char *path, bool data_only)
{
	struct lowerdir *items = reallocarray(list->items, list->count + 1, sizeof(*items));

	if (!items)
		return -ENOMEM;
	items[list->count++] = (struct lowerdir){ .path = path, .data_only = data_only };
	list->items = items;
	return 0;
}

int lowerdir_list_add(struct lowerdir_list *list, const char *path, bool data_only)
{
	_cleanup_free_ char *copy = strdup(path);
	int r;

	if (!copy)
		return -ENOMEM;
	r = lowerdir_list_push(list, copy, data_only);
	if (r == 0)
		(void)ptr_take(copy);
	return r;
}

void lowerdir_list_deinit(struct lowerdir_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].path);
	free(list->items);
	*list = (struct lowerdir_list){ 0 };
}

/* The path at *@cursor, unescaped, up to a colon or the end, where *@cursor then is. NULL: no
 * memory. */
static char *lowerdir_take_path(const char **cursor)
{
	const char *from = *cursor;
	char *path = malloc(strlen(from) + 1);
	size_t length = 0;

	if (!path)
		return NULL;
	for (; *from && *from != ':'; from++) {
		/* A lone '\' at the very end stands for nothing. */
		if (*from == '\\' && !*++from)
			break;
		path[length++] = *from;
	}
	path[length] = '\0';
	*cursor = from;
	return path;
}

/* Why the colons at @cursor and what follows cannot come after the layers in @list; or NULL. */
static const char *lowerdir_refuse_colons(const struct lowerdir_list *list, const char *cursor,
					  size_t colons)
{
	if (list->count == 0)
		return "lowerdir must not begin with a colon";
	if (colons > 2)
		return "only ':' and '::' separate lower layers";
	if (!cursor[colons])
		return "lowerdir must not end with a colon";
	if (colons == 1 && list->items[list->count - 1].data_only)
		return "a merge layer cannot follow a data-only layer";
	return NULL;
}

int lowerdir_parse(const char *value, struct lowerdir_list *list, const char **why)
{
	_cleanup_lowerdir_list_ struct lowerdir_list parsed = { 0 };
	const char *cursor = value;

	while (*cursor) {
		size_t colons = strspn(cursor, ":");
		const char *refused = NULL;
		_cleanup_free_ char *path = NULL;

		if (colons > 0)
			refused = lowerdir_refuse_colons(&parsed, cursor, colons);
		if (refused) {
			*why = refused;
			return -EINVAL;
		}
		cursor += colons;
		path = lowerdir_take_path(&cursor);
		if (!path)
			return -ENOMEM;
		if (!*path) {
			*why = "the path of a lower layer is empty";
			return -EINVAL;
		}
		if (lowerdir_list_push(&parsed, path, colons == 2) < 0)
			return -ENOMEM;
		path = NULL;
	}
	*list = parsed;
	parsed = (struct lowerdir_list){ 0 };
	return 0;
}
