/* SPDX-License-Identifier: MIT */
/*
 * Writing a tar archive (pax), entry by entry: a thin cover over libarchive.
 *
 * What is written depends on what is given here alone: not on the time, the
 * user, the locale or the names of users on this machine.
 */
#ifndef VENEER_TOOLS_TARWRITE_H
#define VENEER_TOOLS_TARWRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct tarwrite;

enum tarwrite_compression {
	TARWRITE_PLAIN,
	TARWRITE_GZIP,
	TARWRITE_ZSTD,
};

/* What an entry is; paths are relative, without a slash at the end. */
struct tarwrite_entry {
	const char *path;
	const char *link; /* of a symbolic or a hard link: where it leads; else NULL */
	bool is_hardlink; /* nothing below counts then */
	mode_t mode; /* with its file type; no socket */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	uint64_t size; /* of a regular file */
	struct timespec mtime;
};

/*
 * Writes to @fd, which stays the caller's, from its position on. NULL: out of memory, or libarchive
 * was built without this compression.
 */
struct tarwrite *tarwrite_new(int fd, enum tarwrite_compression compression);
/* Without tarwrite_finish() what was written is no archive. Returns NULL. */
struct tarwrite *tarwrite_free(struct tarwrite *tar);

/*
 * An entry: tarwrite_begin(), then its attributes and pieces of data in any number, then
 * tarwrite_header(), then its data. All return 0 or -errno; tarwrite_reason() says why.
 */
void tarwrite_begin(struct tarwrite *tar, const struct tarwrite_entry *entry);
void tarwrite_xattr(struct tarwrite *tar, const char *key, const void *value, size_t size);
/* There is data in @size bytes at @offset, ascending. Without any piece all of the file is data. */
void tarwrite_piece(struct tarwrite *tar, uint64_t offset, uint64_t size);
int tarwrite_header(struct tarwrite *tar);
/* The bytes that follow; those of a hole are given as well, but not looked at. */
int tarwrite_data(struct tarwrite *tar, const void *data, size_t size);

/* Writes the end of the archive. */
int tarwrite_finish(struct tarwrite *tar);
const char *tarwrite_reason(const struct tarwrite *tar);
/* How many bytes were written, compressed and not. */
uint64_t tarwrite_size(const struct tarwrite *tar);
uint64_t tarwrite_plain_size(const struct tarwrite *tar);

#endif
