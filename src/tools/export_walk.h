/* SPDX-License-Identifier: MIT */
/*
 * A layer written as the tar archive of an OCI image layer.
 *
 * The upper says which names there are, and which are gone; what lies under
 * them is read through the union, which knows where data and attributes are.  So what
 * is written needs no feature of overlayfs: a directory that was renamed is
 * written with all that is in it, and a metacopy file with its data.
 */
#ifndef VENEER_TOOLS_EXPORT_WALK_H
#define VENEER_TOOLS_EXPORT_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "offline/target.h"
#include "tools/tarwrite.h"

struct export_counts {
	uint64_t entries; /* of the archive */
	uint64_t whiteouts, opaque, hardlinks;
	uint64_t bytes; /* of file data, without holes */
	uint64_t sockets; /* left out */
};

struct export
{
	const struct target *target;
	struct tarwrite *tar;
	bool has_latest;
	int64_t latest; /* no time after this one is written; seconds since 1970 */
	bool (*is_interrupted)(void *context); /* asked often; may be NULL */
	void (*progress)(void *context, uint64_t bytes); /* more of data; may be NULL */
	void *context;
	struct export_counts counts; /* out */
};

/* All of the layer but the end of the archive. 0 or -errno with a sentence in @why. */
int export_walk(struct export *export, struct strbuf *why);

#endif
