/* SPDX-License-Identifier: MIT */
#include "format/origin.h"

#include <endian.h>
#include <linux/magic.h>
#include <string.h>

#define ORIGIN_VERSION 0
#define ORIGIN_MAGIC 0xfb
#define ORIGIN_FLAG_BIG_ENDIAN 1u
#define ORIGIN_FLAG_ANY_ENDIAN 2u
#define ORIGIN_FLAG_PATH_UPPER 4u
#define ORIGIN_FLAG_ALL (ORIGIN_FLAG_BIG_ENDIAN | ORIGIN_FLAG_ANY_ENDIAN | ORIGIN_FLAG_PATH_UPPER)

/* The handle is a file system's own, in the byte order of the machine that wrote it. */
#define ORIGIN_FLAG_CPU_ENDIAN (__BYTE_ORDER == __BIG_ENDIAN ? ORIGIN_FLAG_BIG_ENDIAN : 0u)

/* struct ovl_fb: single bytes, so no padding. */
struct origin_disk {
	uint8_t version;
	uint8_t magic;
	uint8_t length; /* of the whole */
	uint8_t flags;
	uint8_t type;
	uint8_t uuid[16];
	uint8_t fid[ORIGIN_FID_MAX];
};
_Static_assert(sizeof(struct origin_disk) == ORIGIN_SIZE_MAX, "on-disk format");
_Static_assert(ORIGIN_SIZE_MAX <= UINT8_MAX, "the length is one byte");
#define ORIGIN_HEADER_SIZE offsetof(struct origin_disk, fid)

size_t origin_encode(const struct origin *origin, uint8_t out[ORIGIN_SIZE_MAX])
{
	struct origin_disk disk = {
		.version = ORIGIN_VERSION,
		.magic = ORIGIN_MAGIC,
		.length = (uint8_t)(ORIGIN_HEADER_SIZE + origin->fid_size),
		.flags = ORIGIN_FLAG_CPU_ENDIAN | (origin->is_upper ? ORIGIN_FLAG_PATH_UPPER : 0),
		.type = origin->type,
	};

	if (origin->fid_size > ORIGIN_FID_MAX)
		return 0;
	memcpy(disk.uuid, origin->uuid, sizeof(disk.uuid));
	memcpy(disk.fid, origin->fid, origin->fid_size);
	memcpy(out, &disk, disk.length);
	return disk.length;
}

/* Kernel ovl_check_fb_len(), which lets bytes after the structure pass, and so does this. */
static enum origin_kind origin_check(const struct origin_disk *disk, size_t size)
{
	if (size < ORIGIN_HEADER_SIZE || disk->magic != ORIGIN_MAGIC || disk->length > size)
		return ORIGIN_INVALID;
	if (disk->version > ORIGIN_VERSION || (disk->flags & ~ORIGIN_FLAG_ALL))
		return ORIGIN_UNKNOWN;
	if (!(disk->flags & ORIGIN_FLAG_ANY_ENDIAN) &&
	    (disk->flags & ORIGIN_FLAG_BIG_ENDIAN) != ORIGIN_FLAG_CPU_ENDIAN)
		return ORIGIN_UNKNOWN;
	if (disk->length < ORIGIN_HEADER_SIZE || disk->length > sizeof(*disk))
		return ORIGIN_INVALID;
	return ORIGIN_VALID;
}

enum origin_kind origin_decode(const void *data, size_t size, struct origin *origin)
{
	struct origin_disk disk = { 0 };
	enum origin_kind kind;

	if (size == 0)
		return ORIGIN_UNKNOWN;
	memcpy(&disk, data, size < sizeof(disk) ? size : sizeof(disk));
	kind = origin_check(&disk, size);
	if (kind != ORIGIN_VALID)
		return kind;
	*origin = (struct origin){
		.is_upper = disk.flags & ORIGIN_FLAG_PATH_UPPER,
		.type = disk.type,
		.fid_size = (uint8_t)(disk.length - ORIGIN_HEADER_SIZE),
	};
	memcpy(origin->uuid, disk.uuid, sizeof(origin->uuid));
	memcpy(origin->fid, disk.fid, origin->fid_size);
	return ORIGIN_VALID;
}

bool origin_is_equal(const struct origin *a, const struct origin *b)
{
	return a->is_upper == b->is_upper && a->type == b->type && a->fid_size == b->fid_size &&
	       memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0 &&
	       memcmp(a->fid, b->fid, a->fid_size) == 0;
}

size_t origin_index_name(const struct origin *origin, char out[ORIGIN_INDEX_NAME_MAX + 1])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t bytes[ORIGIN_SIZE_MAX];
	size_t size = origin_encode(origin, bytes);

	/* 255 is the longest name there is: a handle that long cannot be indexed. */
	if (2 * size > 255)
		return 0;
	for (size_t i = 0; i < size; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * size] = '\0';
	return 2 * size;
}

/* Value of a lowercase hexadecimal digit, or -1. */
static int origin_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool origin_from_index_name(const char *name, struct origin *origin)
{
	size_t length = strlen(name);
	uint8_t bytes[ORIGIN_SIZE_MAX];

	if (length % 2 != 0 || length / 2 > sizeof(bytes) || length / 2 < ORIGIN_HEADER_SIZE)
		return false;
	for (size_t i = 0; i < length / 2; i++) {
		int high = origin_hex_digit(name[2 * i]);
		int low = origin_hex_digit(name[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	/* Bytes after the structure would make two names of one origin. */
	if (bytes[offsetof(struct origin_disk, length)] != length / 2)
		return false;
	return origin_decode(bytes, length / 2, origin) == ORIGIN_VALID;
}

/* Types of file ids (linux/exportfs.h enum fid_type). */
#define FID_INO32_GEN 0x01
#define FID_BTRFS 0x4d
#define FID_XFS_INO64_GEN 0x81

/* In this machine's byte order: others are ORIGIN_UNKNOWN. */
static uint32_t fid_u32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static uint64_t fid_u64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

bool origin_inode(const struct origin *origin, long magic, uint64_t *ino)
{
	const uint8_t *fid = origin->fid;
	const uint8_t size = origin->fid_size;

	switch (magic) {
	case EXT4_SUPER_MAGIC:
	case SQUASHFS_MAGIC:
		if (origin->type != FID_INO32_GEN || size != 8)
			return false;
		*ino = fid_u32(fid);
		return true;
	case TMPFS_MAGIC: /* generation, low and high half of the number */
		if (origin->type != FID_INO32_GEN || size != 12)
			return false;
		*ino = fid_u32(fid + 4) | (uint64_t)fid_u32(fid + 8) << 32;
		return true;
	case XFS_SUPER_MAGIC:
		if (origin->type != FID_XFS_INO64_GEN || size != 12)
			return false;
		*ino = fid_u64(fid);
		return true;
	case BTRFS_SUPER_MAGIC:
		if (origin->type != FID_BTRFS || size < 20)
			return false;
		*ino = fid_u64(fid);
		return true;
	default:
		return false;
	}
}
