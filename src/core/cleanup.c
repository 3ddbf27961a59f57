/* SPDX-License-Identifier: MIT */
/*
 * Removing whole trees from the work directory.
 *
 * A tree may be deeper than any stack or descriptor limit.  So it is not
 * walked but flattened: subdirectories of a directory move up into the root of
 * the tree, the directory is then empty and removed, and its former
 * subdirectories are found by the next pass.  Each directory moves at most
 * once, and three descriptors are open at most.
 */
#include "core/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "core/upper.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/mount.h"

struct cleanup {
	struct core *core;
	int rootfd; /* of the tree, for reading */
	unsigned long long mount; /* that the tree lies on */
	uint64_t moved; /* names given so far */
	bool progress; /* this pass changed something */
	int subfd; /* the directory that is being emptied into the root */
};

/* Opens the directory @name for reading, if it lies on the mount of the tree. */
static int cleanup_open(struct cleanup *cleanup, int dirfd, const char *name)
{
	_cleanup_close_ int pathfd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);
	unsigned long long mount;

	if (pathfd < 0)
		return pathfd;
	int r = sys_mount_id(pathfd, &mount);

	if (r < 0)
		return r;
	if (mount != cleanup->mount)
		return -EBUSY;
	/* Without rights of our own a mode like that of `work` locks us out. */
	if (!cleanup->core->can_override)
		r = upper_chmod(pathfd, 0700);
	return r < 0 ? r : sys_reopen(pathfd, O_RDONLY | O_DIRECTORY);
}

/* Moves a subdirectory of subfd to the root, under a name nobody has. */
static int cleanup_move_up(struct cleanup *cleanup, const char *name)
{
	char moved[40];
	int r;

	/* A directory must be writable to move: its ".." changes. */
	if (!cleanup->core->can_override) {
		_cleanup_close_ int fd = cleanup_open(cleanup, cleanup->subfd, name);

		if (fd < 0)
			return fd;
	}
	do {
		snprintf(moved, sizeof(moved), "#moved-%llx", (unsigned long long)cleanup->moved++);
		r = upper_rename(cleanup->subfd, name, cleanup->rootfd, moved, RENAME_NOREPLACE);
		/* Without NOREPLACE (-EINVAL) only an empty directory could be replaced. */
		if (r == -EINVAL)
			r = upper_rename(cleanup->subfd, name, cleanup->rootfd, moved, 0);
	} while (r == -EEXIST || r == -ENOTEMPTY);
	return r;
}

/* One entry of a directory that is being emptied. */
static int cleanup_empty_entry(const struct sys_dirent *entry, void *context)
{
	struct cleanup *cleanup = context;
	int r = upper_unlink(cleanup->subfd, entry->name);

	cleanup->progress = true;
	/* POSIX says EPERM for a directory, Linux EISDIR; a mount point is EBUSY. */
	if (r == -EISDIR || (r == -EPERM && entry->type != DT_REG))
		r = cleanup_move_up(cleanup, entry->name);
	return r == -ENOENT ? 0 : r;
}

/* Empties and removes the subdirectory @name of the root. */
static int cleanup_remove_dir(struct cleanup *cleanup, const char *name)
{
	int r = upper_rmdir(cleanup->rootfd, name); /* most often it is empty */

	if (r != -ENOTEMPTY && r != -EEXIST)
		return r;
	_cleanup_close_ int subfd = cleanup_open(cleanup, cleanup->rootfd, name);

	if (subfd < 0)
		return subfd;
	cleanup->subfd = subfd;
	/* Removing may make getdents skip entries: until rmdir agrees that it is empty. */
	do {
		cleanup->progress = false;
		r = sys_dir_for_each(subfd, cleanup_empty_entry, cleanup);
	} while (r == 0 && cleanup->progress);
	return r < 0 ? r : upper_rmdir(cleanup->rootfd, name);
}

/* One entry of the root. */
static int cleanup_remove_entry(const struct sys_dirent *entry, void *context)
{
	struct cleanup *cleanup = context;
	int r = upper_unlink(cleanup->rootfd, entry->name);

	if (r == -EISDIR || (r == -EPERM && entry->type != DT_REG))
		r = cleanup_remove_dir(cleanup, entry->name);
	cleanup->progress = true;
	return r == -ENOENT ? 0 : r;
}

int cleanup_remove_tree(struct core *core, int dirfd, const char *name)
{
	int r = upper_unlink(dirfd, name);

	if (r != -EISDIR && r != -EPERM)
		return r;
	struct cleanup cleanup = { .core = core };

	r = sys_mount_id(dirfd, &cleanup.mount);
	if (r < 0)
		return r;
	_cleanup_close_ int rootfd = cleanup_open(&cleanup, dirfd, name);

	if (rootfd < 0)
		return rootfd;
	cleanup.rootfd = rootfd;
	do {
		cleanup.progress = false;
		r = sys_dir_for_each(rootfd, cleanup_remove_entry, &cleanup);
	} while (r == 0 && cleanup.progress);
	return r < 0 ? r : upper_rmdir(dirfd, name);
}
