/* SPDX-License-Identifier: MIT */
/*
 * Which lower parts of a merged directory may have a name, known without
 * asking them: an index (core/nameindex.h) of all their names, made when it
 * pays and kept with the directory's node.
 *
 * There is one only where the lowers do not change while mounted, and where a
 * name is what the directory lists, byte for byte: a file system that finds a
 * name under another spelling, or one that it does not list, has to be asked.
 * Being without an index is never an error.
 */
#ifndef VENEER_CORE_LOWERNAMES_H
#define VENEER_CORE_LOWERNAMES_H

#include "core/internal.h"
#include "core/nameindex.h"

/* All indexes of a union together, in bytes: some three million names. */
#define LOWERNAMES_MAX ((size_t)32 << 20)

/*
 * The number of the next of dir->lowers to be asked for @name, from @i on, and what it may have of
 * it (NAMEINDEX_*); dir->lower_count: none. All are, as long as there is no index. @cursor is zeroed
 * for the first call of a name; @i never goes down. The directory's lock is held, for either.
 */
unsigned int lowernames_next(const struct node_dir *dir, const char *name,
			     struct nameindex_cursor *cursor, unsigned int i, unsigned int *kinds);
/*
 * @misses lowers of @node were asked for names that they do not have: makes an index, if there is
 * none, once that has cost as much as it will. The directory's lock is held, for either.
 */
void lowernames_note_misses(struct core *core, struct node *node, unsigned int misses);
/* The lowers are no more; the directory's lock is held for writing, or it has no users. */
void lowernames_drop(struct node_dir *dir);

/* ---- made beside something else that reads the lowers ---- */

/* True if an index is missing and could be made. */
bool lowernames_is_wanted(const struct core *core, const struct node_dir *dir);
/*
 * Lower number @lower, of @layer and open as @fd, is read next. Every lower that has entries must
 * be, in the order of dir->lowers.
 */
void lowernames_begin(struct nameindex_builder *b, const struct layer *layer, int fd);
void lowernames_enter(struct nameindex_builder *b, unsigned int lower, const char *name);
/* All were read. */
void lowernames_publish(struct node_dir *dir, const struct nameindex_builder *b);

#endif
