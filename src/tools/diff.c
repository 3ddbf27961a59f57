/* SPDX-License-Identifier: MIT */
#include "tools/diff.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tools/args.h"
#include "tools/locate.h"

enum {
	DIFF_KEY_STAT = ARGS_KEY_FIRST,
	DIFF_KEY_NAMES,
	DIFF_KEY_JSON,
	DIFF_KEY_FORMAT,
	DIFF_KEY_COLOUR,
};

struct diff_args {
	struct args_target target;
	const char *name;
	struct diff_style style;
	int colour; /* 1 always, 0 never, -1 on a terminal */
};

static const struct argp_option diff_options[] = {
	{ "stat", DIFF_KEY_STAT, NULL, 0, "how much, by directory of the root", 0 },
	{ "name-only", DIFF_KEY_NAMES, NULL, 0, "paths alone, one a line", 0 },
	{ "unified", 'u', NULL, 0, "what changed in text files, as diff -u tells it", 0 },
	{ "json", DIFF_KEY_JSON, NULL, 0, "JSON, see docs/diff.schema.json", 0 },
	{ "format", DIFF_KEY_FORMAT, "podman|oci", 0,
	  "as podman diff prints it, or the names an OCI layer would have", 0 },
	{ "null", 'z', NULL, 0, "lines end with a NUL; names are printed as they are", 0 },
	{ "color", DIFF_KEY_COLOUR, "auto|always|never", 0, "colours (auto: on a terminal)", 0 },
	{ 0 },
};

static int diff_parse_word(const char *word, struct argp_state *state, struct diff_args *args)
{
	if (!strcmp(word, "podman"))
		args->style.form = DIFF_PODMAN;
	else if (!strcmp(word, "oci"))
		args->style.form = DIFF_OCI;
	else
		argp_error(state, "--format=%s: known are podman and oci", word);
	return 0;
}

static int diff_parse_colour(const char *word, struct argp_state *state, struct diff_args *args)
{
	if (!strcmp(word, "always"))
		args->colour = 1;
	else if (!strcmp(word, "never"))
		args->colour = 0;
	else if (!strcmp(word, "auto"))
		args->colour = -1;
	else
		argp_error(state, "--color=%s: known are auto, always and never", word);
	return 0;
}

static error_t diff_parse(int key, char *arg, struct argp_state *state)
{
	struct diff_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->target;
		return 0;
	case DIFF_KEY_STAT:
		args->style.form = DIFF_STAT;
		return 0;
	case DIFF_KEY_NAMES:
		args->style.form = DIFF_NAMES;
		return 0;
	case 'u':
		args->style.form = DIFF_UNIFIED;
		return 0;
	case DIFF_KEY_JSON:
		args->style.form = DIFF_JSON;
		return 0;
	case DIFF_KEY_FORMAT:
		return diff_parse_word(arg, state, args);
	case 'z':
		args->style.end = '\0';
		return 0;
	case DIFF_KEY_COLOUR:
		return diff_parse_colour(arg, state, args);
	case ARGP_KEY_ARG:
	case ARGP_KEY_END:
		return args_take_name(key, arg, state, "MOUNT or LAYER", &args->target,
				      &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child diff_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp diff_argp = {
	.options = diff_options,
	.parser = diff_parse,
	.args_doc = "MOUNT|LAYER",
	.doc = "Shows what a layer changes of what lies below it.\v"
	       "Exit status: 0 if it was shown, 1 if not, 2 if the command line was not "
	       "understood.",
	.children = diff_children,
};

static int diff_show(const struct diff_args *args, struct strbuf *why)
{
	_cleanup_target_ struct target target = TARGET_INIT;
	_cleanup_changes_ struct changes changes = CHANGES_INIT;
	int r = locate_target(args->name, &args->target, &target, why);

	if (r == 0 && !target.upper) {
		strbuf_append_format(why,
				     "%s is mounted read-only, without an upper: nothing can "
				     "have changed",
				     target.name);
		return -EROFS;
	}
	/* Any directory would do, and all of it be told as added. */
	if (r == 0 && target.lowers.count == 0) {
		strbuf_append_format(why,
				     "%s: what does it lie over? Say so with --lower (it is "
				     "no mount, and no layer that 'veneer run' kept)",
				     target.name);
		return -EINVAL;
	}
	if (r == 0)
		r = changes_read(&target, &changes, why);
	if (r == 0)
		r = args->style.form == DIFF_UNIFIED ?
			    diff_print_text(&target, &changes, &args->style, why) :
			    diff_print(&target, &changes, &args->style);
	if (r == 0 && changes.failed > 0) {
		strbuf_append_format(why, "%zu objects could not be compared", changes.failed);
		r = -EIO;
	}
	return r;
}

static bool diff_wants_colour(int colour)
{
	const char *terminal = getenv("TERM"), *none = getenv("NO_COLOR");

	if (colour >= 0)
		return colour;
	return isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0 &&
	       !(none && *none);
}

int diff_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct diff_args args = { .style.end = '\n', .colour = -1 };
	int r = args_parse(&diff_argp, argc, argv, false, &args);

	args.style.has_colour = diff_wants_colour(args.colour);
	if (r == 0)
		r = diff_show(&args, &why);
	if (fflush(stdout) != 0 && r == 0)
		r = -errno;
	else if (ferror(stdout) && r == 0)
		r = -EIO;
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
