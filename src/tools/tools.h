/* SPDX-License-Identifier: MIT */
/*
 * The commands beside mounting: `veneer NAME ...`.  The only header of this
 * room that others include.
 */
#ifndef VENEER_TOOLS_TOOLS_H
#define VENEER_TOOLS_TOOLS_H

#include <stdio.h>

struct tool {
	const char *name;
	const char *summary; /* for --help */
	/* @argv[0] is the name. Returns the exit status. */
	int (*run)(int argc, char **argv);
};

/* The command called @name, or NULL. */
const struct tool *tools_find(const char *name);
/* A line each. */
void tools_print_list(FILE *file);

#endif
