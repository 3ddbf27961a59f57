/* SPDX-License-Identifier: MIT */
/* The process: its limits, signals and memory; everything else is in daemon.c. */
#include <errno.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "daemon/daemon.h"
#include "sys/creds.h"
#include "sys/file.h"

/* Exit status for a command line that makes no sense. */
#define MAIN_EXIT_USAGE 2

static void main_set_up_process(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	hash_init();
	umask(0); /* each request brings its own */
	sys_raise_nofile();
	/* The size limit is the caller's to meet, in the kernel; where ours cannot be raised the
	 * signal must not kill. */
	setrlimit(RLIMIT_FSIZE, &unlimited);
	/* As for kernel overlayfs, quotas hold for what is written on behalf of others. */
	sys_creds_drop_cap(CAP_SYS_RESOURCE);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	/* Without the right to change ids files belong to who mounts, as they should. */
	sys_creds_init();
	/* Threads come and go; an arena for each would keep what it once had. */
	mallopt(M_ARENA_MAX, 2);
}

static int main_mount(const struct command *command)
{
	struct launch launch;
	int r = launch_init(&launch);

	if (r == 0 && command->status_fd >= 0)
		launch_in_background(&launch, command->status_fd);
	else if (r == 0 && !command->foreground)
		r = launch_background(&launch);
	if (r < 0) {
		log_error("cannot start the daemon: %s", strerror(-r));
	} else {
		main_set_up_process();
		r = daemon_run(command, &launch);
	}
	launch_deinit(&launch);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int main_run(const struct command *command)
{
	if (command->debug)
		log_set_level(LOG_LEVEL_DEBUG);
	switch (command->verb) {
	case COMMAND_HELP:
		command_print_help(stdout);
		break;
	case COMMAND_VERSION:
		command_print_version(stdout);
		break;
	case COMMAND_LIST_OPTIONS:
		options_print_list(stdout);
		break;
	case COMMAND_FAKE:
		break;
	case COMMAND_MOUNT:
		return main_mount(command);
	}
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf why = STRBUF_INIT;
	const struct tool *tool = command_find_tool(argc, argv);
	struct command command;
	int status;

	if (tool)
		return tool->run(argc - 1, argv + 1);
	if (command_parse(&command, argc, argv, &why) < 0) {
		log_error("%s", why.length && !why.failed ? why.data : strerror(ENOMEM));
		if (command.is_misused)
			command_print_usage(stderr);
		status = MAIN_EXIT_USAGE;
	} else {
		status = main_run(&command);
	}
	command_deinit(&command);
	return status;
}
