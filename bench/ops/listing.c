/* SPDX-License-Identifier: MIT */
/* Operations on directories as a whole. */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ops.h"
#include "samples.h"

static long listing_count(const char *path)
{
	DIR *directory = opendir(path);
	long count = 0;

	if (!directory)
		err(1, "%s", path);
	errno = 0;
	while (readdir(directory))
		count++;
	if (errno)
		err(1, "%s", path);
	closedir(directory);
	return count;
}

static void listing_list(const struct ops_args *args, struct samples *samples)
{
	long count = -1, before;

	for (long i = 0; i < args->count; i++) {
		before = count;
		samples_start(samples);
		count = listing_count(args->path);
		samples_stop(samples);
		if (before >= 0 && count != before)
			errx(1, "%s: %ld entries, then %ld", args->path, before, count);
	}
}

/* As `ls -lR` and `find -size` do: what each directory holds, and the attributes of all. */
static void listing_walk_below(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (!directory)
		err(1, "%s", name);
	while ((entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			err(1, "%s", entry->d_name);
		if (S_ISDIR(st.st_mode))
			listing_walk_below(fd, entry->d_name);
	}
	closedir(directory);
}

static void listing_walk(const struct ops_args *args, struct samples *samples)
{
	samples_start(samples);
	listing_walk_below(AT_FDCWD, args->path);
	samples_stop(samples);
}

/* Another name each time: the answer to none of them is known yet. */
static void listing_missing(const struct ops_args *args, struct samples *samples)
{
	char path[PATH_MAX];
	struct stat st;
	int r;

	for (long i = args->first; i < args->first + args->count; i++) {
		snprintf(path, sizeof(path), "%s/none%06ld", args->path, i);
		samples_start(samples);
		r = lstat(path, &st);
		samples_stop(samples);
		if (!r || errno != ENOENT)
			errx(1, "%s: should not be there", path);
	}
}

const struct ops_kind listing_kinds[] = {
	{ "list", listing_list, "all names of a directory" },
	{ "walk", listing_walk, "all names and attributes of a tree" },
	{ "missing-in", listing_missing, "lstat of a new name that is not in the directory" },
	{ 0 },
};
