/* SPDX-License-Identifier: MIT */
/*
 * bench-ops [--count N] [--first N] [--size BYTES] [--jobs N] OPERATION PATH
 *
 * Does an operation N times and says in JSON how long one took (the median) and
 * how long all took. With --jobs N that many processes do it at once, each to
 * files of its own, and only the time until the last has ended is known.
 */
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ops.h"
#include "samples.h"

static const struct ops_kind *const ops_tables[] = { tree_kinds, data_kinds, listing_kinds };

uint64_t ops_random(uint64_t *state)
{
	/* Knuth's constants; the low bits are the poor ones. */
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 24;
}

void ops_fill(void *buffer, long size, uint64_t seed)
{
	uint64_t word, state = seed + 1;

	for (long i = 0; i < size; i += (long)sizeof(word)) {
		word = ops_random(&state) * 0x9e3779b97f4a7c15ULL;
		memcpy((char *)buffer + i, &word,
		       size - i < (long)sizeof(word) ? (size_t)(size - i) : sizeof(word));
	}
}

static const struct ops_kind *ops_find(const char *name)
{
	for (size_t i = 0; i < sizeof(ops_tables) / sizeof(*ops_tables); i++)
		for (const struct ops_kind *kind = ops_tables[i]; kind->name; kind++)
			if (!strcmp(kind->name, name))
				return kind;
	return NULL;
}

static void ops_usage(FILE *file)
{
	fputs("usage: bench-ops [--count N] [--first N] [--size BYTES] [--jobs N] OPERATION PATH\n",
	      file);
	for (size_t i = 0; i < sizeof(ops_tables) / sizeof(*ops_tables); i++)
		for (const struct ops_kind *kind = ops_tables[i]; kind->name; kind++)
			fprintf(file, "  %-14s %s\n", kind->name, kind->what);
}

static long ops_number(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (end == text || *end || number < 0)
		errx(2, "not a number: %s", text);
	return number;
}

static void ops_alone(const struct ops_kind *kind, const struct ops_args *args)
{
	struct samples samples = { 0 };
	uint64_t total_ns = samples_now_ns();

	kind->run(args, &samples);
	total_ns = samples_now_ns() - total_ns;
	printf("{\"median_ns\": %" PRIu64 ", \"total_ns\": %" PRIu64 ", \"samples\": %ld}\n",
	       samples_median_ns(&samples), total_ns, samples.used);
	samples_deinit(&samples);
}

/* Waits for the others to be there as well: for the end of a pipe that nobody writes to. */
static void ops_job(const struct ops_kind *kind, struct ops_args args, long job, int gate)
{
	struct samples samples = { 0 };
	char byte;

	args.first += job * args.count;
	if (read(gate, &byte, 1) < 0)
		err(1, "pipe");
	kind->run(&args, &samples);
	_exit(0);
}

static void ops_together(const struct ops_kind *kind, const struct ops_args *args, long jobs)
{
	int gate[2], status;
	uint64_t total_ns;
	pid_t pid;

	if (pipe(gate) < 0)
		err(1, "pipe");
	for (long job = 0; job < jobs; job++) {
		pid = fork();
		if (pid < 0)
			err(1, "fork");
		if (!pid) {
			close(gate[1]);
			ops_job(kind, *args, job, gate[0]);
		}
	}
	total_ns = samples_now_ns();
	close(gate[1]);
	for (long job = 0; job < jobs; job++)
		if (wait(&status) < 0 || status)
			errx(1, "%s: a process failed", kind->name);
	total_ns = samples_now_ns() - total_ns;
	close(gate[0]);
	printf("{\"total_ns\": %" PRIu64 ", \"jobs\": %ld}\n", total_ns, jobs);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "count", required_argument, NULL, 'n' },
		{ "first", required_argument, NULL, 'f' },
		{ "size", required_argument, NULL, 's' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct ops_args args = { .count = 1, .size = 4096 };
	const struct ops_kind *kind;
	long jobs = 0;
	int option;

	while ((option = getopt_long(argc, argv, "n:f:s:j:h", options, NULL)) >= 0) {
		if (option == 'h')
			return ops_usage(stdout), 0;
		if (option == '?')
			return ops_usage(stderr), 2;
		if (option == 'n')
			args.count = ops_number(optarg);
		else if (option == 'f')
			args.first = ops_number(optarg);
		else if (option == 's')
			args.size = ops_number(optarg);
		else
			jobs = ops_number(optarg);
	}
	kind = argc - optind == 2 ? ops_find(argv[optind]) : NULL;
	if (!kind)
		return ops_usage(stderr), 2;
	args.path = argv[optind + 1];
	if (jobs)
		ops_together(kind, &args, jobs);
	else
		ops_alone(kind, &args);
	return 0;
}
