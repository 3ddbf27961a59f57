/* SPDX-License-Identifier: MIT */
#include "tools/run.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "sys/creds.h"
#include "tools/args.h"
#include "tools/locate.h"
#include "tools/run_end.h"
#include "tools/run_keeper.h"
#include "tools/run_layer.h"
#include "tools/run_sockets.h"
#include "tools/run_space.h"

enum {
	RUN_KEY_KEEP = ARGS_KEY_FIRST,
	RUN_KEY_NAME,
	RUN_KEY_ASK,
	RUN_KEY_COMMIT,
	RUN_KEY_DISCARD,
	RUN_KEY_WRITE,
	RUN_KEY_HIDE,
	RUN_KEY_READ_ONLY,
	RUN_KEY_NO_NETWORK,
	RUN_KEY_PID,
};

static const struct argp_option run_options[] = {
	{ NULL, 0, NULL, 0, "Where the changes go:", 1 },
	{ "keep", RUN_KEY_KEEP, "DIR", 0, "to this directory, which stays; again: go on there", 1 },
	{ "name", RUN_KEY_NAME, "NAME", 0, "the same, in the state directory ('veneer list')", 1 },
	{ NULL, 0, NULL, 0, "What becomes of them when the command has ended:", 2 },
	{ "ask", RUN_KEY_ASK, NULL, 0,
	  "show them and ask (the default on a terminal, unless they have a name; elsewhere they "
	  "are kept)",
	  2 },
	{ "commit", RUN_KEY_COMMIT, NULL, 0, "make them real", 2 },
	{ "discard", RUN_KEY_DISCARD, NULL, 0, "forget them", 2 },
	{ NULL, 0, NULL, 0, "What the command sees:", 3 },
	{ "write", RUN_KEY_WRITE, "PATH", 0, "this path is the real one; may be repeated", 3 },
	{ "hide", RUN_KEY_HIDE, "PATH", 0, "this path is empty; may be repeated", 3 },
	{ "read-only-root", RUN_KEY_READ_ONLY, NULL, 0, "nothing can be changed", 3 },
	{ "no-network", RUN_KEY_NO_NETWORK, NULL, 0, "no network but loopback", 3 },
	{ "pid", RUN_KEY_PID, NULL, 0, "only its own processes", 3 },
	{ NULL, 'o', "OPTION[,OPTION...]", 0, "further mount options, see veneer(5)", 4 },
	{ 0 },
};

/* ---- the command line ---- */

/* By its directory. NULL and errno. */
static char *run_resolve_dead(const char *path)
{
	_cleanup_strbuf_ struct strbuf resolved = STRBUF_INIT;
	_cleanup_free_ char *copy = strdup(path);
	char *end = copy ? copy + strlen(copy) : NULL;

	while (end && end > copy + 1 && end[-1] == '/')
		*--end = '\0';
	char *slash = copy ? strrchr(copy, '/') : NULL;
	const char *name = slash ? slash + 1 : copy;

	if (slash)
		*slash = '\0';
	_cleanup_free_ char *directory = copy ? realpath(!slash ? "." :
							 *copy	? copy :
								  "/",
							 NULL) :
						NULL;

	if (!directory || !strcmp(name, "..") || !strcmp(name, "."))
		return NULL;
	strbuf_append_format(&resolved, "%s/%s", strcmp(directory, "/") != 0 ? directory : "",
			     name);
	return strbuf_take(&resolved);
}

static void run_take_path(struct run_paths *paths, const char *option, const char *path,
			  struct argp_state *state)
{
	_cleanup_free_ char *resolved = realpath(path, NULL);

	/* What is to be hidden need not be alive. */
	if (!resolved && errno == ENOTCONN &&
	    paths == &((struct run_options *)state->input)->hidden)
		resolved = run_resolve_dead(path);
	if (!resolved)
		argp_failure(state, ARGS_EXIT_USAGE, errno, "--%s %s", option, path);
	else if (!strcmp(resolved, "/"))
		argp_error(state, "--%s %s: that would be everything", option, path);
	else if (run_paths_add(paths, resolved) < 0)
		argp_failure(state, RUN_EXIT_FAILED, ENOMEM, "--%s %s", option, path);
}

static void run_take_end(struct run_options *options, enum run_end end, struct argp_state *state)
{
	if (options->end != RUN_END_DEFAULT && options->end != end)
		argp_error(state, "--ask, --commit and --discard exclude each other");
	options->end = end;
}

/* What says what the union is made of is ours. */
static void run_check_mount(const char *options, struct argp_state *state)
{
	static const char *const ours[] = { "lowerdir", "lowerdir+", "datadir+",
					    "upperdir", "workdir",   "cross_mounts" };

	for (const char *at = options; *at;) {
		size_t length = strcspn(at, ",="), end = 0;

		for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
			if (strlen(ours[i]) == length && !strncmp(at, ours[i], length))
				argp_error(state,
					   "-o %s: a run lies over the whole tree, and "
					   "--keep or --name say where its layer is",
					   ours[i]);
		/* A comma behind a backslash is part of a value. */
		while (at[end] && at[end] != ',')
			end += at[end] == '\\' && at[end + 1] ? 2 : 1;
		at += end + (at[end] == ',');
	}
}

static void run_check(const struct run_options *options, struct argp_state *state)
{
	for (size_t i = 0; i < options->real.count; i++)
		for (size_t j = 0; j < options->hidden.count; j++)
			if (!strcmp(options->real.items[i], options->hidden.items[j]))
				argp_error(state, "%s: --write and --hide exclude each other",
					   options->real.items[i]);
	if (options->keep && options->name)
		argp_error(state, "--keep and --name exclude each other");
}

