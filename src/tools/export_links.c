/* SPDX-License-Identifier: MIT */
#include "tools/export_links.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct export_link {
	uint64_t ino;
	char *path; /* owned */
};

static int export_links_compare(const void *left, const void *right)
{
	const struct export_link *a = left, *b = right;

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static void export_links_free(void *object)
{
	struct export_link *link = object;

	free(link->path);
	free(link);
}

void export_links_deinit(struct export_links *links)
{
	tdestroy(links->root, export_links_free);
	links->root = NULL;
}

static int export_links_new(struct export_links *links, uint64_t ino, const char *path)
{
	struct export_link *link = calloc(1, sizeof(*link));

	if (!link)
		return -ENOMEM;
	*link = (struct export_link){ .ino = ino, .path = strdup(path) };
	if (link->path && tsearch(link, &links->root, export_links_compare))
		return 0;
	export_links_free(link);
	return -ENOMEM;
}

int export_links_add(struct export_links *links, uint64_t ino, const char *path, const char **first)
{
	const struct export_link wanted = { .ino = ino };
	struct export_link **slot = tfind(&wanted, &links->root, export_links_compare);

	*first = NULL;
	if (!slot)
		return export_links_new(links, ino, path);
	*first = (*slot)->path;
	return 0;
}
