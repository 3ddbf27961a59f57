/* SPDX-License-Identifier: MIT */
#include "tools/export_extras.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/whiteout.h"
#include "offline/stack.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

#define EXPORT_EXTRAS_INDEX "index"

struct export_search {
	const struct target *target;
	struct export_extras *extras;
	struct stack stack;
	int index; /* the directory's descriptor */
};

void export_extras_deinit(struct export_extras *extras)
{
	for (size_t i = 0; i < extras->count; i++) {
		free(extras->items[i].path);
		free(extras->items[i].source);
	}
	free(extras->items);
	*extras = (struct export_extras){ 0 };
}

static int export_extras_compare(const void *left, const void *right)
{
	const struct export_extra *a = left, *b = right;

	return strcmp(a->path, b->path);
}

const struct export_extra *export_extras_get(const struct export_extras *extras, const char *path)
{
	const struct export_extra wanted = { .path = (char *)path };

	return extras->count ? bsearch(&wanted, extras->items, extras->count,
				       sizeof(*extras->items), export_extras_compare) :
			       NULL;
}

/* The first whose path is not before @path. */
static size_t export_extras_bound(const struct export_extras *extras, const char *path)
{
	size_t low = 0, high = extras->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(extras->items[middle].path, path) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int export_extras_names(const struct export_extras *extras, const char *path,
			struct entry_names *names)
{
	_cleanup_strbuf_ struct strbuf prefix = STRBUF_INIT;
	int r = 0;

	if (extras->count == 0)
		return 0;
	strbuf_append_format(&prefix, "%s%s", path, *path ? "/" : "");
	if (prefix.failed)
		return -ENOMEM;
	for (size_t i = export_extras_bound(extras, prefix.data); r == 0 && i < extras->count;
	     i++) {
		const char *rest = extras->items[i].path + prefix.length;

		if (strncmp(extras->items[i].path, prefix.data, prefix.length) != 0)
			break;
		char *name = strndup(rest, strcspn(rest, "/"));

		entry_names_sort(names);
		r = !name			 ? -ENOMEM :
		    entry_names_has(names, name) ? 0 :
						   entry_names_add(names, name);
		free(name);
	}
	entry_names_sort(names);
	return r;
}

static int export_extras_add(struct export_extras *extras, const char *path, uint64_t ino)
{
	struct export_extra *more =
		reallocarray(extras->items, extras->count + 1, sizeof(*extras->items));

	if (!more)
		return -ENOMEM;
	extras->items = more;
	more[extras->count] = (struct export_extra){ .path = strdup(path), .ino = ino };
	if (!more[extras->count].path)
		return -ENOMEM;
	extras->count++;
	return 0;
}

/* ---- the index ---- */

/* True unless the upper has all names of the entry: then it has one link more than names. */
static bool export_search_is_partial(const struct export_search *search, const char *name)
{
	const char *key = xattr_private_name(search->target->ns, XATTR_NLINK);
	char value[NLINK_SIZE_MAX];
	struct origin origin;
	struct nlink nlink;
	struct statx st;

	if (!origin_from_index_name(name, &origin) || sys_stat(search->index, name, &st) < 0 ||
	    S_ISDIR(st.stx_mode) || whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)))
		return false;
	ssize_t size = sys_getxattr_at(search->index, name, key, value, sizeof(value));

	return size < 0 || nlink_decode(value, (size_t)size, &nlink) < 0 || !nlink.of_upper ||
	       nlink.delta != -1;
}

static int export_search_needs_names(const struct export_search *search, bool *needed)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = entry_names_read(search->index, &names);

	for (size_t i = 0; r == 0 && !*needed && i < names.count; i++)
		*needed = export_search_is_partial(search, names.names[i]);
	return r;
}

/* The file in the upper that stands for the lower's @file: its number in *@ino. 1, 0 or -errno. */
static int export_search_index(const struct export_search *search, const struct stack_hit *file,
			       uint64_t *ino)
{
	char name[ORIGIN_INDEX_NAME_MAX + 1];
	struct origin origin = { 0 };
	struct sys_handle handle;
	struct statx st;
	int r = sys_handle_get(file->fd, "", &handle);

	if (r < 0 || handle.size > ORIGIN_FID_MAX)
		return r == -EOPNOTSUPP ? 0 : r;
	origin.type = (uint8_t)handle.type;
	origin.fid_size = (uint8_t)handle.size;
	memcpy(origin.fid, handle.bytes, handle.size);
	/* It was written with the file system's UUID, or without. */
	for (int with_uuid = 0; with_uuid < 2; with_uuid++) {
		int root = search->stack.layers[file->layer].fd;
		_cleanup_close_ int fd = with_uuid ? sys_reopen(root, O_RDONLY | O_DIRECTORY) : -1;

		if (with_uuid && (fd < 0 || sys_fs_uuid(fd, origin.uuid) < 0))
			return 0;
		if (origin_index_name(&origin, name) == 0)
			return 0;
		r = sys_stat(search->index, name, &st);
		if (r == 0)
			*ino = st.stx_ino;
		if (r != -ENOENT)
			return r < 0 ? r : 1;
	}
	return 0;
}

/* ---- the union ---- */

static int export_search_dir(struct export_search *search, struct stack_dir *dir,
			     struct strbuf *path);

