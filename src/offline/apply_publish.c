/* SPDX-License-Identifier: MIT */
/*
 * One step from the old object to the new one. What was there is moved to
 * apply->temp in the same directory, or is put there by the same step, and
 * removed after; a run that is done again finds and removes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "offline/apply_internal.h"
#include "offline/mutate.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/mount.h"

/* ---- removing ---- */

/* Takes append-only and immutable off; true if there was one. */
static bool apply_unprotect_name(int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH, 0);

	return fd >= 0 && apply_attr_unprotect(fd);
}

/*
 * A tree may be deeper than any stack: so it is flattened. Subdirectories of a directory move up to
 * the root of the tree until it is empty.
 */
struct apply_removal {
	struct apply *apply;
	int rootfd;
	int subfd; /* that is being emptied */
	unsigned long long moved; /* names given so far */
	bool is_progress;
};

/* What is mounted there is no part of the tree, and nobody asked to have it removed. */
static int apply_check_no_mount(struct apply *apply, int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH, 0);
	unsigned long long above = 0, here = 0;
	char link[SYS_FD_PATH_MAX], path[PATH_MAX];
	int r = fd < 0 ? fd : sys_mount_id(dirfd, &above);

	if (r == 0)
		r = sys_mount_id(fd, &here);
	if (r < 0 || above == here)
		return r;
	ssize_t size = sys_readlink(AT_FDCWD, sys_fd_path(fd, link), path, sizeof(path) - 1);

	path[size < 0 ? 0 : size] = '\0';
	return apply_fail(apply, -EBUSY,
			  "something is mounted on %s, in what is to be removed: unmount it first",
			  size < 0 ? name : path);
}

static int apply_open_to_empty(struct apply *apply, int dirfd, const char *name)
{
	int r = apply_check_no_mount(apply, dirfd, name);
	int fd = r < 0 ? r : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0 && (r < 0 || fd != -EACCES))
		return fd;
	if (fd >= 0) {
		struct statx st;

		r = sys_stat(fd, "", &st);
		if (r == 0 && (st.stx_mode & 0700) == 0700)
			return fd;
		close(fd);
		if (r < 0)
			return r;
	}
	/* Its owner has to be able to write. */
	_cleanup_close_ int path = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

	r = path < 0 ? path : mutate_chmod(path, 0700);
	if (r == -EPERM && apply_attr_unprotect(path))
		r = mutate_chmod(path, 0700);
	return r < 0 ? r : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
}

/* Or it is in use in some other way. */
static int apply_explain_busy(struct apply *apply, int dirfd, const char *name)
{
	int r = apply_check_no_mount(apply, dirfd, name);

	return r < 0 ? r : -EBUSY;
}

static int apply_unlink(struct apply *apply, int dirfd, const char *name)
{
	int r = mutate_unlink(dirfd, name);

	if (r == -EPERM && apply_unprotect_name(dirfd, name))
		r = mutate_unlink(dirfd, name);
	if (r == -EPERM && apply_attr_unprotect(dirfd))
		r = mutate_unlink(dirfd, name);
	return r == -EBUSY ? apply_explain_busy(apply, dirfd, name) : r;
}

static int apply_make_writable(int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

	return fd < 0 ? fd : mutate_chmod(fd, 0700);
}

static int apply_move_up(struct apply_removal *removal, const char *name)
{
	char moved[40];
	int r;

	apply_unprotect_name(removal->subfd, name);
	do {
		snprintf(moved, sizeof(moved), APPLY_PREFIX "%llx", removal->moved++);
		r = mutate_rename(removal->subfd, name, removal->rootfd, moved, RENAME_NOREPLACE);
		/* A directory that moves has to be writable: its ".." changes. */
		if (r == -EACCES && apply_make_writable(removal->subfd, name) == 0)
			r = mutate_rename(removal->subfd, name, removal->rootfd, moved,
					  RENAME_NOREPLACE);
	} while (r == -EEXIST);
	return r == -EBUSY ? apply_explain_busy(removal->apply, removal->subfd, name) : r;
}

static int apply_empty_name(const struct sys_dirent *entry, void *context)
{
	struct apply_removal *removal = context;
	int r = entry->type == DT_DIR ? -EISDIR :
					apply_unlink(removal->apply, removal->subfd, entry->name);

	removal->is_progress = true;
	if (r == -EISDIR)
		r = apply_move_up(removal, entry->name);
	return r == -ENOENT ? 0 : r;
}

