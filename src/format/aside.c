/* SPDX-License-Identifier: MIT */
#include "format/aside.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define ASIDE_VERSION 1
#define ASIDE_HEAD 32

struct aside_stamp_raw {
	uint8_t sec[8], nsec[4];
};

struct aside_raw {
	uint8_t version, zeros[3], mode[4];
	struct aside_stamp_raw atime, mtime;
};

_Static_assert(sizeof(struct aside_raw) == ASIDE_HEAD, "format");

static int aside_get(const struct aside_stamp_raw *raw, struct timespec *stamp)
{
	uint64_t sec;
	uint32_t nsec;

	memcpy(&sec, raw->sec, sizeof(sec));
	memcpy(&nsec, raw->nsec, sizeof(nsec));
	stamp->tv_sec = (time_t)le64toh(sec);
	stamp->tv_nsec = le32toh(nsec);
	return stamp->tv_nsec < 1000000000 ? 0 : -EIO;
}

static void aside_put(const struct timespec *stamp, struct aside_stamp_raw *raw)
{
	uint64_t sec = htole64((uint64_t)stamp->tv_sec);
	uint32_t nsec = htole32((uint32_t)stamp->tv_nsec);

	memcpy(raw->sec, &sec, sizeof(sec));
	memcpy(raw->nsec, &nsec, sizeof(nsec));
}

int aside_decode(const uint8_t *value, size_t size, struct aside *aside)
{
	struct aside_raw raw;
	uint32_t mode;

	if (size < sizeof(raw) || size > ASIDE_SIZE_MAX || value[0] != ASIDE_VERSION)
		return -EIO;
	memcpy(&raw, value, sizeof(raw));
	memcpy(&mode, raw.mode, sizeof(mode));
	aside->mode = le32toh(mode) & 07777;
	aside->capability_size = size - sizeof(raw);
	memcpy(aside->capability, value + sizeof(raw), aside->capability_size);
	return aside_get(&raw.atime, &aside->atime) < 0 ? -EIO :
							  aside_get(&raw.mtime, &aside->mtime);
}

size_t aside_encode(const struct aside *aside, uint8_t out[ASIDE_SIZE_MAX])
{
	struct aside_raw raw = { .version = ASIDE_VERSION };
	uint32_t mode = htole32(aside->mode & 07777);

	memcpy(raw.mode, &mode, sizeof(mode));
	aside_put(&aside->atime, &raw.atime);
	aside_put(&aside->mtime, &raw.mtime);
	memcpy(out, &raw, sizeof(raw));
	memcpy(out + sizeof(raw), aside->capability, aside->capability_size);
	return sizeof(raw) + aside->capability_size;
}
