/* SPDX-License-Identifier: MIT */
/*
 * Origins that the attribute cannot tell: of objects that cannot carry it, which
 * symbolic links and special files are where private attributes are user.*; and
 * of objects whose lower is on a file system that has no handles which could be
 * followed, as an overlay.
 *
 * workdir/origin has an entry for each, a symbolic link that is named after the
 * handle of the object in the upper.  Its target is what the attribute would
 * hold, both written as index entries are named, or else a layer and an inode
 * number (docs/format.md).  A handle never comes to mean another object, so an entry whose object is gone
 * is only waste.  The directory is made when it is first needed; kernel
 * overlayfs does not look at it.
 */
#ifndef VENEER_CORE_ORIGINTABLE_H
#define VENEER_CORE_ORIGINTABLE_H

#include "core/internal.h"
#include "format/origin.h"

/* Opens what there is of it. The layers and the work directory are open. 0 or -errno. */
int origintable_init(struct core *core);
void origintable_deinit(struct core *core);

/* True if an object of type @mode cannot carry the attribute. */
bool origintable_is_for(const struct core *core, mode_t mode);
/* True if an origin in @layer can be followed from a handle alone, whatever becomes of its name. */
bool origintable_is_followed(const struct core *core, const struct layer *layer);
/* Enters the upper object @fd (O_PATH). 0, also where there are no handles, or -errno. */
int origintable_set(struct core *core, int fd, const struct origin *origin);
/* The same for an object that was copied from @lowerfd, of @layer. */
int origintable_set_number(struct core *core, int fd, const struct layer *layer, int lowerfd);
/* Gives the upper object @to the entry of @from, if that has one; both are descriptors. */
int origintable_copy(struct core *core, int from, int to);
/* The origin of the upper object @name in @dirfd. False: it has no such entry. */
bool origintable_get(struct core *core, int dirfd, const char *name, struct origin *origin);
bool origintable_get_number(struct core *core, int dirfd, const char *name, dev_t *dev,
			    uint64_t *ino);

/* An entry that is to go. */
struct origintable_entry {
	char name[ORIGIN_INDEX_NAME_MAX + 1]; /* "": there is none */
};

/*
 * Before the upper object @name in @dirfd, of type @mode, loses this name: its entry, if it is the
 * last one. And after that.
 */
void origintable_note(struct core *core, mode_t mode, int dirfd, const char *name,
		      struct origintable_entry *entry);
void origintable_drop(struct core *core, const struct origintable_entry *entry);

#endif
