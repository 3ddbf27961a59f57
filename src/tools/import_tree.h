/* SPDX-License-Identifier: MIT */
/*
 * The layer that an archive is read into.
 *
 * Every object is reached from the layer's root name by name, through
 * directories alone: no link that the archive brought is ever followed.  A
 * directory gets its attributes at the end, when nothing is put into it any
 * more: they may forbid that, be inherited, or be changed by it.
 */
#ifndef VENEER_TOOLS_IMPORT_TREE_H
#define VENEER_TOOLS_IMPORT_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "format/xattr_name.h"
#include "tools/import_dirs.h"

/* What was done, for the summary. */
struct import_counts {
	uint64_t entries; /* of the archive */
	uint64_t whiteouts, opaque; /* that it brought */
	uint64_t bytes; /* of file data */
	uint64_t implied; /* directories it has no entry for */
	uint64_t foreign; /* entries of other owners, who are not kept */
	uint64_t xattrs_dropped; /* attributes that an ordinary user cannot have */
};

struct import_tree {
	int root; /* borrowed */
	enum xattr_namespace ns;
	bool keeps_owners; /* we may give files away, and set any attribute */
	bool attribute_whiteouts; /* write whiteouts in that form */
	struct import_counts counts;
	struct import_dirs dirs;
	char *parent_place; /* owned: the directory that import_tree_parent() had last; may be NULL */
	int parent; /* its descriptor; owned */
};

/*
 * The tree in the directory @root; finds out what this user may do. 0 or -errno with a sentence
 * in @why.
 */
int import_tree_init(struct import_tree *tree, int root, bool use_user_xattrs, struct strbuf *why);
void import_tree_deinit(struct import_tree *tree);

/* ---- places ---- */

/*
 * Opens the directory that @place is in. Returns a descriptor, the caller's; -ENOENT, -ENOTDIR (a
 * file or a symbolic link is in the way).
 */
int import_tree_open_parent(const struct import_tree *tree, const char *place);
/* The same; those that are missing are made, with the time @mtime. Borrowed until the next call. */
int import_tree_parent(struct import_tree *tree, const char *place, const struct timespec *mtime);
/* Opens the directory @place itself. */
int import_tree_open(const struct import_tree *tree, const char *place);

/* ---- whiteouts ---- */

/* True if the object is a whiteout, of one of the forms that are written. */
bool import_tree_is_whiteout(const struct import_tree *tree, int dirfd, const char *name);
int import_tree_make_whiteout(struct import_tree *tree, int dirfd, const char *name);
/* The directory @fd holds whiteouts: marked so, if their form needs it. */
int import_tree_mark_whiteouts(const struct import_tree *tree, int fd);
bool import_tree_is_opaque(const struct import_tree *tree, int fd);
int import_tree_set_opaque(const struct import_tree *tree, int fd);
/* Removes the whiteouts in the directory @fd, which is opaque: nothing is there for them to hide. */
int import_tree_drop_whiteouts(const struct import_tree *tree, int fd);

/* ---- attributes ---- */

/*
 * Owner first, then attributes (which takes write permission), mode, time. Who may not give files
 * away keeps them, those of others without set-id bits.
 */
int import_tree_chown(struct import_tree *tree, int fd, uid_t uid, gid_t gid);
int import_tree_chmod(const struct import_tree *tree, int fd, mode_t mode, uid_t uid);
int import_tree_touch(int fd, const struct timespec *mtime);
/* Sets what the archive calls @key. */
int import_tree_setxattr(struct import_tree *tree, int fd, const char *key, const void *value,
			 size_t size);
/* Gives the directory @fd what it is to have. */
int import_tree_dress(struct import_tree *tree, int fd, const struct import_dir *dir);
/* Gives that to all directories that are remembered. 0 or -errno with a sentence in @why. */
int import_tree_settle(struct import_tree *tree, struct strbuf *why);

#endif
