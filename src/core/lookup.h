/* SPDX-License-Identifier: MIT */
/*
 * Finding a name in a directory through the layers (docs/format.md "Lookup"):
 * whiteouts, opaque directories, redirects, metacopy files.
 */
#ifndef VENEER_CORE_LOOKUP_H
#define VENEER_CORE_LOOKUP_H

#include "core/internal.h"
#include "core/probe.h"

/*
 * The node @name in @parent leads to, with a reference, or NULL if the name does not exist.
 * @st (may be NULL) gets the real attributes of its topmost object, if they were read on the way
 * (else stx_mask is 0).  Takes and releases the directory's lock.
 * -EPERM: a redirect or metacopy that may not be followed; -EIO: metacopy without data;
 * -ELOOP: the root of another layer; -ENAMETOOLONG.
 */
int lookup_name(struct core *core, struct node *parent, const char *name, struct node **nodep,
		struct statx *st);
/* The same; the directory's lock is held for writing. */
int lookup_name_locked(struct core *core, struct node *parent, const char *name,
		       struct node **nodep, struct statx *st);
/* As lookup_name(), with the attributes the union shows in @st. */
int lookup_entry(struct core *core, struct node *parent, const char *name, struct node **nodep,
		 struct statx *st);

/* True if the upper directory of @dir has the impure attribute: it holds objects whose inode
 * number comes from a lower. Read once. */
bool lookup_is_impure(struct core *core, struct node *dir);
/*
 * True (1) if some lower of @parent has @name, so that it must be hidden by a whiteout once the
 * upper has it no more; 0 or -errno.  The directory's lock is held.
 */
int lookup_lower_has(struct core *core, struct node *parent, const char *name);

/* What the upper directory itself has under a name. */
enum upper_name {
	UPPER_ABSENT,
	UPPER_WHITEOUT, /* a device 0:0, or an attribute whiteout */
	UPPER_OBJECT,
};
/* The directory's lock is held and it has an upper. */
int lookup_upper_name(struct core *core, struct node *parent, const char *name,
		      enum upper_name *what, struct statx *st);

/* ---- what was found (core/probe.h, completed by index_find()) as a node ---- */

/* S_IFMT bits. */
mode_t lookup_type(const struct found *found);
/* The union's inode number, of what was found in @parent; 0: out of memory. */
uint64_t lookup_ino(struct core *core, struct node *parent, const struct found *found);
/* True if other names may lead to the same object. */
bool lookup_has_names(const struct found *found);
/* Gives @node, which is of that type and has no parts, those of @found. 0 or -ENOMEM. */
int lookup_fill(struct core *core, struct node *node, struct found *found, const char *name);

#endif
