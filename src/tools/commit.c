/* SPDX-License-Identifier: MIT */
/*
 * The changes of a layer become changes of what it lies over.  How that is done
 * is offline/apply.h's; here is who asks for it, and whether it may be.
 */
#include "tools/commit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/ask.h"
#include "tools/locate.h"
#include "tools/progress.h"
#include "tools/stop.h"

enum {
	COMMIT_KEY_TO = ARGS_KEY_FIRST,
	COMMIT_KEY_FORCE,
	COMMIT_KEY_JSON,
};

struct commit_args {
	struct args_target target;
	const char *name, *to;
	bool force, dry_run, yes, as_json;
};

/* One commit, while it lasts. */
struct commit {
	const struct commit_args *args;
	struct target target;
	struct ask_hold hold;
	struct commit_report report;
	struct commit_end end;
	struct progress progress;
};

/* Appends the sentence and returns the errno it explains. */
#define commit_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the command line ---- */

static const struct argp_option commit_options[] = {
	{ "to", COMMIT_KEY_TO, "DIR", 0,
	  "merge into this directory tree, which holds what the layer lies over", 0 },
	{ "force", COMMIT_KEY_FORCE, NULL, 0,
	  "also if what the layer lies over was changed since the layer was begun", 0 },
	{ "dry-run", 'n', NULL, 0, "say what would be done, and do nothing", 0 },
	{ "yes", 'y', NULL, 0, "do not ask", 0 },
	{ "json", COMMIT_KEY_JSON, NULL, 0, "JSON, see docs/commit.schema.json; does not ask", 0 },
	{ 0 },
};

