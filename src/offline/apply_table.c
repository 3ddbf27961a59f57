/* SPDX-License-Identifier: MIT */
/* Finding things of the plan, and files with several names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "offline/apply_internal.h"
#include "sys/file.h"

/* ---- sorted tables ---- */

static int apply_compare_dirs(const void *a, const void *b, void *context)
{
	const struct apply *apply = context;

	return strcmp(apply->dirs[*(const size_t *)a].path, apply->dirs[*(const size_t *)b].path);
}

static int apply_compare_sources(const void *a, const void *b, void *context)
{
	const struct apply *apply = context;

	return strcmp(apply->dirs[*(const size_t *)a].place.source,
		      apply->dirs[*(const size_t *)b].place.source);
}

static int apply_compare_metas(const void *a, const void *b, void *context)
{
	const struct apply *apply = context;

	return strcmp(apply->metas[*(const size_t *)a].path, apply->metas[*(const size_t *)b].path);
}

int apply_build_tables(struct apply *apply)
{
	free(apply->dirs_by_path);
	free(apply->dirs_by_source);
	free(apply->metas_by_path);
	apply->dirs_by_path = calloc(apply->dir_count + 1, sizeof(size_t));
	apply->dirs_by_source = calloc(apply->dir_count + 1, sizeof(size_t));
	apply->metas_by_path = calloc(apply->meta_count + 1, sizeof(size_t));
	if (!apply->dirs_by_path || !apply->dirs_by_source || !apply->metas_by_path)
		return -ENOMEM;
	apply->by_source_count = 0;
	for (size_t i = 0; i < apply->dir_count; i++) {
		apply->dirs_by_path[i] = i;
		if (apply->dirs[i].place.source)
			apply->dirs_by_source[apply->by_source_count++] = i;
	}
	for (size_t i = 0; i < apply->meta_count; i++)
		apply->metas_by_path[i] = i;
	qsort_r(apply->dirs_by_path, apply->dir_count, sizeof(size_t), apply_compare_dirs, apply);
	qsort_r(apply->dirs_by_source, apply->by_source_count, sizeof(size_t),
		apply_compare_sources, apply);
	qsort_r(apply->metas_by_path, apply->meta_count, sizeof(size_t), apply_compare_metas,
		apply);
	return 0;
}

/* The place of @path in a table sorted by what @key tells; APPLY_NONE: it has none. */
static size_t apply_search(const struct apply *apply, const size_t *table, size_t count,
			   const char *(*key)(const struct apply *apply, size_t index),
			   const char *path)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(key(apply, table[middle]), path);

		if (order == 0)
			return table[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return APPLY_NONE;
}

static const char *apply_dir_key(const struct apply *apply, size_t index)
{
	return apply->dirs[index].path;
}

static const char *apply_source_key(const struct apply *apply, size_t index)
{
	return apply->dirs[index].place.source;
}

static const char *apply_meta_key(const struct apply *apply, size_t index)
{
	return apply->metas[index].path;
}

size_t apply_find_dir(const struct apply *apply, const char *path)
{
	return apply_search(apply, apply->dirs_by_path, apply->dir_count, apply_dir_key, path);
}

size_t apply_find_by_source(const struct apply *apply, const char *source)
{
	return apply_search(apply, apply->dirs_by_source, apply->by_source_count, apply_source_key,
			    source);
}

struct apply_meta *apply_find_meta(const struct apply *apply, const char *path)
{
	size_t found =
		apply_search(apply, apply->metas_by_path, apply->meta_count, apply_meta_key, path);

	return found == APPLY_NONE ? NULL : &apply->metas[found];
}

/* ---- files with several names ---- */

static struct apply_group *apply_group_slot(const struct apply_groups *groups,
					    const struct apply_group_key *key)
{
	uint64_t to = hash_u64(key->to_mount, key->to_dev);
	size_t at = hash_u64(key->dev ^ to, key->ino) & (groups->size - 1);

	while (groups->slots[at].path && memcmp(&groups->slots[at].key, key, sizeof(*key)) != 0)
		at = (at + 1) & (groups->size - 1);
	return &groups->slots[at];
}

const char *apply_group_find(const struct apply_groups *groups, const struct apply_group_key *key)
{
	return groups->size == 0 ? NULL : apply_group_slot(groups, key)->path;
}

static int apply_groups_enlarge(struct apply_groups *groups)
{
	struct apply_groups larger = {
		.count = groups->count,
		.size = groups->size ? 2 * groups->size : 64,
	};

	larger.slots = calloc(larger.size, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < groups->size; i++) {
		const struct apply_group *group = &groups->slots[i];

		if (group->path)
			*apply_group_slot(&larger, &group->key) = *group;
	}
	free(groups->slots);
	*groups = larger;
	return 0;
}

int apply_group_set(struct apply_groups *groups, const struct apply_group_key *key,
		    const char *path)
{
	char *copy = strdup(path);

	if (!copy || (2 * groups->count >= groups->size && apply_groups_enlarge(groups) < 0)) {
		free(copy);
		return -ENOMEM;
	}
	struct apply_group *slot = apply_group_slot(groups, key);

	groups->count += !slot->path;
	free(slot->path);
	*slot = (struct apply_group){ .key = *key, .path = copy };
	return 0;
}

void apply_groups_deinit(struct apply_groups *groups)
{
	for (size_t i = 0; i < groups->size; i++)
		free(groups->slots[i].path);
	free(groups->slots);
	*groups = (struct apply_groups){ 0 };
}

/* ---- the end ---- */

void apply_plan_deinit(struct apply *apply)
{
	for (size_t i = 0; i < apply->dir_count; i++) {
		free(apply->dirs[i].path);
		free(apply->dirs[i].identity);
		apply_place_deinit(&apply->dirs[i].place);
	}
	for (size_t i = 0; i < apply->move_count; i++) {
		free(apply->moves[i].source);
		free(apply->moves[i].stage);
	}
	for (size_t i = 0; i < apply->meta_count; i++) {
		free(apply->metas[i].path);
		free(apply->metas[i].source);
		free(apply->metas[i].redirect);
	}
	for (size_t i = 0; i < apply->extra_count; i++) {
		free(apply->extras[i].path);
		free(apply->extras[i].index_name);
	}
	for (size_t i = 0; i < apply->protected_count; i++)
		free(apply->protected[i].path);
	for (size_t i = 0; i < apply->closed_count; i++)
		free(apply->closed[i]);
	free(apply->closed);
	free(apply->dirs);
	free(apply->moves);
	free(apply->metas);
	free(apply->extras);
	free(apply->protected);
	free(apply->dirs_by_path);
	free(apply->dirs_by_source);
	free(apply->metas_by_path);
	free(apply->indexed);
	apply_groups_deinit(&apply->groups);
}
