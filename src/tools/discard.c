/* SPDX-License-Identifier: MIT */
#include "tools/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/control.h"
#include "base/log.h"
#include "offline/hold.h"
#include "sys/file.h"
#include "tools/args.h"
#include "tools/ask.h"
#include "tools/human.h"
#include "tools/locate.h"
#include "tools/run_layer.h"
#include "tools/run_remove.h"
#include "tools/weigh.h"

enum {
	DISCARD_KEY_KEEP = ARGS_KEY_FIRST,
	DISCARD_KEY_KEEP_FROM,
	DISCARD_KEY_REMOVE,
};

/* Of a commit that is not finished, below `work` (offline/apply_journal.c). */
#define DISCARD_PLAN "incompat/veneer-commit/plan"

struct discard_args {
	struct args_target target;
	const char *name;
	char **keep; /* as they were written; owned, as are they */
	size_t keep_count;
	int keep_error; /* of a list that could not be read */
	const char *keep_from; /* that list */
	bool only_says, is_sure, removes;
};

/* Appends the sentence and returns the errno it explains. */
#define discard_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the command line ---- */

static const struct argp_option discard_options[] = {
	{ "keep", DISCARD_KEY_KEEP, "PATH", 0,
	  "this path, from the root of the mount, stays with all below it; may be repeated", 0 },
	{ "keep-from", DISCARD_KEY_KEEP_FROM, "FILE", 0,
	  "so do the paths in FILE, one a line ('-': standard input)", 0 },
	{ "remove", DISCARD_KEY_REMOVE, NULL, 0,
	  "remove the whole directory that 'veneer run' kept, not only what was changed", 0 },
	{ "dry-run", 'n', NULL, 0, "say what would be discarded, and change nothing", 0 },
	{ "yes", 'y', NULL, 0, "do not ask", 0 },
	{ 0 },
};