static error_t commit_parse(int key, char *arg, struct argp_state *state)
{
	struct commit_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->target;
		return 0;
	case COMMIT_KEY_TO:
		args->to = arg;
		return 0;
	case COMMIT_KEY_FORCE:
		args->force = true;
		return 0;
	case 'n':
		args->dry_run = true;
		return 0;
	case 'y':
		args->yes = true;
		return 0;
	case COMMIT_KEY_JSON:
		args->as_json = args->yes = true;
		return 0;
	case ARGP_KEY_ARG:
	case ARGP_KEY_END:
		return args_take_name(key, arg, state, "MOUNT or LAYER", &args->target,
				      &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child commit_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp commit_argp = {
	.options = commit_options,
	.parser = commit_parse,
	.args_doc = "MOUNT|LAYER",
	.doc = "Merges the changes of a layer into what is directly below it, or into another "
	       "directory tree. The layer is empty afterwards. A commit that was interrupted is "
	       "finished by the same command.\v"
	       "Exit status: 0 if all is committed, 1 if not, 2 if the command line was not "
	       "understood.",
	.children = commit_children,
};

/* ---- what is found ---- */

/* Room for one more in an array that grows by doubling. */
static int commit_grow(void **array, size_t count, size_t size)
{
	if (count & (count - 1))
		return 0;
	void *more = reallocarray(*array, count ? 2 * count : 1, size);

	if (!more)
		return -ENOMEM;
	*array = more;
	return 0;
}

/* From the root of the union. NULL: out of memory. */
static char *commit_absolute(const char *path)
{
	char *absolute;

	return asprintf(&absolute, "/%s", path) < 0 ? NULL : absolute;
}

static void commit_note_action(void *context, const struct apply_action *action)
{
	struct commit_report *report = &((struct commit *)context)->report;
	struct commit_action *more;

	report->counts[action->verb]++;
	if (commit_grow((void **)&report->actions, report->action_count, sizeof(*more)) < 0) {
		report->failed = true;
		return;
	}
	more = &report->actions[report->action_count++];
	*more = (struct commit_action){ .verb = action->verb, .bytes = action->bytes };
	more->path = commit_absolute(action->path);
	more->from = action->from ? commit_absolute(action->from) : NULL;
	report->failed |= !more->path || (action->from && !more->from);
}

static void commit_note_conflict(void *context, const char *path, const char *what)
{
	struct commit_report *report = &((struct commit *)context)->report;
	struct commit_conflict *more;

	if (commit_grow((void **)&report->conflicts, report->conflict_count, sizeof(*more)) < 0) {
		report->failed = true;
		return;
	}
	more = &report->conflicts[report->conflict_count++];
	more->path = commit_absolute(path);
	more->what = strdup(what);
	report->failed |= !more->path || !more->what;
}

static void commit_note_bytes(void *context, uint64_t bytes)
{
	progress_add(&((struct commit *)context)->progress, bytes);
}

/* ---- a mount that is in use ---- */

/* From now on its users wait. */
static int commit_hold(struct commit *commit, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf reason = STRBUF_INIT;

	if (!commit->target.mount_point || commit->args->dry_run)
		return 0;
	int r = ask_hold(commit->target.dev, &commit->hold, &reason);

	if (r == 0)
		return 0;
	if (r != -EBUSY)
		ask_explain(geteuid(), r, &reason);
	return commit_fail(why, r, "%s cannot be held still: %s; or unmount it first",
			   commit->target.mount_point,
			   reason.length > 0 ? reason.data : strerror(-r));
}

static int commit_release(struct commit *commit, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf reason = STRBUF_INIT;

	if (commit->hold.socket < 0)
		return 0;
	int r = ask_release(&commit->hold, &reason);

	return r == 0 ? 0 :
			commit_fail(why, r, "%s: %s", commit->target.mount_point,
				    reason.length > 0 ? reason.data : strerror(-r));
}

/* ---- the work ---- */

/* True if the user agrees, or there is nobody to ask. */
static bool commit_is_agreed(const struct commit *commit, const char *dest)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	if (commit->args->yes || commit->args->dry_run || !isatty(STDIN_FILENO) ||
	    !isatty(STDERR_FILENO))
		return true;
	fprintf(stderr, "veneer: commit %s into %s? [y/N] ", commit->target.name, dest);
	fflush(stderr);
	return getline(&line, &capacity, stdin) > 0 && (line[0] == 'y' || line[0] == 'Y');
}

static int commit_check(struct commit *commit, struct strbuf *why)
{
	if (commit->report.failed || commit_report_settle(&commit->report) < 0)
		return -ENOMEM;
	if (commit->report.conflict_count == 0 || commit->args->force)
		return 0;
	if (!commit->args->as_json)
		commit_print_conflicts(&commit->report);
	return commit_fail(why, -EBUSY,
			   "%s was not committed, since others changed what it lies over: bring "
			   "that in order, or have it overwritten with --force",
			   commit->target.name);
}

static int commit_do(struct commit *commit, struct apply *apply, struct strbuf *why)
{
	int r = apply_plan(apply, why);

	if (r == 0)
		r = commit_check(commit, why);
	if (r < 0 || commit->args->dry_run)
		return r;
	/* The users of a mount would see it half done. */
	if (commit->hold.socket >= 0)
		stop_catch();
	progress_begin(&commit->progress, "committing", apply_bytes(apply));
	r = apply_run(apply, why);
	progress_end(&commit->progress);
	if (r < 0)
		strbuf_append_string(why,
				     " (until it is finished the layer cannot be mounted: when the "
				     "cause is gone, run the same command again to go on)");
	commit->end.is_done = r == 0;
	return r;
}

static int commit_report(struct commit *commit)
{
	const struct commit_end *end = &commit->end;

	if (commit->args->as_json)
		return commit_print_json(&commit->report, end);
	if (end->is_dry)
		commit_print_actions(&commit->report);
	if (end->is_dry || end->is_done)
		commit_print_summary(&commit->report, end);
	return 0;
}

static int commit_layer(struct commit *commit, struct strbuf *why)
{
	const struct apply_config config = {
		.target = &commit->target,
		.to = commit->args->to,
		.is_held = commit->target.mount_point != NULL,
		.action = commit_note_action,
		.conflict = commit_note_conflict,
		.progress = commit_note_bytes,
		.context = commit,
	};
	_cleanup_apply_ struct apply *apply = NULL;
	int r = commit_hold(commit, why);

	if (r == 0)
		r = apply_open(&config, &apply, why);
	if (r < 0)
		return r;
	commit->end.dest = apply_dest(apply);
	commit->end.is_resumed = apply_is_unfinished(apply);
	commit->end.rest = apply_rest(apply);
	r = commit_do(commit, apply, why);
	int released = commit_release(commit, why);
	int reported = commit_report(commit);

	return r < 0 ? r : released < 0 ? released : reported;
}

static int commit_main(struct commit *commit, struct strbuf *why)
{
	const struct commit_args *args = commit->args;
	int r = locate_target(args->name, &args->target, &commit->target, why);

	if (r < 0)
		return r;
	commit->end.layer = commit->target.name;
	commit->end.is_dry = args->dry_run;
	const char *dest = args->to			   ? args->to :
			   commit->target.lowers.count > 0 ? commit->target.lowers.items[0].path :
							     "what is below";

	if (!commit_is_agreed(commit, dest))
		return commit_fail(why, -ECANCELED, "nothing was done");
	return commit_layer(commit, why);
}

int commit_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct commit_args args = { 0 };
	struct commit commit = { .args = &args, .target = TARGET_INIT, .hold = ASK_HOLD_INIT };
	int r = args_parse(&commit_argp, argc, argv, false, &args);

	sys_raise_nofile();
	if (r == 0)
		r = commit_main(&commit, &why);
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	if (r < 0)
		log_error("%s", why.length > 0 && !why.failed ? why.data : strerror(-r));
	ask_hold_deinit(&commit.hold);
	commit_report_deinit(&commit.report);
	target_deinit(&commit.target);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
