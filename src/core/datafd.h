/* SPDX-License-Identifier: MIT */
/*
 * The data file of a node: data belongs to the node, never to who opened it.
 *
 * Every read and write goes to the node's current data file, so a descriptor
 * opened before copy-up sees what is written after it.  The file is opened on
 * demand, and the descriptor is only cached: no descriptor per open file.
 */
#ifndef VENEER_CORE_DATAFD_H
#define VENEER_CORE_DATAFD_H

#include "core/internal.h"

/*
 * The current data file of the regular file @node, open (for writing if @write, which the
 * caller has made sure lies in the upper). Returns the descriptor, held until datafd_release().
 */
int datafd_acquire(struct core *core, struct node *node, bool write, struct datafd **datap);
void datafd_release(struct core *core, struct datafd *data);

/*
 * One more or one less who has it open. @write: keep what cannot be opened again. *@backing: as
 * core_open().
 */
int datafd_open(struct core *core, struct node *node, bool write, int *backing);
void datafd_close(struct core *core, struct node *node, bool write);
/*
 * The data file of @node, which is new and nobody else's yet; @is_open: as if by datafd_open() for
 * reading.
 */
void datafd_adopt(struct core *core, struct node *node, struct datafd *data, mode_t mode,
		  bool is_open, int *backing);

/*
 * The data now lies in the upper file @fd, which is taken over (-1: reopen it on demand).
 * Called with the node lock held, when a copy-up is published; the old one is returned in *@old,
 * for datafd_unref() without the lock.
 */
void datafd_replace_locked(struct core *core, struct node *node, struct datafd *data,
			   struct datafd **old);
/*
 * An open data file over @fd, whose attributes are @st, and which is taken over also on failure.
 * NULL: out of memory.
 */
struct datafd *datafd_new(struct core *core, int fd, const struct statx *st, bool is_upper,
			  bool is_writable);
void datafd_unref(struct core *core, struct datafd *data);

/*
 * True unless the node's open data file shows that @st, which is of the same number, is of
 * another file: the number was given away again.
 */
bool datafd_may_be(struct core *core, struct node *node, const struct statx *st);
/* Attributes of the open data file, of one that its name leads to no more. -ESTALE: none is open. */
int datafd_stat(struct core *core, struct node *node, struct statx *st);

/*
 * Keeps @node, whose last name is about to go, reachable: by a descriptor, or, when too many
 * orphans have one, by another name in the work directory. Its directory's lock is held for
 * writing. @dirfd and @name: where it lies in the upper; an empty name: @dirfd is the object.
 */
int datafd_keep_orphan(struct core *core, struct node *node, int dirfd, const char *name);
/* It has a name again, by which it can be reached. */
void datafd_release_orphan(struct core *core, struct node *node);
/* It is no orphan after all: what datafd_keep_orphan() keeps goes. No call runs. */
void datafd_drop_orphan(struct core *core, struct node *node);
/* The node has other parts now, of which @st is the topmost: its data is opened anew, unless it is
 * the same file. No call runs. */
void datafd_renew(struct core *core, struct node *node, const struct statx *st);
/* Removes an orphan that waited in the work directory. */
void datafd_discard_orphan(struct core *core, const struct name *name);

#endif
