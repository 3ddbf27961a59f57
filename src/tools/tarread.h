/* SPDX-License-Identifier: MIT */
/*
 * Reading a tar archive, entry by entry: a thin cover over libarchive.
 *
 * What is found is checked as far as it can be without knowing what it is read
 * for: numbers fit their types, names are there and hold no NUL.  Names are the
 * bytes of the archive, in no character set; nothing is said about where they lead.
 */
#ifndef VENEER_TOOLS_TARREAD_H
#define VENEER_TOOLS_TARREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct tarread;

/* One entry. Strings are borrowed until the next tarread_next(). */
struct tarread_entry {
	const char *path;
	const char *link; /* of a symbolic or a hard link: where it leads; else NULL */
	bool is_hardlink; /* @mode says nothing then */
	mode_t mode; /* with its file type */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	uint64_t size; /* of a regular file */
	struct timespec mtime;
};

/*
 * Reads a tar archive, plain or compressed by gzip, zstd, xz or bzip2, from @fd, which stays the
 * caller's. NULL: out of memory.
 */
struct tarread *tarread_new(int fd);
/* Returns NULL. */
struct tarread *tarread_free(struct tarread *tar);

/*
 * The next entry. Returns 1, 0 after the last, or -errno: -EBADMSG (it is no tar archive, or
 * damaged, or ends too early), -ENOMEM, what reading it answered.
 */
int tarread_next(struct tarread *tar, struct tarread_entry *entry);
/* Why the last call failed, in words. */
const char *tarread_reason(const struct tarread *tar);

/*
 * A piece of the file's data, borrowed until the next call; what lies between pieces and after
 * the last is a hole. Returns 1, 0 after the last, or -errno as tarread_next().
 */
int tarread_data(struct tarread *tar, const void **data, size_t *size, uint64_t *offset);

/* Goes to the entry's first extended attribute. Access control lists are such, too. */
void tarread_xattr_rewind(struct tarread *tar);
/*
 * The next one; @key is the caller's array of XATTR_KEY_MAX + 1. Returns 1, 0 after the last, or
 * -EBADMSG: no attribute can be called so, or -ENOMEM.
 */
int tarread_xattr(struct tarread *tar, char *key, const void **value, size_t *size);

/* How many bytes of the archive were read, as they lie in the file. */
uint64_t tarread_done(const struct tarread *tar);

#endif
