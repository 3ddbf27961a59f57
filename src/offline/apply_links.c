/* SPDX-License-Identifier: MIT */
/*
 * Hard links of the destination that the layer has in its index: with index=on
 * all names of such a file are one file, those too that are only below. After
 * the merge they have to be links of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "format/origin.h"
#include "offline/apply_internal.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"

static int apply_compare_numbers(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, two = *(const uint64_t *)b;

	return one < two ? -1 : one > two;
}

static int apply_read_index_name(const struct sys_dirent *entry, void *context)
{
	struct apply *apply = context;
	struct origin origin;
	struct statx st;

	if (!origin_from_index_name(entry->name, &origin))
		return 0;
	int r = sys_stat(apply->index_fd, entry->name, &st);

	/* The kernel's NFS export has directories and whiteouts there as well. */
	if (r < 0 || S_ISDIR(st.stx_mode) || whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)))
		return r;
	if (apply_grow(apply->indexed, apply->indexed_count) < 0)
		return -ENOMEM;
	apply->indexed[apply->indexed_count++] = st.stx_ino;
	return 0;
}

int apply_read_index(struct apply *apply)
{
	int r = apply->index_fd < 0 ?
			0 :
			sys_dir_for_each(apply->index_fd, apply_read_index_name, apply);

	if (r == 0 && apply->indexed_count > 1)
		qsort(apply->indexed, apply->indexed_count, sizeof(*apply->indexed),
		      apply_compare_numbers);
	return r < 0 ? apply_fail_path(apply, r, "read the index of",
				       apply->config->target->upper) :
		       0;
}

bool apply_is_indexed(const struct apply *apply, const struct statx *st)
{
	return apply->indexed_count > 0 &&
	       bsearch(&st->stx_ino, apply->indexed, apply->indexed_count, sizeof(*apply->indexed),
		       apply_compare_numbers);
}

/* ---- the other names ---- */

struct apply_search {
	struct apply *apply;
	char **todo; /* directories of the destination; owned, as are they */
	size_t count;
};

static int apply_add_extra(struct apply *apply, char *path, const char *index_name,
			   const struct statx *directory)
{
	struct apply_extra *added;

	if (apply_grow(apply->extras, apply->extra_count) < 0) {
		free(path);
		return -ENOMEM;
	}
	added = &apply->extras[apply->extra_count++];
	*added = (struct apply_extra){
		.path = path,
		.parent_mtime = { directory->stx_mtime.tv_sec, directory->stx_mtime.tv_nsec },
	};
	apply_tell(apply, APPLY_LINK, path, NULL, 0);
	return apply_copy_path(index_name, &added->index_name);
}

/* The name of an entry for the file in the index: of the form that a UUID was written with, or not. */
static int apply_find_index_name(struct apply *apply, int fd, const char *name,
				 char index_name[ORIGIN_INDEX_NAME_MAX + 1])
{
	struct origin origin = { 0 };
	struct sys_handle handle;
	struct statx st;
	int r = sys_handle_get(fd, name, &handle);

	if (r < 0 || handle.size > ORIGIN_FID_MAX)
		return r == -EOPNOTSUPP ? 0 : r;
	origin.type = (uint8_t)handle.type;
	origin.fid_size = (uint8_t)handle.size;
	memcpy(origin.fid, handle.bytes, handle.size);
	for (int with_uuid = 0; with_uuid < 2; with_uuid++) {
		if (with_uuid && sys_fs_uuid(fd, origin.uuid) < 0)
			break;
		if (origin_index_name(&origin, index_name) == 0)
			break;
		r = sys_stat(apply->index_fd, index_name, &st);
		if (r != -ENOENT)
			return r < 0 ? r : 1;
	}
	return 0;
}

static int apply_search_file(struct apply_search *search, int fd, const char *directory,
			     const char *name)
{
	struct apply *apply = search->apply;
	char index_name[ORIGIN_INDEX_NAME_MAX + 1];
	struct statx parent;
	char *shown = NULL;
	int r = apply_find_index_name(apply, fd, name, index_name);
	_cleanup_free_ char *source = r > 0 ? apply_join(directory, name) : NULL;

	if (r <= 0 || !source)
		return r <= 0 ? r : -ENOMEM;
	r = apply_find_shown(apply, source, &shown);
	if (r < 0 || !shown)
		return r;
	r = sys_stat(fd, "", &parent);
	if (r < 0) {
		free(shown);
		return r;
	}
	return apply_add_extra(apply, shown, index_name, &parent);
}

static int apply_search_name(struct apply_search *search, int fd, const char *directory,
			     const char *name)
{
	struct statx st;
	int r = sys_stat(fd, name, &st);

	if (r < 0 || sys_stat_is_mount_root(&st))
		return r;
	if (!S_ISDIR(st.stx_mode))
		return st.stx_nlink > 1 ? apply_search_file(search, fd, directory, name) : 0;
	char *path = apply_join(directory, name);

	if (!path || apply_grow(search->todo, search->count) < 0) {
		free(path);
		return -ENOMEM;
	}
	search->todo[search->count++] = path;
	return 0;
}

static int apply_search_dir(struct apply_search *search, const char *directory)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	_cleanup_close_ int fd = apply_open_dir(search->apply->dest_fd, directory);
	int r = fd < 0 ? fd : entry_names_read(fd, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = apply_search_name(search, fd, directory, names.names[i]);
	return r < 0 ? apply_fail_path(search->apply, r, "read", directory) : 0;
}

int apply_plan_links(struct apply *apply)
{
	struct apply_search search = { .apply = apply };

	if (apply->indexed_count == 0)
		return 0;
	if (apply->stays_layer)
		return apply_fail(apply, -ENOTSUP,
				  "the layer has hard links of files below in its index, and "
				  "their other names may be in any layer below");
	int r = apply_search_dir(&search, "");

	/* The list grows while it is read. */
	for (size_t i = 0; r == 0 && i < search.count; i++)
		r = apply_search_dir(&search, search.todo[i]);
	for (size_t i = 0; i < search.count; i++)
		free(search.todo[i]);
	free(search.todo);
	return r;
}
