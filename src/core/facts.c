/* SPDX-License-Identifier: MIT */
/* What a union is made of and holds, for whoever asks: nothing here changes anything. */
#include <errno.h>
#include <stdatomic.h>

#include "core/internal.h"

unsigned int core_layer_count(const struct core *core)
{
	return core->layer_count;
}

void core_get_layer(const struct core *core, unsigned int index, struct core_layer *info)
{
	const struct layer *layer = &core->layers[index];

	*info = (struct core_layer){
		.kind = layer->is_upper ? CORE_LAYER_UPPER :
			layer->is_data	? CORE_LAYER_DATA :
					  CORE_LAYER_LOWER,
		.path = layer->path,
		.dev = layer->dev,
		.magic = layer->magic,
	};
}

void core_get_settings(const struct core *core, struct core_settings *settings)
{
	*settings = (struct core_settings){
		.redirect = core->redirect,
		.fsync = core->fsync,
		.verity = core->verity,
		.has_index = core->index,
		.metacopy = core->metacopy,
		.metacopy_write = core->metacopy_write,
		.uses_user_xattrs = core_uses_user_xattrs(core),
		.read_only = core->read_only,
		.static_nlink = core->static_nlink,
		.noatime = core->noatime,
		.layers_change = core->layers_change,
		.cross_mounts = core->layers[core->layer_count - 1].crosses_mounts,
	};
}

static void core_count_fds(struct fdcache *fds, struct core_counts *counts)
{
	lock_mutex_lock(&fds->lock);
	counts->fds = fds->open;
	counts->fds_max = fds->max;
	lock_mutex_unlock(&fds->lock);
}

void core_get_counts(struct core *core, struct core_counts *counts)
{
	*counts = (struct core_counts){
		.nodes = idtable_count(core->nodes.ids),
		.nodes_max = core->budget.config.max_nodes,
		.open_dirs = idtable_count(core->handles),
		.orphan_fds = atomic_load(&core->orphans),
		.orphan_fds_max = core->orphan_max,
		.name_index_bytes = atomic_load(&core->lower_names_budget.used),
		.name_index_bytes_max = core->lower_names_budget.max,
		.copyups = atomic_load(&core->progress.copyups),
		.copyup_bytes = atomic_load(&core->progress.bytes),
	};
	core_count_fds(&core->fds, counts);
}
