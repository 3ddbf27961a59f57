/* SPDX-License-Identifier: MIT */
/*
 * The merged listing of a directory: every name once, from all its layers, in
 * memory; immutable and shared by reference between the directory (as a cache,
 * valid for one version of its names) and the streams that read from it.
 */
#ifndef VENEER_CORE_LISTING_H
#define VENEER_CORE_LISTING_H

#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"
#include "sys/dir.h"

struct core;
struct ldir;
struct node;
struct node_dir;

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
	size_t size; /* in memory */
};

/* Bytes that directories keep in listings; the last one is kept whatever its size. */
#define LISTING_CACHE_MAX ((size_t)16 << 20)

/* The directories that keep a listing. */
struct listing_cache {
	struct lock_mutex lock; /* LOCK_RANK_LEAF: guards this and node_dir.listing */
	struct list ring; /* of node_dir.listing_ring, the one used last at the end */
	size_t size; /* of all listings kept */
};

void listing_cache_init(struct listing_cache *cache);
/* Must be empty (asserted). */
void listing_cache_deinit(struct listing_cache *cache);
/* At the end of a directory. */
void listing_forget(struct listing_cache *cache, struct node_dir *dir);

/*
 * The listing of @node, a merged directory, with one reference: the cached one if it is of the
 * current version, else made anew, in time linear in the names of all layers. The caller holds
 * no directory lock. -ENOENT: the directory was removed.
 */
int listing_get(struct core *core, struct node *node, struct listing **listingp);
/* The cached one if it is of the current version, with one reference; or NULL. */
struct listing *listing_find(struct core *core, struct node *node);
struct listing *listing_ref(struct listing *listing);
struct listing *listing_unref(struct listing *listing);

/*
 * Number of subdirectories of the merged directory; keeps it in node->dir->subdirs.  Takes no
 * directory lock: a change meanwhile may or may not be counted (then nothing is kept).
 */
int listing_count_subdirs(struct core *core, struct node *node, uint64_t *count);
/* Keeps what was counted while the names were of @version and no change was under way. */
void listing_keep_subdirs(struct node_dir *dir, uint64_t count, uint64_t version);
/*
 * 0 if the directory shows no names, -ENOTEMPTY, or another error. Its lock is held for writing.
 */
int listing_check_empty(struct core *core, struct node *node);

/* ---- one layer's directory ---- */

/* A real directory while its entries are read. */
struct listing_part {
	struct core *core;
	const struct ldir *ldir;
	int fd; /* borrowed */
	bool is_lower;
	bool has_xwhiteouts; /* empty files in it may be whiteouts */
	bool has_subvolumes; /* or mounts: a directory's entry may carry another number than the directory */
	bool has_devices; /* what lies in it may be on another device, with its own numbers */
};

enum listing_kind {
	LISTING_SHOWN,
	LISTING_WHITEOUT, /* hides its own name */
	LISTING_NAME_HIDES, /* ".wh.NAME": hides NAME in the layers below */
	LISTING_NOTHING, /* of the format, or gone meanwhile */
};

/* What an entry of one layer means. */
struct listing_seen {
	enum listing_kind kind;
	unsigned char type; /* DT_*, never DT_UNKNOWN if shown */
	uint64_t ino; /* of the union, if nothing but this entry is to be looked at */
};

void listing_part_init(struct listing_part *part, struct core *core, const struct ldir *ldir,
		       int fd);
/* Neither "." nor "..". */
void listing_classify(const struct listing_part *part, const struct sys_dirent *entry,
		      struct listing_seen *seen);

#endif
