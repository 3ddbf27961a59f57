/* SPDX-License-Identifier: MIT */
/*
 * One object at rest copied with all that belongs to it: data with its holes,
 * owner, mode, extended attributes, times.  Directories are copied without what is in
 * them.
 *
 * A copy is made in two steps, since a directory is dressed only when it is
 * full: nothing is inherited, and its times are not changed again.
 */
#ifndef VENEER_OFFLINE_COPY_H
#define VENEER_OFFLINE_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Whether the extended attribute is to be copied. */
typedef bool copy_filter_fn(void *context, const char *key);

struct copy {
	int from; /* the object, also O_PATH */
	const struct statx *st; /* its attributes */
	/* The file that has the data; -1: @from itself. Of @st's size, whatever its own is. */
	int data;
	bool no_data; /* a regular file gets the size alone */
	copy_filter_fn *filter; /* NULL: all attributes */
	void *context; /* of filter and of is_interrupted */
	bool (*is_interrupted)(void *context); /* asked while data is copied; may be NULL */
	void (*progress)(void *context, uint64_t done); /* bytes of this file; may be NULL */
};

/*
 * Makes the bare object @name, which must not exist, in @dirfd, accessible to its owner alone. *@fd
 * refers to it (O_RDWR: a regular file; else O_PATH). 0 or -errno; then nothing is left.
 */
int copy_make(const struct copy *copy, int dirfd, const char *name, int *fd);
/* Data of a regular file to the empty @to, open for writing, which is given its size. */
int copy_data(const struct copy *copy, int to);
/* Owner, extended attributes, file flags, mode. */
int copy_attributes(const struct copy *copy, int to);
/* Access and modification time: the last step. */
int copy_times(const struct statx *st, int to);

/* Removes @name in @dirfd, a directory with all that is in it. -ENOENT: there is none. */
int copy_remove(int dirfd, const char *name);

#endif
