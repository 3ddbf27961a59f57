/* SPDX-License-Identifier: MIT */
#include "tools/unfold.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "format/jsontext.h"
#include "offline/copy.h"
#include "offline/flatten.h"
#include "offline/hold.h"
#include "offline/merge.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/human.h"
#include "tools/locate.h"
#include "tools/progress.h"
#include "tools/stop.h"

/* Status of --check. */
#define UNFOLD_EXIT_NEEDED 3
/* In work/, which every mount empties. */
#define UNFOLD_WORK "work"
#define UNFOLD_PLACE "#unfold"
#define UNFOLD_INDEX "index"

enum {
	UNFOLD_KEY_CHECK = ARGS_KEY_FIRST,
	UNFOLD_KEY_DRY_RUN,
	UNFOLD_KEY_JSON,
};

struct unfold_args {
	struct args_target target;
	const char *name;
	bool checks, is_dry_run, as_json;
};

/* The work, while it lasts. */
struct unfold_job {
	const struct unfold_args *args;
	struct target target;
	struct hold hold;
	struct stack stack;
	struct progress progress;
	uint64_t shown; /* bytes that the progress knows of */
	json_t *paths; /* of --json; owned */
	bool lists; /* the paths are printed */
	int base; /* of the place for preparations: work/work */
};

/* Appends the sentence and returns the errno it explains. */
#define unfold_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the command line ---- */

static const struct argp_option unfold_options[] = {
	{ "check", UNFOLD_KEY_CHECK, NULL, 0,
	  "change nothing; exit status 3 if there is something to do, 0 if not", 0 },
	{ "dry-run", UNFOLD_KEY_DRY_RUN, NULL, 0, "change nothing; print what would be changed",
	  0 },
	{ "json", UNFOLD_KEY_JSON, NULL, 0, "JSON, see docs/unfold.schema.json", 0 },
	{ 0 },
};

