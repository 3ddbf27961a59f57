/* SPDX-License-Identifier: MIT */
#include "core/tell.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/layer.h"
#include "core/node.h"
#include "sys/dir.h"
#include "sys/file.h"

struct tell_names {
	const struct core_watcher *watcher;
	uint64_t node;
};

static int tell_entry(const struct sys_dirent *entry, void *context)
{
	const struct tell_names *telling = context;

	telling->watcher->name(telling->watcher->context, telling->node, entry->name);
	return 0;
}

/* The real directories that @node is made of, counted; *@count of them. NULL: out of memory. */
static struct ldir **tell_get_parts(struct node *node, unsigned int *count)
{
	struct node_dir *dir = node->dir;

	lock_rw_read(&dir->lock);
	struct ldir **parts = calloc(dir->lower_count + 1, sizeof(struct ldir *));

	*count = 0;
	if (parts && dir->upper)
		parts[(*count)++] = ldir_ref(dir->upper);
	for (unsigned int i = 0; parts && i < dir->lower_count; i++)
		parts[(*count)++] = ldir_ref(dir->lowers[i]);
	lock_rw_read_unlock(&dir->lock);
	return parts;
}

void tell_names(struct core *core, struct node *node, const struct core_watcher *watcher)
{
	struct tell_names telling = { .watcher = watcher, .node = node->id };
	unsigned int count;
	_cleanup_free_ struct ldir **parts = tell_get_parts(node, &count);

	for (unsigned int i = 0; parts && i < count; i++) {
		_cleanup_close_ int fd = parts[i]->is_mount_point ? -1 :
								    ldir_open(&core->fds, parts[i]);

		if (fd >= 0) {
			sys_keep_atime(fd);
			sys_dir_for_each(fd, tell_entry, &telling);
		}
		ldir_unref(&core->fds, parts[i]);
	}
}
