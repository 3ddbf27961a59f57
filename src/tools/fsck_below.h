/* SPDX-License-Identifier: MIT */
/*
 * What the lowers show of a place in the layer: they are looked at as a union of
 * their own, so redirects, whiteouts and opaque directories of layers in between
 * count as they do in a mount.
 */
#ifndef VENEER_TOOLS_FSCK_BELOW_H
#define VENEER_TOOLS_FSCK_BELOW_H

#include "tools/fsck_layer.h"

enum fsck_below_kind {
	FSCK_BELOW_NONE,
	FSCK_BELOW_DIR,
	FSCK_BELOW_REGULAR,
	FSCK_BELOW_OTHER,
	FSCK_BELOW_UNKNOWN, /* cannot be told: nothing may be concluded */
};

struct fsck_below {
	enum fsck_below_kind kind;
	int error; /* of UNKNOWN */
	uint64_t node, ino; /* of the union of the lowers; a reference is held */
};

#define FSCK_BELOW_INIT ((struct fsck_below){ 0 })

/* The root of the lowers. */
struct fsck_below fsck_below_root(struct fsck *fsck);
/* What the directory @parent of the lowers has under @name. Each to be put back. */
struct fsck_below fsck_below_lookup(struct fsck *fsck, const struct fsck_below *parent,
				    const char *name);
/* Where the valid @redirect leads of something that lies in @parent. */
struct fsck_below fsck_below_follow(struct fsck *fsck, const struct fsck_below *parent,
				    const char *redirect);
void fsck_below_put(struct fsck *fsck, struct fsck_below *below);
/* True if the data of the regular file can be read. */
bool fsck_below_has_data(struct fsck *fsck, const struct fsck_below *below);

#endif