static error_t unfold_parse(int key, char *arg, struct argp_state *state)
{
	struct unfold_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->target;
		return 0;
	case UNFOLD_KEY_CHECK:
		args->checks = true;
		return 0;
	case UNFOLD_KEY_DRY_RUN:
		args->is_dry_run = true;
		return 0;
	case UNFOLD_KEY_JSON:
		args->as_json = true;
		return 0;
	case ARGP_KEY_ARG:
	case ARGP_KEY_END:
		return args_take_name(key, arg, state, "LAYER", &args->target, &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child unfold_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp unfold_argp = {
	.options = unfold_options,
	.parser = unfold_parse,
	.args_doc = "LAYER",
	.doc = "Turns redirected directories and metacopy files of an upper into plain copies, so "
	       "that any reader of overlay layers can use it.\v"
	       "Exit status: 0 if all is done, 1 if not, 2 if the command line was not "
	       "understood, 3 if --check found something to do.",
	.children = unfold_children,
};

/* ---- the layer ---- */

static int unfold_open_layer(struct unfold_job *job, struct strbuf *why)
{
	struct target *target = &job->target;
	int r = locate_target(job->args->name, &job->args->target, target, why);

	if (r < 0)
		return r;
	if (target->mount_point)
		return unfold_fail(why, -EBUSY, "%s is mounted at %s: unmount it first",
				   target->name, target->mount_point);
	r = hold_take(target->upper, target->work, &job->hold, why);
	job->stack.ns = target->ns;
	job->stack.has_upper = true;
	if (r == 0)
		r = stack_add(&job->stack, target->upper, false, why);
	if (r == 0)
		r = stack_add_list(&job->stack, &target->lowers, why);
	job->stack.inner = job->stack.count;
	return r;
}

/* Where objects are prepared; what a run that was cut off left there goes. */
static int unfold_open_place(struct unfold_job *job, int *place, struct strbuf *why)
{
	if (!job->target.work)
		return unfold_fail(why, -ENOENT, "%s: name its work directory with --work",
				   job->target.name);
	int r = mutate_mkdir(job->hold.work, UNFOLD_WORK, 0700);

	if (r == 0 || r == -EEXIST)
		r = sys_open(job->hold.work, UNFOLD_WORK, O_RDONLY | O_DIRECTORY, 0);
	if (r >= 0) {
		job->base = r;
		r = copy_remove(job->base, UNFOLD_PLACE);
	}
	if (r == 0 || r == -ENOENT)
		r = mutate_mkdir(job->base, UNFOLD_PLACE, 0700);
	if (r == 0)
		r = sys_open(job->base, UNFOLD_PLACE, O_PATH | O_DIRECTORY, 0);
	if (r < 0)
		return unfold_fail(why, r, "%s/" UNFOLD_WORK ": %s", job->target.work,
				   strerror(-r));
	*place = r;
	return 0;
}

/* What a run that was cut off prepared: it holds further links of files of the layer. */
static bool unfold_has_place(const struct unfold_job *job)
{
	struct statx st;

	return job->hold.work >= 0 &&
	       sys_stat(job->hold.work, UNFOLD_WORK "/" UNFOLD_PLACE, &st) == 0;
}

/* ---- the work ---- */

static void unfold_take_report(void *context, enum flatten_kind kind, const char *path)
{
	static const char *const kinds[] = {
		[FLATTEN_FILE] = "file",
		[FLATTEN_DIRECTORY] = "directory",
		[FLATTEN_REMAINS] = "remains",
	};
	struct unfold_job *job = context;

	if (job->paths) {
		json_t *item = json_pack("{s:s}", "kind", kinds[kind]);

		if (jsontext_set(item, "path", path) == 0)
			json_array_append_new(job->paths, item);
	} else if (job->lists) {
		printf("%-9s  ", kinds[kind]);
		human_print_name(stdout, path);
		putchar('\n');
	}
}

static void unfold_take_progress(void *context, uint64_t bytes)
{
	struct unfold_job *job = context;

	if (bytes > job->shown) {
		progress_add(&job->progress, bytes - job->shown);
		job->shown = bytes;
	}
}

static int unfold_explain(const struct flatten *work, int error, struct strbuf *why)
{
	if (error == 0 || why->length > 0)
		return error;
	if (work->path.length > 0)
		strbuf_append_format(why, "%s: ", work->path.data);
	if (error == -EXDEV)
		strbuf_append_string(why, "the work directory is not on the upper's file system: "
					  "name another with --work");
	else
		merge_explain(&(const struct merge){ 0 }, error, why);
	return error;
}

/* The index directory; below 0: there is none. */
static int unfold_open_index(const struct unfold_job *job)
{
	return job->hold.work < 0 ? -1 :
				    sys_open(job->hold.work, UNFOLD_INDEX, O_PATH | O_DIRECTORY, 0);
}

/* Only looks: what is there to do? */
static int unfold_look(struct unfold_job *job, struct flatten_counts *counts, struct strbuf *why)
{
	_cleanup_close_ int index = unfold_open_index(job);
	struct flatten look = {
		.stack = &job->stack,
		.work = -1,
		.index = index,
		.report = unfold_take_report,
		.is_interrupted = stop_is_wanted,
		.context = job,
	};
	int r = flatten_run(&look);
	const bool is_needed = r == -ENODATA || look.counts.files + look.counts.directories > 0;

	*counts = look.counts;
	if (is_needed && job->target.lowers.count == 0)
		r = unfold_fail(why, -EINVAL,
				"%s: what it lies over is not known: name it with --lower",
				job->target.name);
	else
		r = unfold_explain(&look, r, why);
	flatten_deinit(&look);
	return r;
}

static int unfold_work(struct unfold_job *job, struct flatten_counts *counts, struct strbuf *why)
{
	_cleanup_close_ int index = unfold_open_index(job);
	struct flatten work = {
		.stack = &job->stack,
		.index = index,
		.is_interrupted = stop_is_wanted,
		.progress = unfold_take_progress,
		.context = job,
	};
	_cleanup_close_ int place = -1;
	int r = unfold_open_place(job, &place, why);

	if (r < 0)
		return r;
	/* What is copied for directories is known when it is done. */
	progress_begin(&job->progress, "unfolding", counts->directories ? 0 : counts->bytes);
	work.work = place;
	r = unfold_explain(&work, flatten_run(&work), why);
	progress_end(&job->progress);
	*counts = work.counts;
	flatten_deinit(&work);
	copy_remove(job->base, UNFOLD_PLACE);
	return r;
}

/* ---- the summary ---- */

static void unfold_print(const struct unfold_args *args, const struct flatten_counts *counts)
{
	char size[HUMAN_MAX];

	if (args->checks && !args->is_dry_run)
		return;
	printf("%llu directories, %llu files (%s) %s\n", (unsigned long long)counts->directories,
	       (unsigned long long)counts->files, human_size(counts->bytes, size),
	       args->is_dry_run ? "to unfold" : "unfolded");
	if (counts->remains > 0)
		printf("%llu objects %s\n", (unsigned long long)counts->remains,
		       args->is_dry_run ? "to be put right, which a run that was cut off left" :
					  "put right, which a run that was cut off had left");
}

static int unfold_print_json(const struct unfold_job *job, const struct flatten_counts *counts,
			     bool changes)
{
	json_t *all = json_pack("{s:s, s:i, s:b, s:O, s:{s:I, s:I, s:I, s:I}}", "schema",
				"veneer-unfold", "version", 1, "changed", changes, "objects",
				job->paths, "counts", "files", (json_int_t)counts->files,
				"directories", (json_int_t)counts->directories, "remains",
				(json_int_t)counts->remains, "bytes", (json_int_t)counts->bytes);
	int r = all ? jsontext_set(all, "layer", job->target.upper) : -ENOMEM;

	if (r == 0 && json_dumpf(all, stdout, JSON_INDENT(2)) < 0)
		r = -EIO;
	putchar('\n');
	json_decref(all);
	return r;
}

/* 0, UNFOLD_EXIT_NEEDED or -errno. */
static int unfold_do(struct unfold_job *job, struct strbuf *why)
{
	const struct unfold_args *args = job->args;
	const bool only_looks = args->checks || args->is_dry_run;
	struct flatten_counts counts = { 0 };

	job->paths = args->as_json ? json_array() : NULL;
	job->lists = args->is_dry_run;
	int r = unfold_open_layer(job, why);

	if (r == 0)
		r = unfold_look(job, &counts, why);
	if (r < 0)
		return r;
	const bool is_needed = counts.files + counts.directories + counts.remains > 0 ||
			       unfold_has_place(job);

	if (is_needed && !only_looks)
		r = unfold_work(job, &counts, why);
	if (r == 0 && args->as_json)
		r = unfold_print_json(job, &counts, is_needed && !only_looks);
	else if (r == 0)
		unfold_print(args, &counts);
	return r < 0 ? r : args->checks && is_needed ? UNFOLD_EXIT_NEEDED : 0;
}

int unfold_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct unfold_args args = { 0 };
	struct unfold_job job = { .args = &args, .hold = HOLD_INIT, .base = -1 };
	int r = args_parse(&unfold_argp, argc, argv, false, &args);

	sys_raise_nofile();
	stop_catch();
	mutate_faults_arm();
	if (r == 0)
		r = unfold_do(&job, &why);
	if (fflush(stdout) != 0 && r >= 0)
		r = -errno;
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	json_decref(job.paths);
	stack_deinit(&job.stack);
	hold_deinit(&job.hold);
	target_deinit(&job.target);
	cleanup_close(&job.base);
	return r < 0 ? EXIT_FAILURE : r;
}
