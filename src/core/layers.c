/* SPDX-License-Identifier: MIT */
/* Making layers of the directories that options name. */
#include "core/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/source.h"
#include "format/whiteout.h"
#include "sys/creds.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

/* Appends the sentence and returns the errno it explains. */
#define layers_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- checks ---- */

static int layers_check_config(const struct core_config *config, struct strbuf *why)
{
	const struct lowerdir_list *lowers = &config->lowers;

	if (lowers->count == 0 || lowers->items[0].data_only)
		return layers_fail(why, -EINVAL, "lowerdir= is needed");
	if (lowers->count > LAYERS_MAX)
		return layers_fail(why, -EINVAL, "%zu lower layers are too many, at most %d",
				   lowers->count, LAYERS_MAX);
	for (size_t i = 1; i < lowers->count; i++) {
		if (lowers->items[i - 1].data_only && !lowers->items[i].data_only)
			return layers_fail(why, -EINVAL,
					   "lowerdir=%s comes after a data-only layer; those must "
					   "be the last",
					   lowers->items[i].path);
	}
	if (config->upperdir && !config->workdir)
		return layers_fail(
			why, -EINVAL,
			"upperdir= needs workdir=, an empty directory on the same mount");
	if (config->workdir && !config->upperdir)
		return layers_fail(why, -EINVAL, "workdir= makes no sense without upperdir=");
	return 0;
}

/* ---- layers ---- */

static void layer_learn_identity(struct layer *layer)
{
	struct sys_handle handle;

	layer->has_uuid = sys_fs_uuid(layer->fd, layer->uuid) == 0;
	layer->has_handles = sys_handle_get(layer->fd, "", &handle) == 0;
}

/*
 * Fills @layer. Whatever was opened is layers_close()'s to close. The one descriptor of a layer takes
 * the place of the source's, so that as many layers as there can be fit into 1024.
 */
