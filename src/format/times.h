/* SPDX-License-Identifier: MIT */
/*
 * The veneer.times attribute: times an object of the upper had before it was
 * copied there, which no system call can set (docs/format.md "Times").
 */
#ifndef VENEER_FORMAT_TIMES_H
#define VENEER_FORMAT_TIMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define TIMES_SIZE 40

struct times {
	bool has_birth, has_change;
	struct timespec birth;
	struct timespec change; /* counts unless the real change time is later than @until */
	struct timespec until;
};

/* 0, or -EIO: not of this version, or damaged. */
int times_decode(const uint8_t *value, size_t size, struct times *times);
void times_encode(const struct times *times, uint8_t out[TIMES_SIZE]);

#endif
