/* SPDX-License-Identifier: MIT */
/*
 * The other commands are called as a user would, in this process.
 */
#include "tools/run_end.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"
#include "sys/file.h"
#include "tools/run_layer.h"
#include "tools/tools.h"

#define RUN_ARGUMENTS_MAX 4

/* ---- the terminal ---- */

bool run_end_is_foreground(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

void run_end_take_terminal(void)
{
	pid_t group = tcgetpgrp(STDIN_FILENO);
	sigset_t one, old;

	/* A group that is there has been given it, by a shell that put us in the background. */
	if (group <= 0 || kill(-group, 0) == 0 || errno != ESRCH)
		return;
	/* Else it stops whoever is in the background and does that. */
	sigemptyset(&one);
	sigaddset(&one, SIGTTOU);
	sigprocmask(SIG_BLOCK, &one, &old);
	tcsetpgrp(STDIN_FILENO, getpgrp());
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* ---- other commands ---- */

/* Standard output is the command's, whoever reads that: what is said about it goes where our messages go. */
static int run_call_aside(const struct tool *tool, int count, char **arguments)
{
	int output = sys_dup(STDOUT_FILENO), status;

	fflush(stdout);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	status = tool->run(count, arguments);
	fflush(stdout);
	if (output < 0) {
		close(STDOUT_FILENO); /* as it was */
	} else {
		dup2(output, STDOUT_FILENO);
		close(output);
	}
	return status;
}

/* `veneer NAME [OPTION] LAYER`. 0, or -EIO after a message. */
static int run_call(const char *name, const char *option, const struct run_layer *layer)
{
	const struct tool *tool = tools_find(name);
	_cleanup_free_ char *command = strdup(name), *word = strdup(option ? option : "");
	_cleanup_free_ char *directory = strdup(layer->directory);
	char *arguments[RUN_ARGUMENTS_MAX] = { command };
	int count = 1, status;

	if (!tool) {
		log_error("this veneer has no command '%s': the layer is kept in %s", name,
			  layer->directory);
		return -ENOSYS;
	}
	if (!command || !word || !directory)
		return -ENOMEM;
	if (option)
		arguments[count++] = word;
	arguments[count++] = directory;
	status = run_call_aside(tool, count, arguments);
	return status == EXIT_SUCCESS ? 0 : -EIO;
}

static int run_end_remove(const struct run_layer *layer)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	int r = run_layer_remove(layer, &why);

	if (r < 0)
		log_error("%s", why.length && !why.failed ? why.data : strerror(-r));
	return r;
}

/* ---- what can become of it ---- */

/* Who named the layer knows where it is. */
static void run_end_describe(const struct run_plan *plan, struct strbuf *text)
{
	const char *name = plan->layer.name;

	if (plan->layer.is_temporary)
		strbuf_append_format(text,
				     "veneer: the changes are kept as '%s': 'veneer diff %s' shows "
				     "them, 'veneer commit %s' makes them real, 'veneer discard "
				     "%s' forgets them\n",
				     name, name, name, name);
}

static int run_end_keep(const struct run_plan *plan)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_INIT;

	run_end_describe(plan, &text);
	if (text.length && !text.failed)
		fputs(text.data, stderr);
	return 0;
}

static int run_end_commit(const struct run_plan *plan)
{
	int r = run_call("commit", "-y", &plan->layer);

	if (r < 0)
		run_end_keep(plan);
	if (r < 0 || !plan->layer.is_temporary)
		return r;
	/* It may hold layers of runs within it. */
	return run_layer_is_empty(&plan->layer) ? run_end_remove(&plan->layer) : run_end_keep(plan);
}

static int run_end_discard(const struct run_plan *plan)
{
	return plan->layer.is_temporary ? run_end_remove(&plan->layer) :
					  run_call("discard", "-y", &plan->layer);
}

static const int run_interrupts[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
/* What is told when one of them comes. */
static const char *run_notice;

static void run_end_interrupted(int number)
{
	ssize_t ignored = write(STDERR_FILENO, run_notice, strlen(run_notice));

	(void)ignored;
	raise(number); /* pending until we return; then it ends us */
}

static char run_end_question(const struct run_plan *plan)
{
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;

	/* The command may have left it as it needed it. */
	if (plan->has_terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &plan->terminal);
	run_call("diff", "--stat", &plan->layer);
	for (;;) {
		fputs("veneer: [c]ommit, [k]eep, [d]iscard or [s]how these changes? ", stderr);
		fflush(stderr);
		if (getline(&line, &capacity, stdin) < 0) {
			fputc('\n', stderr);
			return 'k';
		}
		switch (line[0]) {
		case 'c':
		case 'k':
		case 'd':
			return line[0];
		case 's':
			run_call("diff", NULL, &plan->layer);
			break;
		default:
			fputs("veneer: c makes the changes real, k keeps them as a layer, d "
			      "forgets them, s shows them all\n",
			      stderr);
			break;
		}
	}
}

/* Who interrupts has not answered: the changes are kept, and what ends us tells so. */
static int run_end_ask(const struct run_plan *plan)
{
	struct sigaction action = { .sa_handler = run_end_interrupted, .sa_flags = SA_RESETHAND };
	struct sigaction old[ARRAY_SIZE(run_interrupts)];
	_cleanup_strbuf_ struct strbuf notice = STRBUF_INIT;

	strbuf_append_string(&notice, "\n");
	run_end_describe(plan, &notice);
	run_notice = notice.failed ? "\n" : notice.data;
	for (size_t i = 0; i < ARRAY_SIZE(run_interrupts); i++) {
		sigaction(run_interrupts[i], NULL, &old[i]);
		if (old[i].sa_handler != SIG_IGN)
			sigaction(run_interrupts[i], &action, NULL);
	}
	char answer = run_end_question(plan);

	for (size_t i = 0; i < ARRAY_SIZE(run_interrupts); i++)
		sigaction(run_interrupts[i], &old[i], NULL);
	return answer == 'c' ? run_end_commit(plan) :
	       answer == 'd' ? run_end_discard(plan) :
			       run_end_keep(plan);
}

static enum run_end run_end_choose(const struct run_plan *plan)
{
	const struct run_options *options = plan->options;

	if (options->end != RUN_END_DEFAULT)
		return options->end;
	return !options->keep && !options->name && isatty(STDIN_FILENO) && isatty(STDERR_FILENO) &&
			       run_end_is_foreground() ?
		       RUN_END_ASK :
		       RUN_END_DEFAULT;
}

int run_end(struct run_plan *plan)
{
	if (plan->layer.is_temporary &&
	    (plan->options->read_only_root || run_layer_is_empty(&plan->layer)))
		return run_end_remove(&plan->layer);
	run_layer_unlock(&plan->layer);
	switch (run_end_choose(plan)) {
	case RUN_END_ASK:
		return run_end_ask(plan);
	case RUN_END_COMMIT:
		return run_end_commit(plan);
	case RUN_END_DISCARD:
		return run_end_discard(plan);
	case RUN_END_DEFAULT:
		break;
	}
	return run_end_keep(plan);
}
