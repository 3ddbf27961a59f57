/* SPDX-License-Identifier: MIT */
/*
 * struct ovl_fb, the value of the `origin` and `upper` attributes and, in
 * hexadecimal, the name of an index entry (docs/format.md "Origin").
 */
#ifndef VENEER_FORMAT_ORIGIN_H
#define VENEER_FORMAT_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORIGIN_FID_MAX 128
#define ORIGIN_SIZE_MAX (21 + ORIGIN_FID_MAX)
#define ORIGIN_INDEX_NAME_MAX (2 * ORIGIN_SIZE_MAX)

struct origin {
	bool is_upper; /* PATH_UPPER: handle of an upper directory */
	uint8_t type; /* exportfs fid type */
	uint8_t uuid[16]; /* of the file system; zeros with uuid=off */
	uint8_t fid_size;
	uint8_t fid[ORIGIN_FID_MAX];
};

/* Bytes of the attribute; returns their number (0 if @origin cannot be encoded). */
size_t origin_encode(const struct origin *origin, uint8_t out[ORIGIN_SIZE_MAX]);

enum origin_kind {
	ORIGIN_VALID,
	ORIGIN_UNKNOWN, /* empty, a newer version, foreign endianness, unknown flags: no identity */
	ORIGIN_INVALID, /* damaged */
};
enum origin_kind origin_decode(const void *data, size_t size, struct origin *origin);

bool origin_is_equal(const struct origin *a, const struct origin *b);

/*
 * The inode number inside the file id, where the layout of file system @magic (f_type) is known
 * (ext2/3/4, tmpfs, xfs, btrfs, squashfs): what an unprivileged reader, who may not open handles,
 * goes by. False: not known.
 */
bool origin_inode(const struct origin *origin, long magic, uint64_t *ino);

/* Name in the index directory, lowercase hex of the encoding; returns its length, 0 on failure. */
size_t origin_index_name(const struct origin *origin, char out[ORIGIN_INDEX_NAME_MAX + 1]);
/* Parses an index name; false if it is none. */
bool origin_from_index_name(const char *name, struct origin *origin);

#endif
