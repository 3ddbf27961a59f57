/* SPDX-License-Identifier: MIT */
#include "format/times.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define TIMES_VERSION 1
#define TIMES_HAS_BIRTH 1u
#define TIMES_HAS_CHANGE 2u

/* On disk; all little-endian. */
struct times_stamp_raw {
	uint8_t sec[8], nsec[4];
};

struct times_raw {
	uint8_t version, has, zero[2];
	struct times_stamp_raw birth, change, until;
};

_Static_assert(sizeof(struct times_raw) == TIMES_SIZE, "format");

static bool times_get(const struct times_stamp_raw *raw, struct timespec *stamp)
{
	uint64_t sec;
	uint32_t nsec;

	memcpy(&sec, raw->sec, sizeof(sec));
	memcpy(&nsec, raw->nsec, sizeof(nsec));
	stamp->tv_sec = (time_t)le64toh(sec);
	stamp->tv_nsec = le32toh(nsec);
	return stamp->tv_nsec < 1000000000;
}

static void times_put(const struct timespec *stamp, struct times_stamp_raw *raw)
{
	uint64_t sec = htole64((uint64_t)stamp->tv_sec);
	uint32_t nsec = htole32((uint32_t)stamp->tv_nsec);

	memcpy(raw->sec, &sec, sizeof(sec));
	memcpy(raw->nsec, &nsec, sizeof(nsec));
}

int times_decode(const uint8_t *value, size_t size, struct times *times)
{
	struct times_raw raw;

	if (size != sizeof(raw))
		return -EIO;
	memcpy(&raw, value, sizeof(raw));
	if (raw.version != TIMES_VERSION || raw.has & ~(TIMES_HAS_BIRTH | TIMES_HAS_CHANGE))
		return -EIO;
	struct times decoded = {
		.has_birth = raw.has & TIMES_HAS_BIRTH,
		.has_change = raw.has & TIMES_HAS_CHANGE,
	};

	if (!times_get(&raw.birth, &decoded.birth) || !times_get(&raw.change, &decoded.change) ||
	    !times_get(&raw.until, &decoded.until))
		return -EIO;
	*times = decoded;
	return 0;
}

void times_encode(const struct times *times, uint8_t out[TIMES_SIZE])
{
	struct times_raw raw = {
		.version = TIMES_VERSION,
		.has = (times->has_birth ? TIMES_HAS_BIRTH : 0) |
		       (times->has_change ? TIMES_HAS_CHANGE : 0),
	};

	if (times->has_birth)
		times_put(&times->birth, &raw.birth);
	if (times->has_change) {
		times_put(&times->change, &raw.change);
		times_put(&times->until, &raw.until);
	}
	memcpy(out, &raw, sizeof(raw));
}
