/* SPDX-License-Identifier: MIT */
#include "tools/status.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"

#define STATUS_EXIT_USAGE 2
#define STATUS_INTERVAL_S 1

static const struct option status_long[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "json", no_argument, NULL, 'j' },
	{ "watch", no_argument, NULL, 'w' },
	{ 0 },
};

static const char status_usage[] = "usage: veneer status [--json] [--watch] [MOUNT...]\n";

static void status_print_help(void)
{
	fputs(status_usage, stdout);
	puts("\n"
	     "Shows what live mounts are made of and do: layers, options in force, requests with\n"
	     "their latency, copy-ups in progress, caches. MOUNT is any path in a mount of veneer;\n"
	     "without one all mounts of this user are shown.\n"
	     "\n"
	     "  -j, --json      print JSON, as docs/status.md describes it\n"
	     "  -w, --watch     look again every second, until interrupted\n"
	     "  -h, --help      print this\n"
	     "\n"
	     "Exit status: 0 if every mount was shown, 1 if one could not be or there is none,\n"
	     "2 if the command line was not understood.");
}

static int status_misused(void)
{
	fputs(status_usage, stderr);
	fputs("'veneer status --help' says more.\n", stderr);
	return STATUS_EXIT_USAGE;
}

/* Looks until interrupted; the screen shows the last look alone. */
static int status_watch(const struct status_look *look)
{
	const struct timespec pause = { .tv_sec = STATUS_INTERVAL_S };

	do {
		status_show(look);
		nanosleep(&pause, NULL);
	} while (!ferror(stdout));
	return EXIT_FAILURE;
}

int status_run(int argc, char **argv)
{
	struct status_look look = { 0 };
	bool was_shown;
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, "hjw", status_long, NULL)) != -1) {
		switch (letter) {
		case 'h':
			status_print_help();
			return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
		case 'j':
			look.as_json = true;
			break;
		case 'w':
			look.is_watching = true;
			break;
		default:
			log_error("unknown option %s", argv[optind - 1]);
			return status_misused();
		}
	}
	look.paths = argv + optind;
	look.path_count = argc - optind;
	if (look.is_watching)
		return status_watch(&look);
	was_shown = status_show(&look);
	return fflush(stdout) == 0 && was_shown ? EXIT_SUCCESS : EXIT_FAILURE;
}
