/* SPDX-License-Identifier: MIT */
#include "format/metacopy.h"

#include <errno.h>
#include <string.h>

/* struct ovl_metacopy: single bytes, so no byte order and no padding. */
struct metacopy_disk {
	uint8_t version;
	uint8_t length; /* of the whole */
	uint8_t flags;
	uint8_t digest_algorithm;
	uint8_t digest[METACOPY_DIGEST_MAX];
};
_Static_assert(sizeof(struct metacopy_disk) == METACOPY_SIZE_MAX, "on-disk format");
#define METACOPY_HEADER_SIZE offsetof(struct metacopy_disk, digest)

int metacopy_decode(const void *data, size_t size, struct metacopy *metacopy)
{
	struct metacopy_disk disk = { .length = METACOPY_HEADER_SIZE };

	if (size > sizeof(disk))
		return -EIO;
	if (size > 0) {
		if (size < METACOPY_HEADER_SIZE)
			return -EIO;
		memcpy(&disk, data, size);
		if (disk.version != 0 || disk.flags != 0 || disk.length != size)
			return -EIO;
	}
	*metacopy = (struct metacopy){
		.digest_algorithm = disk.digest_algorithm,
		.digest_size = (uint8_t)(disk.length - METACOPY_HEADER_SIZE),
	};
	memcpy(metacopy->digest, disk.digest, metacopy->digest_size);
	return 0;
}

size_t metacopy_encode(const struct metacopy *metacopy, uint8_t out[METACOPY_SIZE_MAX])
{
	struct metacopy_disk disk = {
		.length = (uint8_t)(METACOPY_HEADER_SIZE + metacopy->digest_size),
		.digest_algorithm = metacopy->digest_algorithm,
	};

	if (metacopy->digest_algorithm == 0 && metacopy->digest_size == 0)
		return 0;
	if (metacopy->digest_size > METACOPY_DIGEST_MAX)
		return 0;
	memcpy(disk.digest, metacopy->digest, metacopy->digest_size);
	memcpy(out, &disk, disk.length);
	return disk.length;
}
