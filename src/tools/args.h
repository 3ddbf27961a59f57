/* SPDX-License-Identifier: MIT */
/*
 * Command lines of the commands, by argp(3) of glibc: --help, --usage, and 2 for
 * what is not understood.
 */
#ifndef VENEER_TOOLS_ARGS_H
#define VENEER_TOOLS_ARGS_H

#include <argp.h>
#include <stdbool.h>

/* Exit status for a command line that makes no sense. */
#define ARGS_EXIT_USAGE 2
/* What the keys of options without a letter begin at; those of args_target are below. */
#define ARGS_KEY_FIRST 0x200

/*
 * Parses the arguments of `veneer @argv[0]`; does not return if they are not understood (status 2),
 * or ask for help (0). Options end at the first argument that is none if @in_order, for commands
 * that take a command line. 0 or -errno: what the parser of @argp returned.
 */
int args_parse(const struct argp *argp, int argc, char **argv, bool in_order, void *input);

/*
 * How a layer that does not say it itself is to be read. A child parser (struct argp_child): the
 * command's parser sets state->child_inputs[] to the struct at ARGP_KEY_INIT.
 */
struct args_target {
	const char *lower; /* lowerdir= syntax; NULL */
	const char *work;
	const char *upper; /* of -o upperdir=, instead of the argument */
	bool userxattr;
};

extern const struct argp args_target;

/*
 * For the parser of a command that works on one @what ("MOUNT or LAYER"): what to do at ARGP_KEY_ARG
 * and ARGP_KEY_END. *@name is the argument, NULL if @target has an upper instead.
 */
error_t args_take_name(int key, char *arg, struct argp_state *state, const char *what,
		       const struct args_target *target, const char **name);

#endif
