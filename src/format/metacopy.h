/* SPDX-License-Identifier: MIT */
/* The metacopy attribute: a file that holds metadata only, with the digest of its data. */
#ifndef VENEER_FORMAT_METACOPY_H
#define VENEER_FORMAT_METACOPY_H

#include <stddef.h>
#include <stdint.h>

#define METACOPY_DIGEST_MAX 64
#define METACOPY_SIZE_MAX (4 + METACOPY_DIGEST_MAX)

struct metacopy {
	uint8_t digest_algorithm; /* FS_VERITY_HASH_ALG_*; 0: no digest */
	uint8_t digest_size;
	uint8_t digest[METACOPY_DIGEST_MAX];
};

/* Parses the attribute (empty: no digest). Returns 0 or -EIO, as the kernel does. */
int metacopy_decode(const void *data, size_t size, struct metacopy *metacopy);
/* Bytes of the attribute; 0 bytes when there is no digest. */
size_t metacopy_encode(const struct metacopy *metacopy, uint8_t out[METACOPY_SIZE_MAX]);

#endif
