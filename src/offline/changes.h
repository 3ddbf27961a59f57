/* SPDX-License-Identifier: MIT */
/*
 * What a layer changes of what lies below it, for people and for programs that
 * act on it: the engine of `veneer diff`.
 *
 * The upper is read, and of the lowers what it has a counterpart for, so the work
 * grows with the changes alone.  What overlayfs does for itself (metacopy,
 * origin, index, copied but unchanged files) is no change.
 */
#ifndef VENEER_OFFLINE_CHANGES_H
#define VENEER_OFFLINE_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "offline/target.h"

enum change_kind {
	CHANGE_ADDED,
	CHANGE_REMOVED, /* a directory with all that was in it; also by a rename to its name */
	CHANGE_MODIFIED,
	CHANGE_RENAMED, /* a directory, or a file whose data is still below; see `from` */
	CHANGE_TYPE, /* something of another type is there now */
};

/* What of it, where it was there before and is now. */
enum change_what {
	CHANGE_CONTENT = 1 << 0, /* data, target of a symbolic link, device number */
	CHANGE_MODE = 1 << 1,
	CHANGE_OWNER = 1 << 2,
	CHANGE_TIMES = 1 << 3, /* modification time; never of a directory */
	CHANGE_XATTRS = 1 << 4, /* with ACLs and capabilities */
};

struct change {
	enum change_kind kind;
	unsigned int what; /* CHANGE_*; of what was added or removed 0 */
	char *path; /* absolute, in the union; owned */
	char *from; /* CHANGE_RENAMED: where it was, in the lowers; owned, as the next */
	char *below; /* where the lowers would have it under this name; NULL: nowhere */
	/* stx_mask is 0 where there is none. The size of a metacopy file is that of its data. */
	struct statx before, after;
	bool is_opaque; /* a directory that hides what is below */
};

struct changes {
	struct change *items; /* sorted by path, what is removed first; owned */
	size_t count, size;
	/* Directories of the upper on the way to a change, sorted; owned. */
	char **parents;
	size_t parent_count;
	size_t failed; /* objects that are left out: unreadable, damaged; each was logged */
};

#define CHANGES_INIT ((struct changes){ 0 })

/*
 * Compares the upper of @target with its lowers. 0, also if something is left out, or -errno with a sentence in @why. To be
 * deinitialised in any case. What is changed meanwhile may be told or not.
 */
int changes_read(const struct target *target, struct changes *changes, struct strbuf *why);
void changes_deinit(struct changes *changes);

/* The order of changes: by bytes, but what is in a directory follows it at once. <0, 0 or >0. */
int changes_compare_paths(const char *a, const char *b);

/* Data of the upper that counts as a change: bytes of files added, or modified in their content. */
uint64_t changes_bytes(const struct changes *changes);

#define _cleanup_changes_ _cleanup_(changes_deinit)

#endif
