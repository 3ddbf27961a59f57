/* SPDX-License-Identifier: MIT */
/*
 * Origin: which lower object an upper one was copied up from, so that it keeps
 * the lower's inode number (docs/format.md "Origin").
 */
#ifndef VENEER_CORE_ORIGIN_H
#define VENEER_CORE_ORIGIN_H

#include "core/internal.h"
#include "format/origin.h"

/*
 * Finds the lower object that the upper object @name in @dir (whose attributes are @st) names as
 * its origin: by comparing handles with what the lowers of @parent hold under the same name,
 * which needs no privilege, or else by opening the handle. True with its attributes in @lower.
 * Without an index a lower file with several names gives no identity (each name is copied up by
 * itself).
 */
bool origin_find(struct core *core, struct node *parent, const struct statx *st, struct ldir *dir,
		 const char *name, struct statx *lower);

/*
 * The attributes of the lower object that @origin, of @name in the upper of @parent, leads to.
 * False: it is not to be found there, without privilege maybe because of a rename.
 */
bool origin_stat(struct core *core, struct node *parent, const struct origin *origin,
		 const char *name, struct statx *lower);

/* True if @name in @fd ("" for @fd itself) lies on something that is mounted inside @layer. */
bool origin_is_foreign(const struct layer *layer, int fd, const char *name);
/*
 * The identity of @name in @fd ("" for @fd itself), which lies in @layer. False: it has none, or
 * one of another file system than the layer's, which could not be told from one of that.
 */
bool origin_of(const struct layer *layer, int fd, const char *name, struct origin *origin);
/* The origin of @name in @dir, of type @mode, by its attribute or core/origintable.h. False:
 * nothing that can be used. */
bool origin_read(struct core *core, struct ldir *dir, const char *name, mode_t mode,
		 struct origin *origin);

/*
 * Writes down the origin of a new upper object @fd, of type @mode: the lower object @lowerfd
 * (O_PATH) of @layer. File systems without handles give an empty one. 0 or -errno.
 */
int origin_set(struct core *core, const struct layer *layer, int lowerfd, mode_t mode, int fd);
/* Gives the upper object @to the origin of the upper object @from, if it has one. 0 or -errno. */
int origin_copy(struct core *core, int from, int to);

#endif
