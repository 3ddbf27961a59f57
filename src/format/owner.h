/* SPDX-License-Identifier: MIT */
/*
 * The veneer.owner attribute: an object of an upper belongs to someone else than
 * the owner it has on disk (docs/format.md "Owners").
 */
#ifndef VENEER_FORMAT_OWNER_H
#define VENEER_FORMAT_OWNER_H

#include <stddef.h>

enum owner_mark {
	OWNER_FOREIGN_UID = 1 << 0, /* its user is the lower object's */
	OWNER_FOREIGN_GID = 1 << 1, /* its group is */
	OWNER_MAY_WRITE = 1 << 2, /* but the user of the layer might write it */
	OWNER_MAY_READ = 1 << 3, /* or read it as the group does */
};

#define OWNER_SIZE_MAX 8

/* The letters of @marks into @value; their number. */
size_t owner_encode(unsigned int marks, char value[OWNER_SIZE_MAX]);
/* Letters that are not known mean nothing. */
unsigned int owner_decode(const char *value, size_t size);

#endif
