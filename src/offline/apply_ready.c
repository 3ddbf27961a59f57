/* SPDX-License-Identifier: MIT */
/*
 * Whether the destination lets itself be changed: what can be known beforehand
 * must not stop a run half-way, when the layer cannot be mounted any more.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "offline/apply_internal.h"
#include "sys/file.h"

#define APPLY_PROTECTED (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)

static int apply_check_mount(struct apply *apply, int fd, const char *source)
{
	struct statvfs st;
	int r = sys_statvfs(fd, &st);

	if (r < 0 || !(st.f_flag & ST_RDONLY))
		return r;
	return apply_fail(apply, -EROFS,
			  "%s/%s would change, and is on a file system that is mounted read-only: "
			  "remount it, or merge into a copy with --to",
			  apply->dest, source);
}

/* An ordinary user changes names in what is his or open to him, unless flags protect it. */
static int apply_check_names(struct apply *apply, int fd, const struct statx *st,
			     const char *source)
{
	if (st->stx_attributes & APPLY_PROTECTED)
		return apply_fail(apply, -EPERM,
				  "%s/%s is append-only or immutable: have it committed as root",
				  apply->dest, source);
	if (st->stx_uid == geteuid() || sys_may_access(fd, "", W_OK | X_OK))
		return 0;
	return apply_fail(apply, -EACCES,
			  "names in %s/%s would change, which you may not write: have it committed "
			  "as root",
			  apply->dest, source);
}

/* The attributes of the upper's directory are given to its own directories only. */
static int apply_check_owner(struct apply *apply, int upper_fd, const struct statx *st,
			     const char *source)
{
	_cleanup_entry_ struct entry up = ENTRY_INIT;
	int r = entry_read(upper_fd, "", apply->ns, &up);

	if (r < 0 || up.owner.marks || st->stx_uid == geteuid())
		return r;
	return apply_fail(
		apply, -EPERM,
		"%s/%s belongs to somebody else, and only root can give it the attributes "
		"that the layer has for it: have it committed as root",
		apply->dest, source);
}

int apply_check_ready(struct apply *apply, size_t dir, int upper_fd, int source_fd)
{
	const char *source = apply->dirs[dir].place.source;
	/* One that moves changes in its "..". */
	bool is_written = apply->dirs[dir].is_written || apply->dirs[dir].move != APPLY_NONE;
	struct statx st;
	int r = apply_check_mount(apply, source_fd, source);

	if (r < 0 || apply->is_root_user)
		return r;
	r = sys_stat(source_fd, "", &st);
	if (r == 0 && (is_written || st.stx_uid == geteuid()))
		r = apply_check_names(apply, source_fd, &st, source);
	return r < 0 ? r : apply_check_owner(apply, upper_fd, &st, source);
}

int apply_note_closed(struct apply *apply, int fd, const char *source)
{
	struct statx st;
	int r = apply->is_root_user ? 0 : sys_stat(fd, "", &st);

	if (apply->is_root_user || r < 0)
		return r;
	if (!(st.stx_attributes & APPLY_PROTECTED) &&
	    (st.stx_uid == geteuid() || sys_may_access(fd, "", W_OK | X_OK)))
		return 0;
	if (apply_grow(apply->closed, apply->closed_count) < 0)
		return -ENOMEM;
	r = apply_copy_path(source, &apply->closed[apply->closed_count]);
	apply->closed_count += r == 0;
	return r;
}

static bool apply_is_moved_out(const struct apply *apply, const char *source)
{
	for (size_t i = 0; i < apply->move_count; i++) {
		const char *moved = apply->moves[i].source;
		size_t length = strlen(moved);

		if (strncmp(source, moved, length) == 0 &&
		    (source[length] == '/' || !source[length]))
			return true;
	}
	return false;
}

int apply_check_closed(struct apply *apply)
{
	for (size_t i = 0; i < apply->closed_count; i++)
		if (!apply_is_moved_out(apply, apply->closed[i]))
			return apply_fail(
				apply, -EACCES,
				"%s/%s was removed, and you may not remove what is in it: "
				"have it committed as root",
				apply->dest, apply->closed[i]);
	return 0;
}

/* Names of the union: where the directory is in the destination now, the plan knows. */
static int apply_check_extra(struct apply *apply, const struct apply_extra *extra)
{
	_cleanup_free_ char *parent = apply_parent(extra->path);
	_cleanup_close_ int fd = parent ? apply_open_dir(apply->dest_fd, parent) : -ENOMEM;
	struct statx st;

	/* It comes there with the merge, and was looked at where it is. */
	if (fd == -ENOENT || (parent && apply_find_dir(apply, parent) != APPLY_NONE))
		return 0;
	int r = fd < 0 ? fd : apply_check_mount(apply, fd, parent);

	if (r < 0 || apply->is_root_user)
		return r;
	r = sys_stat(fd, "", &st);
	return r < 0 ? r : apply_check_names(apply, fd, &st, parent);
}

int apply_check_extras_ready(struct apply *apply)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < apply->extra_count; i++)
		r = apply_check_extra(apply, &apply->extras[i]);
	return r;
}