static int layer_open(struct core *core, const struct core_config *config, struct layer *layer,
		      struct source *source)
{
	int fd = sys_reopen(source->fd, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	layer->dev = source->dev;
	layer->is_private = source->is_private;
	layer->crosses_mounts = config->cross_mounts && !layer->is_upper;
	layer->path = strdup(source->path);
	layer->root = ldir_new_root(&core->fds, layer, fd);
	if (!layer->root)
		cleanup_close(&fd);
	if (!layer->root || !layer->path)
		return -ENOMEM;
	layer->fd = fd;
	int r = sys_fs_magic(fd, &layer->magic);

	if (r < 0)
		return r;
	layer->is_immutable = layer->magic == EROFS_SUPER_MAGIC_V1;
	if (!layer->is_upper) { /* the upper's is needed to set up the work directory */
		cleanup_close(&source->fd);
		source->fd = -1;
	}
	layer_learn_identity(layer);
	return ident_add_dev(&core->ident, layer->dev);
}

/* Prepares the array, so that layers_close() may see it half filled. */
static int layers_alloc(struct core *core, const struct core_config *config, unsigned int traps)
{
	unsigned int count = config->lowers.count + (core->has_upper ? 1 : 0);

	core->layers = calloc(count, sizeof(*core->layers));
	core->traps = calloc(traps, sizeof(*core->traps));
	if (!core->layers || !core->traps)
		return -ENOMEM;
	for (size_t i = 0; i < config->lowers.count; i++)
		core->data_count += config->lowers.items[i].data_only;
	core->layer_count = count;
	for (unsigned int i = 0; i < count; i++) {
		struct layer *layer = &core->layers[i];

		layer->fd = -1;
		layer->index = core->has_upper ? i : i + 1;
		layer->is_upper = core->has_upper && i == 0;
		layer->is_data = i >= count - core->data_count;
		layer->is_last = i + 1 == count - core->data_count;
		lock_mutex_init(&layer->places, LOCK_RANK_LDIR);
	}
	return 0;
}

static int layers_fill(struct core *core, const struct core_config *config,
		       struct source_list *list, struct strbuf *why)
{
	for (unsigned int i = 0; i < core->layer_count; i++) {
		/* The work directory stands between the upper and the lowers. */
		struct source *source = &list->items[core->has_upper && i > 0 ? i + 1 : i];
		int r = layer_open(core, config, &core->layers[i], source);

		if (r < 0)
			return layers_fail(why, r, "%s=%s: %s", source->option, source->path,
					   strerror(-r));
	}
	for (unsigned int i = 0; i < list->count; i++)
		core->traps[i] = (struct core_trap){ list->items[i].dev, list->items[i].ino };
	core->trap_count = list->count;
	return 0;
}

/* ---- attributes ---- */

/* Which namespace a union that writes nothing reads. */
static enum xattr_namespace layers_choose_xattrs(enum core_xattrs xattrs)
{
	if (xattrs == CORE_XATTRS_AUTO)
		/* Others see no trusted attribute at all. */
		return sys_creds_is_initial_userns() && sys_creds_has_cap(CAP_SYS_ADMIN) ?
			       XATTR_TRUSTED :
			       XATTR_USER;
	return xattrs == CORE_XATTRS_USER ? XATTR_USER : XATTR_TRUSTED;
}

/* A lower root marked "x" holds attribute whiteouts, its own or deeper. */
static void layers_find_xwhiteouts(struct core *core)
{
	for (unsigned int i = core->has_upper ? 1 : 0; i < core->layer_count; i++) {
		struct layer *layer = &core->layers[i];
		char value[2];
		ssize_t size =
			sys_getxattr(layer->fd, core_key(core, XATTR_OPAQUE), value, sizeof(value));

		if (size > 0 && opaque_parse(value, size) == OPAQUE_XWHITEOUTS)
			atomic_store(&layer->xwhiteouts, true);
	}
}

/* ---- all of it ---- */

/*
 * Without a clone of its own a layer with all its mounts would hold the union as well, as soon as
 * that is mounted.
 */
static int layers_check_clones(const struct core *core, const struct source_list *list,
			       struct strbuf *why)
{
	for (unsigned int i = core->has_upper ? 2 : 0; i < list->count; i++) {
		const struct source *source = &list->items[i];

		if (!source->is_private)
			return layers_fail(why, -EPERM,
					   "%s=%s: its mounts cannot be cloned, which cross_mounts "
					   "takes: mount as root, or in a user namespace",
					   source->option, source->path);
	}
	return 0;
}

static int layers_open_checked(struct core *core, const struct core_config *config,
			       struct source_list *list, struct strbuf *why)
{
	int r = source_list_open(list, config, why);

	if (r == 0)
		r = source_list_check(list, core->has_upper, why);
	if (r == 0)
		source_list_clone(list, core->has_upper, core->read_only, config->cross_mounts);
	if (r == 0 && config->cross_mounts && !config->at_rest)
		r = layers_check_clones(core, list, why);
	if (r == 0)
		r = layers_alloc(core, config, list->count);
	if (r == 0)
		r = layers_fill(core, config, list, why);
	core->ns = layers_choose_xattrs(config->xattrs);
	if (r == 0 && core->has_upper)
		r = workdir_init(core, config->xattrs, list->items[1].fd, list->items[0].fd,
				 config->workdir, why);
	return r;
}

int layers_open(struct core *core, const struct core_config *config, struct strbuf *why)
{
	struct source_list list = { 0 };
	int r = layers_check_config(config, why);

	if (r < 0)
		return r;
	core->has_upper = config->upperdir != NULL;
	r = layers_open_checked(core, config, &list, why);
	source_list_deinit(&list);
	if (r == 0)
		layers_find_xwhiteouts(core);
	return r;
}

void layers_close(struct core *core)
{
	for (unsigned int i = 0; i < core->layer_count; i++) {
		struct layer *layer = &core->layers[i];

		ldir_unref(&core->fds, layer->root);
		free(layer->path);
		lock_mutex_deinit(&layer->places);
	}
	free(core->layers);
	free(core->traps);
}
