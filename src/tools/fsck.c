/* SPDX-License-Identifier: MIT */
#include "tools/fsck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/fsck_index.h"
#include "tools/fsck_layer.h"
#include "tools/fsck_walk.h"
#include "tools/fsck_work.h"
#include "tools/locate.h"

/* fsck(8); the bits add up. */
#define FSCK_EXIT_REPAIRED 1
#define FSCK_EXIT_LEFT 4
#define FSCK_EXIT_ERROR 8
#define FSCK_EXIT_USAGE 16

/* A repair may bring something else to light, and that again. Each takes a mark away or hides
 * something, so there is an end to it; this is for a fault in here. */
#define FSCK_PASSES_MAX 20

enum {
	FSCK_KEY_JSON = ARGS_KEY_FIRST,
};

struct fsck_args {
	struct args_target target;
	const char *name;
	enum fsck_mode mode;
	bool has_mode, as_json;
};

static const struct argp_option fsck_options[] = {
	{ "no", 'n', NULL, 0, "change nothing, only say what is wrong", 0 },
	{ "preen", 'p', NULL, 0, "repair what can be repaired without a loss", 0 },
	{ "yes", 'y', NULL, 0, "repair everything", 0 },
	{ "json", FSCK_KEY_JSON, NULL, 0, "JSON, see docs/fsck.schema.json", 0 },
	{ 0 },
};

static void fsck_take_mode(struct fsck_args *args, enum fsck_mode mode, struct argp_state *state)
{
	if (args->has_mode && args->mode != mode)
		argp_error(state, "only one of -n, -p and -y");
	args->has_mode = true;
	args->mode = mode;
}

static error_t fsck_parse(int key, char *arg, struct argp_state *state)
{
	struct fsck_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		argp_err_exit_status = FSCK_EXIT_USAGE;
		state->child_inputs[0] = &args->target;
		return 0;
	case 'n':
		fsck_take_mode(args, FSCK_CHECK, state);
		return 0;
	case 'p':
		fsck_take_mode(args, FSCK_SAFE, state);
		return 0;
	case 'y':
		fsck_take_mode(args, FSCK_ALL, state);
		return 0;
	case FSCK_KEY_JSON:
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARG:
	case ARGP_KEY_END:
		return args_take_name(key, arg, state, "LAYER", &args->target, &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child fsck_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp fsck_argp = {
	.options = fsck_options,
	.parser = fsck_parse,
	.args_doc = "LAYER",
	.doc = "Checks a layer that is not mounted, and repairs it. On a terminal each repair is asked "
	       "for; else nothing is changed without -p or -y.\v"
	       "Exit status, added up: 0 no fault, 1 faults were repaired, 4 faults are left, 8 the "
	       "layer could not be checked, 16 the command line was not understood.",
	.children = fsck_children,
};

/* ---- passes ---- */

static int fsck_pass(struct fsck *fsck)
{
	fsck->has_changed = false;
	fsck->report.objects = 0;
	fsck_claims_clear(&fsck->claims);
	fsck_set_clear(&fsck->origins);
	int r = fsck_work_check(fsck);

	if (r == 0)
		r = fsck_index_check(fsck);
	if (r == 0)
		r = fsck_walk_upper(fsck);
	if (r == 0)
		r = fsck_claims_check(fsck);
	return r < 0 ? r : fsck_index_check_names(fsck);
}

static int fsck_check(struct fsck *fsck)
{
	unsigned int passes = 0;
	bool has_changed = false;
	int r;

	fsck_report_begin(&fsck->report, fsck->target.upper);
	do {
		r = fsck_pass(fsck);
		has_changed |= fsck->has_changed;
	} while (r == 0 && fsck->has_changed && ++passes < FSCK_PASSES_MAX);
	if (has_changed && r == 0)
		r = sys_syncfs(fsck->upper_fd);
	if (r < 0)
		fsck_report_fail(&fsck->report, fsck->target.upper, r);
	fsck_report_end(&fsck->report, fsck->target.upper);
	return r;
}

static int fsck_status(const struct fsck_report *report)
{
	return (report->repaired ? FSCK_EXIT_REPAIRED : 0) |
	       (report->found > report->repaired ? FSCK_EXIT_LEFT : 0) |
	       (report->failed ? FSCK_EXIT_ERROR : 0);
}

static int fsck_open_and_check(const struct fsck_args *args, struct fsck *fsck, struct strbuf *why)
{
	int r = locate_target(args->name, &args->target, &fsck->target, why);

	if (r == 0 && !fsck->target.upper) {
		strbuf_append_format(why, "%s has no upper: there is nothing to check",
				     fsck->target.name);
		r = -EINVAL;
	}
	if (r == 0)
		r = fsck_layer_open(fsck, why);
	if (r == 0)
		r = fsck_work_check_features(fsck, why);
	return r < 0 ? r : fsck_check(fsck);
}

int fsck_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct fsck_args args = { .mode = FSCK_CHECK };
	struct fsck fsck = { .target = TARGET_INIT, .hold = HOLD_INIT };
	int r = args_parse(&fsck_argp, argc, argv, false, &args);

	hash_init();
	if (!args.has_mode && !args.as_json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		args.mode = FSCK_ASK;
	fsck.report.mode = args.mode;
	fsck.report.as_json = args.as_json;
	if (r == 0)
		r = fsck_open_and_check(&args, &fsck, &why);
	if (why.length > 0)
		log_error("%s", why.failed ? strerror(ENOMEM) : why.data);
	else if (r < 0 && !fsck.report.failed)
		log_error("%s", strerror(-r));
	int status = fsck_status(&fsck.report) | (r < 0 ? FSCK_EXIT_ERROR : 0);

	if (fflush(stdout) != 0)
		status |= FSCK_EXIT_ERROR;
	fsck_layer_close(&fsck);
	fsck_report_deinit(&fsck.report);
	target_deinit(&fsck.target);
	return status;
}