static int export_search_found(struct export_search *search, struct stack_found *found,
			       struct strbuf *path)
{
	uint64_t ino = 0;
	int r;

	if (path->failed)
		return -ENOMEM;
	if (found->kind == STACK_DIR)
		return export_search_dir(search, &found->dir, path);
	if (found->kind != STACK_FILE || found->top.layer == 0 || found->top.st.stx_nlink < 2)
		return 0;
	r = export_search_index(search, &found->top, &ino);
	return r <= 0 ? r : export_extras_add(search->extras, path->data, ino);
}

static int export_search_dir(struct export_search *search, struct stack_dir *dir,
			     struct strbuf *path)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = stack_names(&search->stack, dir, 0, search->stack.count, &names);
	size_t length = path->length;

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;

		r = stack_lookup(&search->stack, dir, names.names[i], 0, &found);
		strbuf_append_format(path, "%s%s", length ? "/" : "", names.names[i]);
		if (r == 0)
			r = export_search_found(search, &found, path);
		path->length = length;
		if (path->data)
			path->data[length] = '\0';
	}
	return r;
}

static int export_search_union(struct export_search *search, struct strbuf *why)
{
	_cleanup_stack_dir_ struct stack_dir root = STACK_DIR_INIT;
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	int r = stack_add(&search->stack, search->target->upper, false, why);

	if (r == 0)
		r = stack_add_list(&search->stack, &search->target->lowers, why);
	if (r < 0)
		return r;
	search->stack.has_upper = true;
	search->stack.ns = search->target->ns;
	sys_raise_nofile(); /* each directory on the way takes some */
	r = stack_root(&search->stack, &root);
	if (r == 0)
		r = export_search_dir(search, &root, &path);
	if (r < 0)
		strbuf_append_format(why,
				     "%s: the other names of files in the index cannot be looked "
				     "for: %s",
				     search->target->name, strerror(-r));
	return r;
}

/* ---- names of the upper ---- */

static int export_search_name(struct export_search *search, const char *path, uint64_t ino)
{
	struct export_extras *extras = search->extras;

	for (size_t i = 0; i < extras->count; i++) {
		struct export_extra *extra = &extras->items[i];

		if (extra->ino != ino || extra->source)
			continue;
		extra->source = strdup(path);
		if (!extra->source)
			return -ENOMEM;
	}
	return 0;
}

static int export_search_upper(struct export_search *search, int fd, struct strbuf *path)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = entry_names_read(fd, &names);
	size_t length = path->length;

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct statx st;

		strbuf_append_format(path, "%s%s", length ? "/" : "", names.names[i]);
		r = path->failed ? -ENOMEM : sys_stat(fd, names.names[i], &st);
		if (r == 0 && S_ISDIR(st.stx_mode)) {
			_cleanup_close_ int sub =
				sys_open(fd, names.names[i], O_RDONLY | O_DIRECTORY, 0);

			r = sub < 0 ? sub : export_search_upper(search, sub, path);
		} else if (r == 0 && st.stx_nlink > 1) {
			r = export_search_name(search, path->data, st.stx_ino);
		}
		path->length = length;
		if (path->data)
			path->data[length] = '\0';
	}
	return r;
}

/* What was changed and then lost its name in the upper is in the index alone, out of reach. */
static int export_search_check(const struct export_search *search, struct strbuf *why)
{
	for (size_t i = 0; i < search->extras->count; i++) {
		const struct export_extra *extra = &search->extras->items[i];

		if (extra->source)
			continue;
		strbuf_append_format(
			why,
			"/%s: was changed, but is in the index of the work directory "
			"alone: mount the layer, and rename it to another name and back",
			extra->path);
		return -ENOTSUP;
	}
	return 0;
}

static int export_search_sources(struct export_search *search, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open_path(search->target->upper, O_RDONLY | O_DIRECTORY);
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	int r = fd < 0 ? fd : export_search_upper(search, fd, &path);

	if (r < 0)
		strbuf_append_format(why, "%s: %s", search->target->upper, strerror(-r));
	qsort(search->extras->items, search->extras->count, sizeof(*search->extras->items),
	      export_extras_compare);
	return r < 0 ? r : export_search_check(search, why);
}

int export_extras_find(const struct target *target, struct export_extras *extras,
		       struct strbuf *why)
{
	struct export_search search = { .target = target, .extras = extras, .stack = STACK_INIT };
	_cleanup_close_ int work =
		target->work ? sys_open_path(target->work, O_RDONLY | O_DIRECTORY) : -ENOENT;
	_cleanup_close_ int index =
		work < 0 ? work : sys_open(work, EXPORT_EXTRAS_INDEX, O_RDONLY | O_DIRECTORY, 0);
	bool needed = false;
	int r = 0;

	if (index == -ENOENT)
		return 0;
	search.index = index;
	r = index < 0 ? index : export_search_needs_names(&search, &needed);
	if (r < 0)
		strbuf_append_format(why, "%s/" EXPORT_EXTRAS_INDEX ": %s", target->work,
				     strerror(-r));
	if (r == 0 && needed)
		r = export_search_union(&search, why);
	if (r == 0 && extras->count > 0)
		r = export_search_sources(&search, why);
	stack_deinit(&search.stack);
	return r;
}
