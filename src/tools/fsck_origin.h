/* SPDX-License-Identifier: MIT */
/* Origins: is there what an object of the layer says that it was copied from? */
#ifndef VENEER_TOOLS_FSCK_ORIGIN_H
#define VENEER_TOOLS_FSCK_ORIGIN_H

#include "format/origin.h"
#include "tools/fsck_object.h"

enum fsck_origin {
	FSCK_ORIGIN_GOOD, /* or nothing speaks against it */
	FSCK_ORIGIN_ELSEWHERE, /* on a file system that no lower is on */
	FSCK_ORIGIN_GONE, /* it does not exist any more, or what has its number is of another type */
};

/*
 * Judges @origin of an object of type @mode. *@fd (may be NULL): an O_PATH descriptor of the lower
 * object, the caller's, or -1 if it cannot be had.
 */
enum fsck_origin fsck_origin_judge(const struct fsck *fsck, const struct origin *origin,
				   mode_t mode, int *fd);
/* The origin by attribute; false: there is none, or it is not known. */
bool fsck_origin_read(const struct fsck_object *object, struct origin *origin);
/*
 * Checks the attribute of an object of the upper. True if what holds it must be marked impure: it
 * has an origin.
 */
bool fsck_origin_check(struct fsck_object *object);
/*
 * True if another file has this origin: kernel overlayfs shows one of the two only. Names of one file
 * are no others.
 */
bool fsck_origin_is_doubled(struct fsck_object *object, const void *value, size_t size);
/* The root's: which lower the layer was made over. */
void fsck_origin_check_root(struct fsck_object *root);
/* Identity of the open directory or file @fd on the file system with this UUID. */
bool fsck_origin_of(int fd, const uint8_t uuid[16], struct origin *origin);

/* True if the two are of one object, whether or not UUIDs were in use for @a, which takes @b's then. */
bool fsck_origin_is_same(struct origin *a, const struct origin *b);

#endif
