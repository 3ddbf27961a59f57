/* SPDX-License-Identifier: MIT */
#include "tools/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tools/human.h"

#define PROGRESS_SECOND UINT64_C(1000000000)
#define PROGRESS_PAUSE (PROGRESS_SECOND / 5)

static uint64_t progress_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * PROGRESS_SECOND + (uint64_t)now.tv_nsec;
}

void progress_begin(struct progress *progress, const char *what, uint64_t total)
{
	uint64_t now = progress_now();

	*progress = (struct progress){
		.what = what,
		.total = total,
		.start_ns = now,
		.next_ns = now + PROGRESS_SECOND,
		.is_wanted = isatty(STDERR_FILENO),
	};
}

/* The share that is done and the time the rest takes at the rate so far. */
static void progress_print_rest(const struct progress *progress, uint64_t elapsed_ns)
{
	char text[HUMAN_MAX];
	double share = (double)progress->done / (double)progress->total;

	if (share > 1)
		share = 1;
	fprintf(stderr, " of %s, %.0f %%", human_size(progress->total, text), 100 * share);
	if (progress->done == 0)
		return;
	double left = (double)elapsed_ns * (1 - share) / share / (double)PROGRESS_SECOND;

	fprintf(stderr, ", %s left", human_duration((uint64_t)(left + 0.5), text));
}

static void progress_show(struct progress *progress, uint64_t now)
{
	char text[HUMAN_MAX];
	uint64_t elapsed_ns = now - progress->start_ns;
	double rate = (double)progress->done * (double)PROGRESS_SECOND / (double)elapsed_ns;

	fprintf(stderr, "\r%s: %s", progress->what, human_size(progress->done, text));
	if (progress->total > 0)
		progress_print_rest(progress, elapsed_ns);
	fprintf(stderr, ", %s/s\033[K", human_size((uint64_t)rate, text));
	fflush(stderr);
	progress->is_shown = true;
}

void progress_add(struct progress *progress, uint64_t bytes)
{
	progress->done += bytes;
	if (!progress->is_wanted)
		return;
	uint64_t now = progress_now();

	if (now < progress->next_ns)
		return;
	progress->next_ns = now + PROGRESS_PAUSE;
	progress_show(progress, now);
}

void progress_end(struct progress *progress)
{
	if (!progress->is_shown)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->is_shown = false;
}
