/* SPDX-License-Identifier: MIT */
/*
 * Layers, and the directories in them.
 *
 * A struct ldir is one real directory: (layer, parent, name) and, while it is
 * cached, an O_PATH descriptor, which can always be had again from the parent.
 * There are no path strings; renaming a directory moves one object, and every
 * directory below it stays reachable.
 */
#ifndef VENEER_CORE_LAYER_H
#define VENEER_CORE_LAYER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "base/name.h"
#include "core/fdcache.h"
#include "sys/file.h"

struct layer {
	unsigned int index; /* 0: the upper; 1...: lowers, top first; data-only ones last */
	bool is_upper, is_data;
	bool is_private; /* in a clone of its mount: nothing is mounted below it later */
	bool crosses_mounts; /* a lower whose clone has what was mounted below it as well */
	bool is_last; /* the lowest layer that merges: nothing below it can be hidden */
	dev_t dev; /* of the root */
	long magic; /* f_type */
	bool has_uuid, has_handles;
	bool is_immutable; /* its file system (erofs) calls every file so: no flag of the file */
	uint8_t uuid[16];
	_Atomic bool xwhiteouts; /* readdir must look for attribute whiteouts */
	int fd; /* of root, open for reading: ioctls, statfs, handles; borrowed */
	struct ldir *root; /* owned */
	char *path; /* as given, for messages. Owned. */
	/* Where each directory of the layer is (ldir parent and name): held for a few
	 * instructions, never over I/O. */
	struct lock_mutex places;
};

struct ldir {
	_Atomic uint32_t refs;
	struct layer *layer;
	/* Guarded by layer->places; only ldir_move() changes them. NULL for a layer's root. */
	struct ldir *parent;
	struct name *name;
	uint64_t ino; /* real inode number: what is opened again must be the same directory */
	dev_t dev;
	/*
	 * Something is mounted there that is no part of the layer, and what is below that cannot be
	 * reached: an empty directory of the mounted one's attributes. Constant.
	 */
	bool is_mount_point;
	struct fdslot slot;
};

/* STATX_ATTR_* of an object of @layer, those that are flags of its own. */
static inline uint64_t layer_file_attributes(const struct layer *layer, const struct statx *st)
{
	return st->stx_attributes & ~(layer->is_immutable ? STATX_ATTR_IMMUTABLE : 0ULL);
}

/* True if the object is the root of a mount that is no part of @layer. */
static inline bool layer_ends_at(const struct layer *layer, const struct statx *st)
{
	return !layer->crosses_mounts && sys_stat_is_mount_root(st);
}

/* The root of @layer; @fd is taken over and never closed before the ldir is. */
struct ldir *ldir_new_root(struct fdcache *fds, struct layer *layer, int fd);
/* The directory @name in @parent, with one reference; @st tells which. NULL: out of memory. */
struct ldir *ldir_new(struct ldir *parent, const char *name, const struct statx *st);
struct ldir *ldir_ref(struct ldir *ldir);
/* Gives up one reference; returns NULL. */
struct ldir *ldir_unref(struct fdcache *fds, struct ldir *ldir);

/* Where the directory is now: its parent and its name there, both with a reference; NULL for a root. */
struct ldir *ldir_get_place(struct ldir *ldir, struct name **namep);

/*
 * An O_PATH descriptor of the directory, pinned until ldir_unpin(). Opens it, and its parents,
 * if needed. Returns the descriptor or -ESTALE (gone or replaced by another), -ENODATA (a mount
 * point: a descriptor would keep what is mounted there, maybe the union itself), -EMFILE, ...
 */
int ldir_pin(struct fdcache *fds, struct ldir *ldir);
void ldir_unpin(struct ldir *ldir);
/* Attributes, without opening the directory if it is not open. */
int ldir_stat(struct fdcache *fds, struct ldir *ldir, struct statx *st);
/* A descriptor for reading the directory's entries, the caller's. */
int ldir_open(struct fdcache *fds, struct ldir *ldir);

/* The directory is now @name in @parent (it was renamed on disk); consumes the name's reference. */
void ldir_move(struct fdcache *fds, struct ldir *ldir, struct ldir *parent, struct name *name);

#endif
