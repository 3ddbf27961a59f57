/* SPDX-License-Identifier: MIT */
/*
 * Where the parts of a node can be reached on disk, held still while they are used.
 */
#ifndef VENEER_CORE_PLACE_H
#define VENEER_CORE_PLACE_H

#include "core/node.h"

enum place_part {
	PLACE_META, /* the topmost object: attributes, extended attributes */
	PLACE_DATA, /* the object that holds the data */
};

struct place {
	int dirfd;
	const char *name; /* in dirfd; "": dirfd is the object itself */
	bool is_upper;
	bool is_apart; /* the data of a metacopy file */
	struct ldir *ldir; /* where it is; NULL for an orphan */
	struct fdslot *slot; /* pinned: an orphan's descriptor */
	struct node *locked; /* whose directory lock is held for reading; counted */
	bool index_locked; /* core->index_lock is held */
};

/*
 * Holds the place of @part of @node until place_release(). While a place is held its name
 * cannot be renamed or removed through the union: the lock of its directory is held for reading,
 * or that of the index, if it is reached by its entry alone; so the caller may take neither
 * meanwhile. 0 or -ESTALE, ...
 */
int place_hold(struct core *core, struct node *node, enum place_part part, struct place *place);
void place_release(struct core *core, struct place *place);

/*
 * True if @st, which is of what lies at the held place, is of the object that the node was made
 * from. Others may have put something else there.
 */
bool place_is_node(struct core *core, const struct place *place, const struct node *node,
		   const struct statx *st);
/* Real attributes of a held place. */
int place_stat(const struct place *place, struct statx *st);
/* An O_PATH descriptor of the object, checked to be of the node's type; the caller's. */
int place_open_path(const struct place *place);
/* Opens the object with @flags; the caller's. */
int place_open(const struct place *place, int flags);

#endif
