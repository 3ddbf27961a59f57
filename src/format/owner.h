/* SPDX-License-Identifier: MIT */
/*
 * The veneer.owner attribute: an object of an upper belongs to someone else than
 * the owner it has on disk (docs/format.md "Owners").
 */
#ifndef VENEER_FORMAT_OWNER_H
#define VENEER_FORMAT_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum owner_mark {
	OWNER_FOREIGN_UID = 1 << 0, /* its user is the lower object's */
	OWNER_FOREIGN_GID = 1 << 1, /* its group is */
	OWNER_MAY_WRITE = 1 << 2, /* but the user of the layer might write it */
	OWNER_MAY_READ = 1 << 3, /* or read it as the group does */
};

/* Letters, "=", two numbers and a colon. */
#define OWNER_SIZE_MAX 32

struct owner {
	unsigned int marks; /* OWNER_* */
	bool has_ids; /* the lower object's owner is known by its numbers: */
	uint32_t uid, gid; /* in the initial user namespace */
};

/* Into @value, without a NUL; the size. */
size_t owner_encode(const struct owner *owner, char value[OWNER_SIZE_MAX]);
/* Letters that are not known mean nothing, and numbers that are none are none. */
void owner_decode(const char *value, size_t size, struct owner *owner);

#endif
