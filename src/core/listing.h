/* SPDX-License-Identifier: MIT */
/*
 * The merged listing of a directory: every name once, from all its layers, in
 * memory; immutable and shared by reference between the directory (as a cache,
 * valid for one version of its names) and the streams that read from it.
 */
#ifndef VENEER_CORE_LISTING_H
#define VENEER_CORE_LISTING_H

#include <stdint.h>

#include "core/internal.h"

struct listing_entry {
	uint64_t ino; /* of the union; 0: must be looked up (more than one part, or an origin) */
	uint32_t name; /* offset into names */
	uint16_t name_length;
	unsigned char type; /* DT_* */
};

struct listing {
	_Atomic uint32_t refs;
	uint64_t version; /* of the directory's names when it was made */
	uint64_t count, subdirs;
	struct listing_entry *entries;
	char *names;
};

/*
 * The listing of @node, a merged directory, with one reference: the cached one if it is of the
 * current version, else made anew, in time linear in the names of all layers. The caller holds
 * no directory lock.
 */
int listing_get(struct core *core, struct node *node, struct listing **listingp);
struct listing *listing_ref(struct listing *listing);
struct listing *listing_unref(struct listing *listing);

/* Number of subdirectories of the merged directory; keeps it in node->dir->subdirs. */
int listing_count_subdirs(struct core *core, struct node *node, uint64_t *count);
/*
 * 0 if the directory shows no names, -ENOTEMPTY, or another error. Its lock is held for writing.
 */
int listing_check_empty(struct core *core, struct node *node);

/* True if the stream of this single layer directory shows @entry; false for whiteouts. */
struct sys_dirent;
bool listing_shows(struct core *core, struct ldir *ldir, int dirfd,
		   const struct sys_dirent *entry);

#endif
