/* SPDX-License-Identifier: MIT */
/*
 * The operations that benchmarks time from within one process.
 *
 * An operation works on a file, on a directory, or on a tree of numbered files
 * (tree.c has its shape). Whoever calls prepared what it needs; nothing here
 * mounts or knows of overlays. What goes wrong ends the program with a message:
 * a time of something that failed is none.
 */
#pragma once

#include <stdint.h>

struct samples;

struct ops_args {
	const char *path;
	/* Of a tree: the number of the first file. */
	long first;
	long count;
	/* Of each file made, in bytes. */
	long size;
};

struct ops_kind {
	const char *name;
	void (*run)(const struct ops_args *args, struct samples *samples);
	const char *what;
};

/* Each ends with an entry without a name. */
extern const struct ops_kind tree_kinds[];
extern const struct ops_kind data_kinds[];
extern const struct ops_kind listing_kinds[];

/* The next of a sequence that is the same in each run: all contenders do the same work. */
uint64_t ops_random(uint64_t *state);

/* @buffer full of bytes that do not compress, determined by @seed. */
void ops_fill(void *buffer, long size, uint64_t seed);
