/* SPDX-License-Identifier: MIT */
#include "tools/weigh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "sys/dir.h"
#include "sys/file.h"

/*
 * A list of directories to be looked into yet, by their paths: neither the stack nor descriptors
 * depend on how deep a tree is. What is deeper than a path may be long is not counted.
 */
struct weigh {
	int top;
	char **paths; /* owned, as are they */
	size_t count, size;
	char *const *keep;
	size_t keep_count;
	uint64_t limit;
	struct weight *weight;
	int fd; /* the directory at hand, and its path */
	const char *path;
};

static int weigh_push(struct weigh *weigh, char *path)
{
	if (weigh->count == weigh->size) {
		size_t size = weigh->size ? 2 * weigh->size : 64;
		char **paths = realloc(weigh->paths, size * sizeof(*paths));

		if (!paths) {
			free(path);
			return -ENOMEM;
		}
		weigh->paths = paths;
		weigh->size = size;
	}
	weigh->paths[weigh->count++] = path;
	return 0;
}

/* 1: @path is kept; 0: something below it is; -1: neither. */
static int weigh_is_kept(const struct weigh *weigh, const char *path)
{
	size_t length = strlen(path);
	int kept = -1;

	for (size_t i = 0; i < weigh->keep_count; i++) {
		const char *keep = weigh->keep[i];

		if (strncmp(keep, path, length) != 0)
			continue;
		if (!keep[length])
			return 1;
		if (keep[length] == '/')
			kept = 0;
	}
	return kept;
}

static int weigh_entry(const struct sys_dirent *entry, void *context)
{
	struct weigh *weigh = context;
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	struct statx st;

	if (weigh->limit && weigh->weight->entries >= weigh->limit) {
		weigh->weight->is_partial = true;
		return 1;
	}
	if (*weigh->path)
		strbuf_append_format(&path, "%s/", weigh->path);
	strbuf_append_string(&path, entry->name);
	if (path.failed)
		return -ENOMEM;
	int kept = weigh_is_kept(weigh, path.data);

	if (kept > 0)
		return 0;
	if (sys_stat(weigh->fd, entry->name, &st) < 0) {
		weigh->weight->is_partial = true;
		return 0;
	}
	weigh->weight->entries += kept < 0;
	if (S_ISREG(st.stx_mode))
		weigh->weight->bytes += st.stx_size;
	return S_ISDIR(st.stx_mode) ? weigh_push(weigh, strbuf_take(&path)) : 0;
}

static int weigh_directory(struct weigh *weigh, const char *path)
{
	_cleanup_close_ int fd = sys_open(weigh->top, path, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0) {
		weigh->weight->is_partial = true;
		return 0;
	}
	weigh->fd = fd;
	weigh->path = path;
	return sys_dir_for_each(fd, weigh_entry, weigh);
}

int weigh_tree(const char *path, char *const *keep, size_t keep_count, uint64_t limit,
	       struct weight *weight)
{
	_cleanup_close_ int top = sys_open_path(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct weigh weigh = {
		.top = top,
		.keep = keep,
		.keep_count = keep_count,
		.limit = limit,
		.weight = weight,
	};

	*weight = (struct weight){ 0 };
	if (top < 0)
		return top;
	int r = weigh_directory(&weigh, "");

	while (r == 0 && weigh.count > 0) {
		_cleanup_free_ char *next = weigh.paths[--weigh.count];

		r = weigh_directory(&weigh, next);
	}
	while (weigh.count > 0)
		free(weigh.paths[--weigh.count]);
	free(weigh.paths);
	return r < 0 ? r : 0;
}
