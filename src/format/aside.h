/* SPDX-License-Identifier: MIT */
/*
 * The veneer.aside attribute: what an object had before work on it began that
 * changes it by the way (docs/format.md "Aside").
 */
#ifndef VENEER_FORMAT_ASIDE_H
#define VENEER_FORMAT_ASIDE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define ASIDE_CAPABILITY_MAX 64
#define ASIDE_SIZE_MAX (32 + ASIDE_CAPABILITY_MAX)

struct aside {
	mode_t mode; /* permission and set-id bits */
	struct timespec atime, mtime;
	size_t capability_size; /* 0: it has no security.capability */
	uint8_t capability[ASIDE_CAPABILITY_MAX];
};

/* 0, or -EIO: not of this version, or damaged. */
int aside_decode(const uint8_t *value, size_t size, struct aside *aside);
/* Returns the bytes of the attribute. */
size_t aside_encode(const struct aside *aside, uint8_t out[ASIDE_SIZE_MAX]);

#endif
