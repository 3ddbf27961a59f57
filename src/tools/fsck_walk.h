/* SPDX-License-Identifier: MIT */
/*
 * Every object of the upper, in any depth, without recursion.
 *
 * A directory is read in pieces, each sorted: what is no directory is checked
 * first, then each subdirectory is entered and left.  One descriptor is open, of
 * the directory at hand; the way back up is "..", held against what was noted on
 * the way down.  A directory being read takes memory for one piece's names of
 * subdirectories.
 */
#ifndef VENEER_TOOLS_FSCK_WALK_H
#define VENEER_TOOLS_FSCK_WALK_H

#include "base/strbuf.h"
#include "tools/fsck_below.h"

/* A directory that was entered and not left. */
struct fsck_dir {
	dev_t dev;
	uint64_t ino;
	uint64_t offset; /* to go on reading at */
	char *pending,
		*next; /* subdirectories to enter, NUL after each, one more at the end; owned */
	size_t path_length; /* of the walk's path without this directory's name */
	struct timespec times[2]; /* as they were */
	bool is_touched; /* a repair in it changed them */
	struct fsck_below below; /* what it merges with */
	char *redirect; /* that it has, or NULL; owned */
	bool is_opaque;
	bool is_impure, must_be_impure;
	bool is_marked, has_xwhiteouts; /* says to hold attribute whiteouts; does */
};

struct fsck_walk {
	struct fsck *fsck;
	struct fsck_dir *dirs; /* owned; the last one is at hand */
	size_t count, size;
	int fd; /* of the last one */
	struct strbuf path; /* of the last one, or of an entry of it that is being checked */
	bool has_xwhiteouts; /* any directory but the root */
};

/* Checks the upper. 0, or -errno if the walk had to end. */
int fsck_walk_upper(struct fsck *fsck);

/* The directory at hand, and the one it lies in (NULL: it is the root). */
struct fsck_dir *fsck_walk_dir(struct fsck_walk *walk);
struct fsck_dir *fsck_walk_parent(struct fsck_walk *walk);
/* Appends where the directory at hand goes on in the lowers, from their root: "/a/b". */
void fsck_walk_lower_path(const struct fsck_walk *walk, struct strbuf *path);

#endif
