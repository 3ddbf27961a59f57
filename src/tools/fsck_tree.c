/* SPDX-License-Identifier: MIT */
/*
 * A tree may be deeper than any stack, so none is walked: the subdirectories of a
 * directory move up beside it until it is empty, and their turn comes in the next
 * round.  Each moves once at most (as core/cleanup.c does it at a mount).
 */
#include "tools/fsck_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "sys/dir.h"
#include "sys/file.h"

#define FSCK_MOVED_MAX 40

struct fsck_tree {
	int rootfd; /* of the tree */
	dev_t dev;
	uint64_t moved; /* names given so far */
	int fd; /* the directory that is being emptied into the root; or the root */
	bool progress; /* this round changed something */
};

/* Opens a directory, if it is of the tree's file system. */
static int fsck_tree_open(int dirfd, const char *name, const dev_t *dev)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	if (dev && (sys_stat_dev(&st) != *dev || sys_stat_is_mount_root(&st)))
		return -EXDEV;
	/* A mode like that of `work` keeps its owner out. */
	sys_chmod(fd, 0700);
	return sys_reopen(fd, O_RDONLY | O_DIRECTORY);
}

static int fsck_tree_move_up(struct fsck_tree *tree, const char *name)
{
	char moved[FSCK_MOVED_MAX];
	_cleanup_close_ int fd = fsck_tree_open(tree->fd, name, &tree->dev);
	int r = fd < 0 ? fd : -EEXIST;

	while (r == -EEXIST) {
		snprintf(moved, sizeof(moved), "#fsck-%llx", (unsigned long long)tree->moved++);
		r = sys_rename(tree->fd, name, tree->rootfd, moved, RENAME_NOREPLACE);
	}
	return r;
}

static int fsck_tree_empty_entry(const struct sys_dirent *entry, void *context)
{
	struct fsck_tree *tree = context;
	int r = sys_unlink(tree->fd, entry->name);

	tree->progress = true;
	if (r == -EISDIR)
		r = fsck_tree_move_up(tree, entry->name);
	return r == -ENOENT ? 0 : r;
}

/* Removing may make a stream skip entries: until nothing is met. */
static int fsck_tree_empty(struct fsck_tree *tree, const char *name)
{
	_cleanup_close_ int fd = fsck_tree_open(tree->rootfd, name, &tree->dev);
	int r = fd < 0 ? fd : 0;

	tree->fd = fd;
	do {
		tree->progress = false;
		if (r == 0)
			r = sys_dir_for_each(fd, fsck_tree_empty_entry, tree);
	} while (r == 0 && tree->progress);
	tree->progress = true;
	return r < 0 ? r : sys_rmdir(tree->rootfd, name);
}

static int fsck_tree_remove_entry(const struct sys_dirent *entry, void *context)
{
	struct fsck_tree *tree = context;
	int r = sys_unlink(tree->rootfd, entry->name);

	tree->progress = true;
	if (r == -EISDIR)
		r = fsck_tree_empty(tree, entry->name);
	return r == -ENOENT ? 0 : r;
}

int fsck_tree_remove(int dirfd, const char *name)
{
	int r = sys_unlink(dirfd, name);

	if (r != -EISDIR)
		return r;
	_cleanup_close_ int fd = fsck_tree_open(dirfd, name, NULL);
	struct fsck_tree tree = { .rootfd = fd };
	struct statx st;

	r = fd < 0 ? fd : sys_stat(fd, "", &st);
	tree.dev = sys_stat_dev(&st);
	do {
		tree.progress = false;
		if (r == 0)
			r = sys_dir_for_each(fd, fsck_tree_remove_entry, &tree);
	} while (r == 0 && tree.progress);
	return r < 0 ? r : sys_rmdir(dirfd, name);
}
