/* SPDX-License-Identifier: MIT */
/*
 * Asking the layers for a name (docs/format.md "Lookup"): what they hold under
 * it, after whiteouts, opaque directories, redirects and metacopy files have
 * had their say.  Knows no nodes but the directory that is asked.
 */
#ifndef VENEER_CORE_PROBE_H
#define VENEER_CORE_PROBE_H

#include <limits.h>

#include "core/internal.h"
#include "format/metacopy.h"

/* One real object: @name in @dir. */
struct hit {
	struct ldir *dir; /* counted; NULL: nothing found */
	char name[NAME_MAX + 1];
	struct statx st;
};

/* What the layers hold under a name. */
struct found {
	struct hit upper; /* dir NULL: not in the upper */
	struct hit top; /* topmost lower part of a file */
	struct hit data; /* its data, if that lies elsewhere */
	bool is_dir, is_metacopy, upper_opaque;
	struct metacopy metacopy; /* of the topmost object, if is_metacopy */
	bool top_is_metacopy; /* so its data lies elsewhere, or is missing */
	char *redirect; /* of the upper object */
	struct name *index_name; /* it is, or would be, this entry of the index; owned, or NULL */
	int64_t nlink; /* then: how many names it has */
	struct ldir **lowers; /* counted */
	unsigned int lower_count;
};

/*
 * Fills in @found (zeroed by the caller, who calls found_deinit() either way) with what the layers
 * hold under @name in @parent, whose lock is held. 0, also if there is nothing, or -EPERM: a
 * redirect or metacopy that may not be followed; -EIO: metacopy without data; -ELOOP: the root of
 * another layer; ...
 */
int probe_layers(struct core *core, struct node *parent, const char *name, struct found *found);
/* The upper object was found in the index: whether its data lies in the lower part. */
int probe_index_metacopy(struct core *core, struct found *found);
void found_deinit(struct core *core, struct found *found);
bool found_exists(const struct found *found);
/* Attributes of the topmost object; not of a directory that is in no upper. */
const struct statx *found_top_stat(const struct found *found);

/* True if the answer means that there is no such attribute, or a file system without them. */
bool probe_xattr_is_absent(ssize_t r);
/* 1 if a lower directory, whose descriptor is @fd, hides @name by a ".wh." file; 0 or -errno. */
int probe_lower_hides(int fd, const char *name);
/* True if the object is a whiteout in either of the kernel's forms. */
bool probe_is_whiteout(struct core *core, int dirfd, const char *name, const struct statx *st);
/* True if it is one by attribute: empty, regular, with the attribute. */
bool probe_is_xattr_whiteout(struct core *core, int dirfd, const char *name,
			     const struct statx *st);
/*
 * Attributes of @name in @in, whose descriptor is @dirfd, without asking what is mounted there.
 * -EXDEV: something is, in the upper.
 */
int probe_stat(struct core *core, const struct ldir *in, int dirfd, const char *name,
	       struct statx *st);
/*
 * True if files of @layer are not asked whether they are metacopy files: with nothing below that
 * could hold their data they are damaged, which is told when they are opened.
 */
bool probe_leaves_metacopy(const struct core *core, const struct layer *layer);
/* True if it is the root of a layer or the work directory. */
bool probe_is_trap(const struct core *core, const struct statx *st);

#endif
