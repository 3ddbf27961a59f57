/* SPDX-License-Identifier: MIT */
#include "tools/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_NAME_MAX 64

enum {
	ARGS_LOWER = 0x100,
	ARGS_WORK,
	ARGS_USERXATTR,
};

int args_parse(const struct argp *argp, int argc, char **argv, bool in_order, void *input)
{
	char name[ARGS_NAME_MAX];

	snprintf(name, sizeof(name), "veneer %s", argv[0]);
	argv[0] = name; /* what messages begin with */
	argp_err_exit_status = ARGS_EXIT_USAGE;
	return -argp_parse(argp, argc, argv, in_order ? ARGP_IN_ORDER : 0, NULL, input);
}

static const struct argp_option args_target_options[] = {
	{ NULL, 0, NULL, 0, "For a layer that is only an upper directory:", 10 },
	{ "lower", ARGS_LOWER, "DIR[:DIR...]", 0,
	  "what it lies over, top first, as in lowerdir=", 10 },
	{ "work", ARGS_WORK, "DIR", 0, "its work directory; else 'work' beside it, if there is one",
	  10 },
	{ "userxattr", ARGS_USERXATTR, NULL, 0,
	  "its private attributes are user.overlay.*; else that is found out", 10 },
	{ NULL, 'o', "OPTION[,OPTION...]", 0,
	  "the same as mount options: lowerdir=, upperdir=, workdir=, userxattr", 10 },
	{ 0 },
};

/* The value of @option if it is called @name, else NULL. */
static const char *args_value(const char *option, const char *name)
{
	size_t length = strlen(name);

	return strncmp(option, name, length) == 0 && option[length] == '=' ? option + length + 1 :
									     NULL;
}

static void args_take_mount_option(struct args_target *target, const char *option,
				   struct argp_state *state)
{
	const char *value;

	if ((value = args_value(option, "lowerdir")))
		target->lower = value;
	else if ((value = args_value(option, "upperdir")))
		target->upper = value;
	else if ((value = args_value(option, "workdir")))
		target->work = value;
	else if (!strcmp(option, "userxattr"))
		target->userxattr = true;
	else
		argp_error(state,
			   "unknown option -o %s: known are lowerdir=, upperdir=, workdir= "
			   "and userxattr",
			   option);
}

/* At commas, but for those behind a backslash, as mount(8) does. In place. */
static void args_take_mount_options(struct args_target *target, char *options,
				    struct argp_state *state)
{
	while (options && *options) {
		char *end = options;

		while (*end && *end != ',')
			end += end[0] == '\\' && end[1] ? 2 : 1;
		char *next = *end ? end + 1 : NULL;

		*end = '\0';
		args_take_mount_option(target, options, state);
		options = next;
	}
}

static error_t args_target_parse(int key, char *arg, struct argp_state *state)
{
	struct args_target *target = state->input;

	switch (key) {
	case ARGS_LOWER:
		target->lower = arg;
		return 0;
	case ARGS_WORK:
		target->work = arg;
		return 0;
	case ARGS_USERXATTR:
		target->userxattr = true;
		return 0;
	case 'o':
		args_take_mount_options(target, arg, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp args_target = {
	.options = args_target_options,
	.parser = args_target_parse,
};

error_t args_take_name(int key, char *arg, struct argp_state *state, const char *what,
		       const struct args_target *target, const char **name)
{
	if (key == ARGP_KEY_ARG && *name)
		argp_error(state, "one %s at a time", what);
	else if (key == ARGP_KEY_ARG)
		*name = arg;
	else if (!*name && !target->upper)
		argp_error(state, "which %s?", what);
	return 0;
}
