/* SPDX-License-Identifier: MIT */
#include "daemon/command.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/fuse.h"

enum {
	COMMAND_LENIENT = 256,
	COMMAND_LIST,
	COMMAND_STATUS_FD,
};

static const struct option command_long[] = {
	{ "debug", no_argument, NULL, 'd' },
	{ "foreground", no_argument, NULL, 'f' },
	{ "help", no_argument, NULL, 'h' },
	{ "lenient", no_argument, NULL, COMMAND_LENIENT },
	{ "list-options", no_argument, NULL, COMMAND_LIST },
	{ "status-fd", required_argument, NULL, COMMAND_STATUS_FD },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

static const char command_usage[] =
	"usage: veneer [mount] [-f] [-d] [-v] [-o OPTION[,OPTION...]]... [SOURCE] MOUNTPOINT\n"
	"       veneer COMMAND [ARGUMENT...]\n";

void command_print_usage(FILE *file)
{
	fputs(command_usage, file);
	fputs("'veneer --help' says more.\n", file);
}

void command_print_help(FILE *file)
{
	fputs(command_usage, file);
	fputs("\n"
	      "Puts a writable layer over directory trees that stay untouched, in the format of\n"
	      "the Linux kernel's overlayfs.\n"
	      "\n"
	      "  -o OPTION       mount options, see below\n"
	      "  -f, --foreground\n"
	      "                  do not go into the background\n"
	      "  -d, --debug     log every request, in the foreground\n"
	      "      --status-fd N\n"
	      "                  stay the process that was called, and write a byte 0 to the\n"
	      "                  descriptor N once the mount is live\n"
	      "  -v, --verbose   say more\n"
	      "      --lenient   unknown options are no error (the default when called as\n"
	      "                  fuse-overlayfs)\n"
	      "  -h, --help      print this\n"
	      "  -V, --version   print the version\n"
	      "\n"
	      "Other commands, each with a --help of its own:\n",
	      file);
	tools_print_list(file);
	fputs("\n"
	      "Mount options:\n",
	      file);
	options_print_help(file);
}

void command_print_version(FILE *file)
{
	fprintf(file, "veneer %s\n", VENEER_VERSION);
	fprintf(file, "FUSE protocol 7.%d\n", ABI_MINOR_MAX);
}

void command_deinit(struct command *command)
{
	options_deinit(&command->options);
}

static const char *command_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* mount(8) calls /sbin/mount.TYPE with letters of its own: -s sloppy, -f fake, -t type. */
static int command_apply_helper(struct command *command, int letter, struct strbuf *why)
{
	switch (letter) {
	case 's':
		command->options.lenient = true;
		return 0;
	case 'f':
		command->verb = COMMAND_FAKE;
		return 0;
	case 'n': /* no /etc/mtab: there is none anyway */
	case 't':
		return 0;
	default:
		strbuf_append_format(why, "mount(8) asks for -%c, which is not supported", letter);
		return -EINVAL;
	}
}

static int command_apply(struct command *command, int letter, struct strbuf *why)
{
	switch (letter) {
	case 'd':
		command->debug = true;
		command->foreground = true;
		return 0;
	case 'f':
		command->foreground = true;
		return 0;
	case 'h':
		command->verb = COMMAND_HELP;
		return 0;
	case 'V':
		command->verb = COMMAND_VERSION;
		return 0;
	case COMMAND_LIST:
		command->verb = COMMAND_LIST_OPTIONS;
		return 0;
	default:
		strbuf_append_string(why, "unknown option");
		return -EINVAL;
	}
}

static int command_take_status_fd(struct command *command, const char *text, struct strbuf *why)
{
	char *end;
	long fd = strtol(text, &end, 10);

	if (*end || end == text || fd <= STDERR_FILENO || fd > INT_MAX) {
		strbuf_append_format(why, "--status-fd %s: not a descriptor", text);
		return -EINVAL;
	}
	command->status_fd = (int)fd;
	return 0;
}

/* One option of the command line; the letters that mean the same for all callers first. */
static int command_take(struct command *command, int letter, bool is_helper, struct strbuf *why)
{
	switch (letter) {
	case 'o':
		return options_parse(&command->options, optarg, why);
	case 'v':
		log_set_level(LOG_LEVEL_INFO);
		return 0;
	case 'r':
		return options_parse(&command->options, "ro", why);
	case 'w':
		return options_parse(&command->options, "rw", why);
	case COMMAND_LENIENT:
		command->options.lenient = true;
		return 0;
	case COMMAND_STATUS_FD:
		return command_take_status_fd(command, optarg, why);
	case '?':
	case ':':
		command->is_misused = true;
		/* optopt is 0 for a long one. */
		if (optopt)
			strbuf_append_format(
				why, letter == ':' ? "-%c needs an argument" : "unknown option -%c",
				optopt);
		else
			strbuf_append_string(why, "unknown option");
		return -EINVAL;
	default:
		return is_helper ? command_apply_helper(command, letter, why) :
				   command_apply(command, letter, why);
	}
}

static int command_take_operands(struct command *command, int count, char **operands,
				 struct strbuf *why)
{
	if (count > 0 && !strcmp(operands[0], "mount")) {
		count--;
		operands++;
	}
	if (count < 1 || count > 2) {
		command->is_misused = true;
		strbuf_append_string(why, count < 1 ? "no mount point was given" :
						      "more than a source and a mount point");
		return -EINVAL;
	}
	command->source = count == 2 ? operands[0] : NULL;
	command->mountpoint = operands[count - 1];
	return 0;
}

/* mount(8) calls /sbin/mount.TYPE. */
static bool command_is_helper(const char *name)
{
	return !strncmp(name, "mount.", 6);
}

static bool command_is_overlayfs(const char *name)
{
	return !strcmp(name, "fuse-overlayfs");
}

const struct tool *command_find_tool(int argc, char **argv)
{
	const char *name = command_basename(argc > 0 ? argv[0] : "");

	/* Those who call by these names have nothing but sources and mount points to say. */
	if (argc < 2 || command_is_helper(name) || command_is_overlayfs(name))
		return NULL;
	return tools_find(argv[1]);
}

int command_parse(struct command *command, int argc, char **argv, struct strbuf *why)
{
	const char *name = command_basename(argc > 0 ? argv[0] : "");
	bool is_helper = command_is_helper(name);
	/* ':' first: a missing argument is told apart, and getopt prints nothing. */
	const char *letters = is_helper ? ":o:vrwsfnt:N:" : ":o:vrwfdhV";
	int letter, r;

	*command = (struct command){ .verb = COMMAND_MOUNT, .status_fd = -1 };
	options_init(&command->options);
	command->options.lenient = command_is_overlayfs(name);
	while ((letter = getopt_long(argc, argv, letters, command_long, NULL)) != -1) {
		r = command_take(command, letter, is_helper, why);
		if (r < 0 && !optopt && letter == '?')
			strbuf_append_format(why, " %s", argv[optind - 1]);
		if (r < 0)
			return r;
	}
	if (command->verb != COMMAND_MOUNT && command->verb != COMMAND_FAKE)
		return 0;
	r = command_take_operands(command, argc - optind, argv + optind, why);
	return r < 0 ? r : options_check(&command->options, why);
}
