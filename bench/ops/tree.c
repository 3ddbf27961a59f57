/* SPDX-License-Identifier: MIT */
/*
 * Operations on the files of a tree, by path, one after the other: file i is
 * PATH/aNN/bNN/fNNNNNN, 50 files in a directory and 20 of these in another.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops.h"
#include "samples.h"

enum {
	TREE_LEAF = 50,
	TREE_BRANCH = 20 * TREE_LEAF,
	TREE_DATA = 4096,
};

/* One operation on one file: 0, or -1 with errno. */
typedef int (*tree_function)(const char *path);

static void tree_name(char *path, const char *root, long i)
{
	snprintf(path, PATH_MAX, "%s/a%02ld/b%02ld/f%06ld", root, i / TREE_BRANCH,
		 i % TREE_BRANCH / TREE_LEAF, i);
}

static void tree_each(const struct ops_args *args, struct samples *samples, tree_function function)
{
	char path[PATH_MAX];
	int r;

	for (long i = args->first; i < args->first + args->count; i++) {
		tree_name(path, args->path, i);
		samples_start(samples);
		r = function(path);
		samples_stop(samples);
		if (r < 0)
			err(1, "%s", path);
	}
}

static void tree_mkdir(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		err(1, "%s", path);
}

/* The directories that files of these numbers are in. */
static void tree_make_directories(const struct ops_args *args, struct samples *samples)
{
	char path[PATH_MAX];

	tree_mkdir(args->path);
	for (long i = args->first; i < args->first + args->count; i += TREE_LEAF) {
		snprintf(path, sizeof(path), "%s/a%02ld", args->path, i / TREE_BRANCH);
		tree_mkdir(path);
		snprintf(path, sizeof(path), "%s/a%02ld/b%02ld", args->path, i / TREE_BRANCH,
			 i % TREE_BRANCH / TREE_LEAF);
		tree_mkdir(path);
	}
}

static void tree_plant(const struct ops_args *args, struct samples *samples)
{
	char path[PATH_MAX], *data = malloc((size_t)args->size + 1);
	int fd;

	if (!data)
		err(1, "plant");
	tree_make_directories(args, samples);
	for (long i = args->first; i < args->first + args->count; i++) {
		tree_name(path, args->path, i);
		ops_fill(data, args->size, (uint64_t)i);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, data, (size_t)args->size) != args->size || close(fd) < 0)
			err(1, "%s", path);
	}
	free(data);
}

static int tree_stat_one(const char *path)
{
	struct stat st;

	return lstat(path, &st);
}

static void tree_stat(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_stat_one);
}

static int tree_missing_one(const char *path)
{
	char other[PATH_MAX + 8];
	struct stat st;

	snprintf(other, sizeof(other), "%s.none", path);
	if (!lstat(other, &st))
		errno = EEXIST;
	return errno == ENOENT ? 0 : -1;
}

static void tree_missing(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_missing_one);
}

static int tree_open_one(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : close(fd);
}

static void tree_open(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_open_one);
}

static int tree_read_one(const char *path)
{
	static char data[TREE_DATA];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, data, sizeof(data)) < 0)
		return -1;
	return close(fd);
}

static void tree_read(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_read_one);
}

static int tree_create_one(const char *path)
{
	static const char data[TREE_DATA];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, data, sizeof(data)) != sizeof(data))
		return -1;
	return close(fd);
}

static void tree_create(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_create_one);
}

static int tree_mkdir_one(const char *path)
{
	return mkdir(path, 0755);
}

static void tree_mkdirs(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_mkdir_one);
}

static int tree_symlink_one(const char *path)
{
	return symlink("../b00/target", path);
}

static void tree_symlink(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_symlink_one);
}

static int tree_link_one(const char *path)
{
	char other[PATH_MAX + 8];

	snprintf(other, sizeof(other), "%s.link", path);
	return link(path, other);
}

static void tree_link(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_link_one);
}

static int tree_rename_one(const char *path)
{
	char other[PATH_MAX + 8];

	snprintf(other, sizeof(other), "%s.moved", path);
	return rename(path, other);
}

static void tree_rename(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_rename_one);
}

static int tree_chmod_one(const char *path)
{
	return chmod(path, 0600);
}

static void tree_chmod(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_chmod_one);
}

static void tree_unlink(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, unlink);
}

/* The write is part of it: some overlays copy a file when it is opened, others when it is changed. */
static int tree_write_one(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || pwrite(fd, "x", 1, 0) != 1)
		return -1;
	return close(fd);
}

static void tree_write(const struct ops_args *args, struct samples *samples)
{
	tree_each(args, samples, tree_write_one);
}

const struct ops_kind tree_kinds[] = {
	{ "directories", tree_make_directories, "the directories of a tree, untimed" },
	{ "plant", tree_plant, "a tree with files of --size, untimed" },
	{ "stat", tree_stat, "lstat" },
	{ "missing", tree_missing, "lstat of a name that is not there" },
	{ "open", tree_open, "open for reading, close" },
	{ "read", tree_read, "open, read 4 KiB, close" },
	{ "create", tree_create, "create, write 4 KiB, close" },
	{ "mkdir", tree_mkdirs, "mkdir in the place of a file" },
	{ "symlink", tree_symlink, "symlink in the place of a file" },
	{ "link", tree_link, "a second name" },
	{ "rename", tree_rename, "rename within the directory" },
	{ "chmod", tree_chmod, "chmod" },
	{ "unlink", tree_unlink, "unlink" },
	{ "write", tree_write, "open, write one byte, close" },
	{ 0 },
};