static error_t run_parse(int key, char *arg, struct argp_state *state)
{
	struct run_options *options = state->input;

	switch (key) {
	case RUN_KEY_KEEP:
		options->keep = arg;
		return 0;
	case RUN_KEY_NAME:
		options->name = arg;
		return 0;
	case RUN_KEY_ASK:
		run_take_end(options, RUN_END_ASK, state);
		return 0;
	case RUN_KEY_COMMIT:
		run_take_end(options, RUN_END_COMMIT, state);
		return 0;
	case RUN_KEY_DISCARD:
		run_take_end(options, RUN_END_DISCARD, state);
		return 0;
	case RUN_KEY_WRITE:
		run_take_path(&options->real, "write", arg, state);
		return 0;
	case RUN_KEY_HIDE:
		run_take_path(&options->hidden, "hide", arg, state);
		return 0;
	case RUN_KEY_READ_ONLY:
		options->read_only_root = true;
		return 0;
	case RUN_KEY_NO_NETWORK:
		options->no_network = true;
		return 0;
	case RUN_KEY_PID:
		options->own_pids = true;
		return 0;
	case 'o':
		run_check_mount(arg, state);
		strbuf_append_format(&options->mount, ",%s", arg);
		return 0;
	case ARGP_KEY_ARG:
		/* This one and all behind it. */
		options->command = &state->argv[state->next - 1];
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		run_check(options, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp run_argp = {
	.options = run_options,
	.parser = run_parse,
	.args_doc = "[--] [COMMAND [ARGUMENT...]]",
	.doc = "Runs a command (your shell) on a veneer over the whole file system tree: what it "
	       "changes is kept beside, to be looked at, committed or discarded.\v"
	       "Exit status: that of the command; 125 if it could not be run, 126 if it is no "
	       "program, 127 if there is none of that name, 2 if the command line was not "
	       "understood.",
};

/* ---- the run ---- */

static char *run_shell(void)
{
	char *shell = getenv("SHELL");

	return shell && *shell ? shell : "/bin/sh";
}

static bool run_is_within(const char *path, const char *directory)
{
	char *items[] = { (char *)directory };
	const struct run_paths one = { items, 1 };

	return run_paths_have(&one, path);
}

/* Where runs within this one look for a place. NULL: there is no such directory, or it is real. */
static char *run_find_state(const struct run_options *options)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	_cleanup_free_ char *state = locate_state(&path) == 0 ? realpath(path.data, NULL) : NULL;

	return !state || run_space_is_real(state) || run_paths_have(&options->real, state) ?
		       NULL :
		       ptr_take(state);
}

static int run_prepare(struct run_plan *plan, struct run_options *options, struct strbuf *why)
{
	plan->caller = getpid();
	plan->makes_userns = !sys_creds_has_cap(CAP_SYS_ADMIN);
	plan->uses_user_xattrs = plan->makes_userns || !sys_creds_is_initial_userns();
	plan->directory = getcwd(NULL, 0);
	if (!plan->directory) {
		int error = -errno;

		strbuf_append_format(why,
				     "the current directory cannot be told (%s): go to another one "
				     "with cd",
				     strerror(-error));
		return error;
	}
	int r = options->mount.failed ? -ENOMEM : run_layer_open(plan, why);

	if (r == 0)
		plan->state = run_find_state(options);
	/* It has no place in the union: what is written there would come back from below. */
	if (r == 0 && !(plan->state && run_is_within(plan->layer.directory, plan->state)))
		r = run_paths_add(&options->hidden, plan->layer.directory);
	if (r == 0)
		r = run_sockets_find(options, &plan->sockets);
	run_paths_sort(&options->hidden);
	run_paths_sort(&options->real);
	return r;
}

/* What waited for the command shall think that we were it. */
static int run_exit_status(int status)
{
	const struct rlimit none = { 0, 0 };
	sigset_t all;

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	setrlimit(RLIMIT_CORE, &none); /* the command's is there, if any */
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static int run_all(struct run_options *options)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	struct run_plan plan = { .options = options, .layer = { .lock_fd = -1 } };
	int status = 0;

	plan.has_terminal = run_end_is_foreground() && tcgetattr(STDIN_FILENO, &plan.terminal) == 0;
	int r = run_prepare(&plan, options, &why), end = 0;

	if (r < 0) {
		/* The layer, if there is one, is another's. */
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	} else {
		r = run_session(&plan, &status);
		if (plan.has_terminal)
			run_end_take_terminal();
		/* Whatever the command may have changed is there, also if we lost sight of it. */
		end = run_end(&plan);
	}

	run_layer_deinit(&plan.layer);
	run_paths_deinit(&plan.sockets);
	free(plan.directory);
	free(plan.state);
	return r < 0 || end < 0 ? RUN_EXIT_FAILED : run_exit_status(status);
}

int run_run(int argc, char **argv)
{
	struct run_options options = { 0 };
	char *shell[] = { run_shell(), NULL };
	int status = RUN_EXIT_FAILED;

	if (args_parse(&run_argp, argc, argv, true, &options) == 0) {
		if (!options.command)
			options.command = shell;
		status = run_all(&options);
	}
	run_paths_deinit(&options.real);
	run_paths_deinit(&options.hidden);
	strbuf_deinit(&options.mount);
	return status;
}