static int discard_add_keep(struct discard_args *args, const char *path)
{
	char **more = reallocarray(args->keep, args->keep_count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	args->keep = more;
	more[args->keep_count] = strdup(path);
	return more[args->keep_count] && ++args->keep_count ? 0 : -ENOMEM;
}

static int discard_read_list(struct discard_args *args, const char *name)
{
	bool is_input = !strcmp(name, "-");
	_cleanup_fclose_ FILE *opened = is_input ? NULL : fopen(name, "re");
	FILE *file = is_input ? stdin : opened;
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	ssize_t length;
	int r = file ? 0 : -errno;

	while (r == 0 && (length = getline(&line, &capacity, file)) >= 0) {
		if (length > 0 && line[length - 1] == '\n')
			line[length - 1] = '\0';
		if (*line)
			r = discard_add_keep(args, line);
	}
	return r == 0 && ferror(file) ? -EIO : r;
}

static error_t discard_parse(int key, char *arg, struct argp_state *state)
{
	struct discard_args *args = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &args->target;
		return 0;
	case DISCARD_KEY_KEEP:
		return -discard_add_keep(args, arg);
	case DISCARD_KEY_KEEP_FROM:
		args->keep_from = arg;
		args->keep_error = discard_read_list(args, arg);
		return 0;
	case DISCARD_KEY_REMOVE:
		args->removes = true;
		return 0;
	case 'n':
		args->only_says = true;
		return 0;
	case 'y':
		args->is_sure = true;
		return 0;
	case ARGP_KEY_ARG:
	case ARGP_KEY_END:
		if (args->removes && (args->keep_count || args->keep_from))
			argp_error(state, "--remove leaves nothing to --keep");
		return args_take_name(key, arg, state, "MOUNT or LAYER", &args->target,
				      &args->name);
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child discard_children[] = { { &args_target, 0, NULL, 0 }, { 0 } };

static const struct argp discard_argp = {
	.options = discard_options,
	.parser = discard_parse,
	.args_doc = "MOUNT|LAYER",
	.doc = "Forgets what a layer changes of what lies below it; on a live mount at once for "
	       "everybody.\v"
	       "Exit status: 0 if that is done, 1 if not, 2 if the command line was not "
	       "understood.",
	.children = discard_children,
};

/* ---- paths ---- */

/* "//a/./b/" as "a/b", in place. False: it goes up, or is the root. */
static bool discard_tidy(char *path)
{
	char *to = path;

	for (char *from = path; *from;) {
		size_t length = strcspn(from, "/");

		if (length == 2 && from[0] == '.' && from[1] == '.')
			return false;
		if (length > 0 && !(length == 1 && *from == '.')) {
			if (to != path)
				*to++ = '/';
			memmove(to, from, length);
			to += length;
		}
		from += length + (from[length] == '/');
	}
	*to = '\0';
	return to != path;
}

/* Who names what is kept by its path in the mount means the same. */
static void discard_strip(char *path, const char *mount_point)
{
	size_t length = mount_point ? strlen(mount_point) : 0;

	if (length > 1 && !strncmp(path, mount_point, length) && path[length] == '/')
		memmove(path, path + length, strlen(path + length) + 1);
}

static int discard_check_keep(struct discard_args *args, const struct target *target,
			      struct strbuf *why)
{
	if (args->keep_error < 0)
		return discard_fail(why, args->keep_error, "--keep-from %s: %s", args->keep_from,
				    strerror(-args->keep_error));
	for (size_t i = 0; i < args->keep_count; i++) {
		char *path = args->keep[i];

		discard_strip(path, target->mount_point);
		if (!discard_tidy(path))
			return discard_fail(why, -EINVAL,
					    "--keep: a path in the mount is meant, which does not "
					    "go up and is not the root");
	}
	return 0;
}

/* ---- what it would be ---- */

static void discard_print(const char *what, const struct target *target,
			  const struct weight *weight)
{
	char size[HUMAN_MAX];

	printf("%s%s %llu %s (%s) of ", what, weight->is_partial ? " at least" : "",
	       (unsigned long long)weight->entries, weight->entries == 1 ? "entry" : "entries",
	       human_size(weight->bytes, size));
	human_print_name(stdout, target->mount_point ? target->mount_point : target->name);
}

/* True unless the user says no; asked on a terminal alone. */
static bool discard_is_wanted(const struct discard_args *args, const struct target *target,
			      const struct weight *weight)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	if (args->is_sure || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	discard_print("discard", target, weight);
	fputs("? [y/N] ", stdout);
	fflush(stdout);
	return getline(&line, &capacity, stdin) > 0 && (line[0] == 'y' || line[0] == 'Y');
}

/* ---- doing it ---- */

static int discard_live(const struct discard_args *args, const struct target *target,
			struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf request = STRBUF_INIT;
	size_t before = why->length;

	strbuf_append_string(&request, CONTROL_REQUEST_DISCARD);
	for (size_t i = 0; i < args->keep_count; i++)
		ask_add_word(&request, args->keep[i]);
	if (request.failed)
		return -ENOMEM;
	if (request.length >= CONTROL_REQUEST_MAX)
		return discard_fail(why, -E2BIG, "these are too many paths to keep at once");
	strbuf_append_format(why, "%s: ", target->mount_point);
	int r = ask_verdict(target->dev, request.data, why);

	if (r < 0 && r != -EBUSY)
		ask_explain(geteuid(), r, why);
	else if (r == 0 && why->data)
		why->data[why->length = before] = '\0';
	return r;
}

/* The union is opened as for a mount, so nobody else can have it meanwhile, and it is emptied. */
static int discard_at_rest(const struct discard_args *args, const struct target *target,
			   struct strbuf *why)
{
	const struct core_config config = {
		.lowers = target->lowers,
		.upperdir = target->upper,
		.workdir = target->work,
		.redirect = CORE_REDIRECT_FOLLOW,
		.xattrs = target->ns == XATTR_USER ? CORE_XATTRS_USER : CORE_XATTRS_TRUSTED,
		.metacopy = true,
		.cross_mounts = target->cross_mounts,
		.at_rest = true,
	};
	struct core_discard discard = { .keep = args->keep, .keep_count = args->keep_count };
	struct core *core;

	if (!target->work)
		return discard_fail(why, -EINVAL,
				    "%s: its work directory is needed, on the same file system: "
				    "name it with --work",
				    target->upper);
	if (target->lowers.count == 0)
		return discard_fail(why, -EINVAL,
				    "%s: what does it lie over? Name that with --lower",
				    target->upper);
	int r = core_new(&config, &core, why);

	if (r < 0)
		return r;
	r = core_discard(core, &discard, why);
	if (r == 0)
		r = core_discard_remains(core, &discard);
	core_free(core);
	return r;
}

/* What a commit that broke off has moved below would stay there, under names that nobody knows. */
static int discard_check_commit(const struct target *target, const struct hold *hold,
				struct strbuf *why)
{
	struct statx st;
	_cleanup_close_ int work = sys_open(hold->work, "work", O_PATH | O_DIRECTORY, 0);

	if (work < 0)
		return work == -ENOENT ? 0 : work;
	int r = sys_stat(work, DISCARD_PLAN, &st);

	/* The mode that root of a user namespace gave it keeps its owner out. */
	if (r == -EACCES) {
		r = sys_chmod(work, 0700);
		if (r == 0)
			r = sys_stat(work, DISCARD_PLAN, &st);
	}
	if (r == 0)
		return discard_fail(why, -EBUSY,
				    "%s: a commit was begun and is not finished: run veneer commit "
				    "again first",
				    target->name);
	return r == -ENOENT ? 0 : r;
}

/* No run may be on it meanwhile, which the caller has looked for, and no mount. */
static int discard_remove(const struct target *target, struct strbuf *why)
{
	_cleanup_hold_ struct hold hold = HOLD_INIT;
	int r = hold_take(target->upper, target->work, &hold, why);

	if (r == 0 && target->work)
		r = discard_check_commit(target, &hold, why);
	if (r < 0)
		return r;
	r = run_remove_tree(target->directory);
	return r < 0 ? discard_fail(why, r, "%s: cannot be removed: %s", target->directory,
				    strerror(-r)) :
		       0;
}

static int discard_check_use(const struct discard_args *args, const struct target *target,
			     struct strbuf *why)
{
	if (!target->upper)
		return discard_fail(why, -EROFS,
				    "%s is mounted read-only, without an upper: there is nothing "
				    "to discard",
				    target->name);
	if (args->removes && !target->directory)
		return discard_fail(why, -EINVAL,
				    "%s: --remove is for directories that 'veneer run' kept",
				    target->name);
	pid_t user = target->directory ? run_layer_user(target->directory) : 0;

	if (user > 0 && user != getpid())
		return discard_fail(why, -EBUSY, "%s: in use by process %d: wait for its end",
				    target->name, (int)user);
	return 0;
}

static int discard_target(struct discard_args *args, struct strbuf *why)
{
	_cleanup_target_ struct target target = TARGET_INIT;
	struct weight weight;
	int r = locate_target(args->name, &args->target, &target, why);

	if (r == 0)
		r = discard_check_use(args, &target, why);
	if (r == 0)
		r = discard_check_keep(args, &target, why);
	if (r == 0) {
		r = weigh_tree(target.upper, args->keep, args->keep_count, 0, &weight);
		if (r < 0)
			strbuf_append_format(why, "%s: %s", target.upper, strerror(-r));
	}
	if (r < 0)
		return r;
	if (!args->only_says && !discard_is_wanted(args, &target, &weight))
		return discard_fail(why, -ECANCELED, "nothing was discarded");
	if (args->only_says)
		r = 0;
	else if (target.mount_point)
		r = discard_live(args, &target, why);
	else
		r = args->removes ? discard_remove(&target, why) :
				    discard_at_rest(args, &target, why);
	if (r < 0)
		return r;
	discard_print(args->only_says ? "would discard" : "discarded", &target, &weight);
	putchar('\n');
	return 0;
}

int discard_run(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct discard_args args = { 0 };
	int r = args_parse(&discard_argp, argc, argv, false, &args);

	if (r == 0)
		r = discard_target(&args, &why);
	if (r == 0 && fflush(stdout) != 0)
		r = -errno;
	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	for (size_t i = 0; i < args.keep_count; i++)
		free(args.keep[i]);
	free(args.keep);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
