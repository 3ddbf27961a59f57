/* SPDX-License-Identifier: MIT */
/* How long each of many operations took. */
#pragma once

#include <stdint.h>

struct samples {
	uint64_t *taken_ns;
	long used;
	long room;
	/* When the operation began that is being timed. */
	uint64_t started_ns;
};

uint64_t samples_now_ns(void);
void samples_deinit(struct samples *samples);

/* One operation is between these two; start() makes room, so that stop() takes no time. */
void samples_start(struct samples *samples);
void samples_stop(struct samples *samples);

/* Sorts what there is; 0 if that is nothing. */
uint64_t samples_median_ns(struct samples *samples);
