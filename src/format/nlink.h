/* SPDX-License-Identifier: MIT */
/* The nlink attribute of an index inode: the union's link count relative to a real one. */
#ifndef VENEER_FORMAT_NLINK_H
#define VENEER_FORMAT_NLINK_H

#include <stdbool.h>
#include <stddef.h>

#define NLINK_SIZE_MAX 16

struct nlink {
	bool of_upper; /* 'U': relative to the upper inode's count; 'L': to the lower's */
	int delta;
};

/* "U+1", "L-2", ...; returns 0 or -EIO. */
int nlink_decode(const char *value, size_t size, struct nlink *nlink);
size_t nlink_encode(const struct nlink *nlink, char out[NLINK_SIZE_MAX]);

#endif