static int apply_remove_subdir(struct apply_removal *removal, const char *name)
{
	_cleanup_close_ int subfd = apply_open_to_empty(removal->apply, removal->rootfd, name);
	int r = 0;

	if (subfd < 0)
		return subfd;
	removal->subfd = subfd;
	apply_attr_unprotect(subfd);
	/* Removing may make a listing skip names: until there are none. */
	do {
		removal->is_progress = false;
		r = sys_dir_for_each(subfd, apply_empty_name, removal);
	} while (r == 0 && removal->is_progress);
	return r < 0 ? r : mutate_rmdir(removal->rootfd, name);
}

static int apply_remove_name(const struct sys_dirent *entry, void *context)
{
	struct apply_removal *removal = context;
	int r = entry->type == DT_DIR ? -EISDIR :
					apply_unlink(removal->apply, removal->rootfd, entry->name);

	if (r == -EISDIR)
		r = apply_remove_subdir(removal, entry->name);
	removal->is_progress = true; /* emptying a subdirectory uses it as well */
	return r == -ENOENT ? 0 : r;
}

int apply_remove_tree(struct apply *apply, int dirfd, const char *name)
{
	struct apply_removal removal = { .apply = apply };
	int r = apply_unlink(apply, dirfd, name);

	if (r != -EISDIR)
		return r == -ENOENT ? 0 : r;
	_cleanup_close_ int rootfd = apply_open_to_empty(apply, dirfd, name);

	if (rootfd < 0)
		return rootfd;
	removal.rootfd = rootfd;
	apply_attr_unprotect(rootfd);
	do {
		removal.is_progress = false;
		r = sys_dir_for_each(rootfd, apply_remove_name, &removal);
	} while (r == 0 && removal.is_progress);
	return r < 0 ? r : mutate_rmdir(dirfd, name);
}

int apply_remove(struct apply *apply, int dirfd, const char *name)
{
	int r = apply_unlink(apply, dirfd, name);

	if (r != -EISDIR)
		return r == -ENOENT ? 0 : r;
	apply_unprotect_name(dirfd, name);
	r = mutate_rename(dirfd, name, dirfd, apply->temp, RENAME_NOREPLACE);
	return r < 0 ? r : apply_remove_tree(apply, dirfd, apply->temp);
}

/* ---- replacing ---- */

/* rename(2) that is not kept from it by flags of what it replaces. */
static int apply_rename(int fromfd, const char *from, int dirfd, const char *name,
			unsigned int flags)
{
	int r = mutate_rename(fromfd, from, dirfd, name, flags);

	if (r == -EPERM && apply_unprotect_name(dirfd, name))
		r = mutate_rename(fromfd, from, dirfd, name, flags);
	return r;
}

int apply_publish(struct apply *apply, int fromfd, const char *from, int dirfd, const char *name)
{
	struct statx old, new;
	int r = sys_stat(dirfd, name, &old);

	if (r == -ENOENT)
		return apply_rename(fromfd, from, dirfd, name, RENAME_NOREPLACE);
	if (r == 0)
		r = sys_stat(fromfd, from, &new);
	if (r < 0)
		return r;
	if (!S_ISDIR(old.stx_mode) && !S_ISDIR(new.stx_mode))
		return apply_rename(fromfd, from, dirfd, name, 0);
	r = apply_rename(fromfd, from, dirfd, name, RENAME_EXCHANGE);
	/* Some network file systems cannot: there the name is without an object for a moment. */
	if (r == -EINVAL || r == -EOPNOTSUPP) {
		r = apply_remove_tree(apply, dirfd, name);
		return r < 0 ? r : apply_rename(fromfd, from, dirfd, name, RENAME_NOREPLACE);
	}
	return r < 0 ? r : apply_remove_tree(apply, fromfd, from);
}

int apply_publish_link(struct apply *apply, int olddirfd, const char *oldname, int dirfd,
		       const char *name)
{
	struct statx st;
	int r = sys_stat(dirfd, name, &st);

	if (r == -ENOENT)
		return mutate_link(olddirfd, oldname, dirfd, name);
	if (r == 0)
		r = mutate_link(olddirfd, oldname, dirfd, apply->temp);
	return r < 0 ? r : apply_publish(apply, dirfd, apply->temp, dirfd, name);
}

int apply_publish_whiteout(struct apply *apply, int dirfd, const char *name)
{
	struct statx st;
	int r = sys_stat(dirfd, name, &st);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)))
		return 0;
	r = mutate_mknod(dirfd, apply->temp, S_IFCHR, makedev(0, 0));
	return r < 0 ? r : apply_publish(apply, dirfd, apply->temp, dirfd, name);
}
