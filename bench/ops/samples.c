/* SPDX-License-Identifier: MIT */
#include "samples.h"

#include <err.h>
#include <stdlib.h>
#include <time.h>

uint64_t samples_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void samples_deinit(struct samples *samples)
{
	free(samples->taken_ns);
	*samples = (struct samples){ 0 };
}

void samples_start(struct samples *samples)
{
	if (samples->used == samples->room) {
		samples->room = samples->room ? samples->room * 2 : 4096;
		samples->taken_ns = reallocarray(samples->taken_ns, (size_t)samples->room,
						 sizeof(*samples->taken_ns));
		if (!samples->taken_ns)
			err(1, "samples");
	}
	samples->started_ns = samples_now_ns();
}

void samples_stop(struct samples *samples)
{
	samples->taken_ns[samples->used++] = samples_now_ns() - samples->started_ns;
}

static int samples_compare(const void *a, const void *b)
{
	const uint64_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

uint64_t samples_median_ns(struct samples *samples)
{
	if (!samples->used)
		return 0;
	qsort(samples->taken_ns, (size_t)samples->used, sizeof(*samples->taken_ns),
	      samples_compare);
	return samples->taken_ns[samples->used / 2];
}
