/* SPDX-License-Identifier: MIT */
/*
 * Hard links of what is below that the layer has in its index: all names of
 * such a file are one file, those too that are only below. After the merge they
 * have to be links of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "format/nlink.h"
#include "format/origin.h"
#include "offline/apply_internal.h"
#include "offline/stack.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

static int apply_compare_numbers(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, two = *(const uint64_t *)b;

	return one < two ? -1 : one > two;
}

/* Whether the file in the index has names that the upper does not have; also if that is not known. */
static bool apply_has_outer_names(struct apply *apply, const char *name, const struct statx *st)
{
	char value[NLINK_SIZE_MAX];
	struct nlink nlink;
	ssize_t size = sys_getxattr_at(apply->index_fd, name,
				       xattr_private_name(apply->ns, XATTR_NLINK), value,
				       sizeof(value));

	/* The entry itself is a link that is no name. */
	return size < 0 || nlink_decode(value, (size_t)size, &nlink) < 0 || !nlink.of_upper ||
	       (int)st->stx_nlink + nlink.delta != (int)st->stx_nlink - 1;
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
	apply->has_outer_names |= apply_has_outer_names(apply, entry->name, &st);
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
	struct stack stack; /* the upper and all that merges below it */
};

/* The directory of @layer that takes part in @dir. */
static int apply_part_fd(const struct stack_dir *dir, unsigned int layer)
{
	unsigned int i = 0;

	while (i + 1 < dir->count && dir->parts[i].layer != layer)
		i++;
	return dir->parts[i].fd;
}

/*
 * The name of the object's entry in the index: of the form that a UUID was written with, or not. The
 * UUID is asked of the directory @dirfd, since not every object can be opened.
 */
static int apply_find_index_name(struct apply *apply, int dirfd, int fd,
				 char index_name[ORIGIN_INDEX_NAME_MAX + 1])
{
	struct origin origin = { 0 };
	struct sys_handle handle;
	struct statx st;
	int r = sys_handle_get(fd, "", &handle);

	if (r < 0 || handle.size > ORIGIN_FID_MAX)
		return r == -EOPNOTSUPP ? 0 : r;
	_cleanup_close_ int opened = sys_reopen(dirfd, O_RDONLY | O_DIRECTORY);

	origin.type = (uint8_t)handle.type;
	origin.fid_size = (uint8_t)handle.size;
	memcpy(origin.fid, handle.bytes, handle.size);
	for (int with_uuid = 0; with_uuid < 2; with_uuid++) {
		if (with_uuid && (opened < 0 || sys_fs_uuid(opened, origin.uuid) < 0))
			break;
		if (origin_index_name(&origin, index_name) == 0)
			break;
		r = sys_stat(apply->index_fd, index_name, &st);
		if (r != -ENOENT)
			return r < 0 ? r : 1;
	}
	return 0;
}

/*
 * The time that the directory is to have again after a name was put into it. -ENOTSUP: the
 * destination does not have it.
 */
static int apply_get_parent_time(struct apply_search *search, const struct stack_dir *dir,
				 struct timespec *mtime)
{
	struct statx st;
	const struct stack_part *part = &dir->parts[0];

	/* That of the upper's gets the time of that in any case. */
	if (dir->count > 1 && part->layer == 0)
		part++;
	if (part->layer > 1 && dir->parts[0].layer > 1 && !search->apply->config->to)
		return -ENOTSUP;
	int r = sys_stat(part->fd, "", &st);

	*mtime = (struct timespec){ st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec };
	return r;
}

static int apply_add_extra(struct apply_search *search, const struct stack_dir *dir, char *path,
			   const char *index_name)
{
	struct apply *apply = search->apply;
	struct apply_extra *added;
	struct timespec mtime;
	int r = apply_get_parent_time(search, dir, &mtime);

	if (r == -ENOTSUP)
		return apply_fail(apply, r,
				  "%s is one file with another that the layer changes, but in a "
				  "layer further below than %s, which does not have its directory",
				  path, apply->dest_real);
	if (r < 0 || apply_grow(apply->extras, apply->extra_count) < 0)
		return r < 0 ? r : -ENOMEM;
	added = &apply->extras[apply->extra_count++];
	*added = (struct apply_extra){ .parent_mtime = mtime };
	apply_tell(apply, APPLY_LINK, path, NULL, 0);
	r = apply_copy_path(path, &added->path);
	return r < 0 ? r : apply_copy_path(index_name, &added->index_name);
}

static int apply_search_dir(struct apply_search *search, struct stack_dir *dir, const char *path);

static int apply_search_name(struct apply_search *search, struct stack_dir *dir, const char *path,
			     const char *name)
{
	_cleanup_stack_found_ struct stack_found found = STACK_FOUND_INIT;
	_cleanup_free_ char *child = apply_join(path, name);
	char index_name[ORIGIN_INDEX_NAME_MAX + 1];
	int r = child ? stack_lookup(&search->stack, dir, name, 0, &found) : -ENOMEM;

	if (r < 0 || found.kind == STACK_NOTHING)
		return r;
	if (found.kind == STACK_DIR)
		return apply_search_dir(search, &found.dir, child);
	if (found.top.layer == 0 || found.top.st.stx_nlink == 1)
		return 0;
	r = apply_find_index_name(search->apply, apply_part_fd(dir, found.top.layer), found.top.fd,
				  index_name);
	return r <= 0 ? r : apply_add_extra(search, dir, child, index_name);
}

static int apply_search_dir(struct apply_search *search, struct stack_dir *dir, const char *path)
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	/* Of the upper as well: its directories may have others' names in them. */
	int r = stack_names(&search->stack, dir, 0, search->stack.count, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = apply_search_name(search, dir, path, names.names[i]);
	return r < 0 ? apply_fail_path(search->apply, r, "look for hard links in", path) : 0;
}

static int apply_search_union(struct apply_search *search)
{
	const struct target *target = search->apply->config->target;
	_cleanup_stack_dir_ struct stack_dir root = STACK_DIR_INIT;
	int r = stack_add(&search->stack, target->upper, false, search->apply->why);

	search->stack.ns = search->apply->ns;
	search->stack.has_upper = true;
	if (r == 0)
		r = stack_add_list(&search->stack, &target->lowers, search->apply->why);
	if (r == 0)
		r = stack_root(&search->stack, &root);
	return r < 0 ? r : apply_search_dir(search, &root, "");
}

int apply_plan_links(struct apply *apply)
{
	struct apply_search search = { .apply = apply, .stack = STACK_INIT };

	if (!apply->has_outer_names)
		return 0;
	int r = apply_search_union(&search);

	stack_deinit(&search.stack);
	return r;
}
