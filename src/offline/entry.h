/* SPDX-License-Identifier: MIT */
/* What one object of a layer says by itself, without the layers below it. */
#ifndef VENEER_OFFLINE_ENTRY_H
#define VENEER_OFFLINE_ENTRY_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "format/owner.h"
#include "format/whiteout.h"
#include "format/xattr_name.h"

struct entry {
	struct statx st;
	bool is_whiteout; /* the device or the attribute; not `.wh.NAME`, which is a name */
	bool is_metacopy; /* a regular file without data of its own */
	bool has_origin, is_impure;
	enum opaque_value opaque; /* of a directory; not by `.wh..wh..opq` in it */
	struct owner owner; /* ids in st that are not to be believed, but are the lower object's */
	char *redirect; /* valid by its grammar; NULL: none. Owned. */
	bool has_bad_redirect; /* there is one that is not valid */
};

#define ENTRY_INIT ((struct entry){ 0 })

/*
 * Reads the object @name in @dirfd ("": @dirfd itself, which may be O_PATH), never following a
 * symbolic link. 0, or -errno: -ENOENT, ... To be deinitialised in any case.
 */
int entry_read(int dirfd, const char *name, enum xattr_namespace ns, struct entry *entry);
/*
 * Gives entry->st the ids that are those of @lower, which it was copied from. The attribute that
 * tells them is the layer's to write: nothing comes to belong to anybody else than @lower does by
 * it, and no set-id bit comes along.
 */
void entry_inherit_owner(struct entry *entry, const struct statx *lower);
void entry_deinit(struct entry *entry);

/* The names in a directory, sorted by their bytes, without "." and "..". */
struct entry_names {
	char **names;
	size_t count;
};

#define ENTRY_NAMES_INIT ((struct entry_names){ 0 })

/* Of the directory @fd, open for reading. 0 or -errno. To be deinitialised in any case. */
int entry_names_read(int fd, struct entry_names *names);
/* For names from elsewhere: one more (0 or -ENOMEM), and into their order at the end. */
int entry_names_add(struct entry_names *names, const char *name);
void entry_names_sort(struct entry_names *names);
bool entry_names_has(const struct entry_names *names, const char *name);
void entry_names_deinit(struct entry_names *names);

#define _cleanup_entry_ _cleanup_(entry_deinit)
#define _cleanup_entry_names_ _cleanup_(entry_names_deinit)

#endif
