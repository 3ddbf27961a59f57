/* SPDX-License-Identifier: MIT */
/*
 * The command line, in the shapes in which people and programs call: veneer,
 * mount(8) by way of mount.veneer or mount.fuse3, podman's mount_program.
 */
#ifndef VENEER_DAEMON_COMMAND_H
#define VENEER_DAEMON_COMMAND_H

#include <stdbool.h>

#include "daemon/options.h"
#include "tools/tools.h"

enum command_verb {
	COMMAND_MOUNT,
	COMMAND_HELP,
	COMMAND_VERSION,
	COMMAND_LIST_OPTIONS,
	COMMAND_FAKE, /* `mount -f`: do as if */
};

struct command {
	enum command_verb verb;
	bool foreground, debug;
	int status_fd; /* it is in the background, and says so here; -1: not */
	bool is_misused; /* how it is to be called should be told again */
	const char *source; /* NULL: none was given */
	const char *mountpoint;
	struct options options;
};

/*
 * The other command that is called; NULL: it is about mounting. A source that has the name of one
 * can be given behind the word "mount".
 */
const struct tool *command_find_tool(int argc, char **argv);

/*
 * Returns 0, -ENOMEM, or -EINVAL with a sentence for the user in @why. @command must be
 * deinitialised in any case.
 */
int command_parse(struct command *command, int argc, char **argv, struct strbuf *why);
void command_deinit(struct command *command);

/* What --help and --version print; and what is told to those who call it without arguments. */
void command_print_help(FILE *file);
void command_print_version(FILE *file);
void command_print_usage(FILE *file);

#endif
