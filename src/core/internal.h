/* SPDX-License-Identifier: MIT */
/* The union object, for the modules of this room. */
#ifndef VENEER_CORE_INTERNAL_H
#define VENEER_CORE_INTERNAL_H

#include <stdatomic.h>

#include "core/ahead.h"
#include "core/budget.h"
#include "core/core.h"
#include "core/fdcache.h"
#include "core/ident.h"
#include "core/layer.h"
#include "core/listing.h"
#include "core/nameindex.h"
#include "core/node.h"
#include "core/progress.h"
#include "core/recall.h"
#include "core/workdir.h"
#include "format/xattr_name.h"

struct watch;

/* A directory that must not be reached through a lower: the root of another layer, or work. */
struct core_trap {
	dev_t dev;
	uint64_t ino;
};

struct core {
	/* Constant after core_new(). */
	enum core_redirect redirect;
	enum core_fsync fsync;
	enum xattr_namespace ns;
	bool metacopy; /* metacopy files are followed */
	enum core_verity verity;
	bool metacopy_write; /* and written: metadata changes move no data */
	bool read_only, static_nlink, noatime, layers_change;
	bool unlocked; /* the work directory's lock is not taken */
	bool can_chown; /* CAP_CHOWN: ownership can be given away */
	bool in_userns; /* of a user namespace that is not the initial one */
	bool can_open_handles; /* CAP_DAC_READ_SEARCH in the initial user namespace */
	bool can_override; /* CAP_DAC_OVERRIDE: any file can be opened again */
	struct layer *layers; /* [0] is the upper if has_upper, then lowers, then data layers */
	unsigned int layer_count, data_count;
	bool has_upper;
	struct core_trap *traps;
	unsigned int trap_count;
	struct node *root; /* counted */
	bool no_open; /* core_do_without_open() */
	const struct core_backing *backing; /* or NULL; borrowed */
	unsigned int orphan_max; /* how many orphans may keep a descriptor */

	struct {
		bool are_partial; /* there are owners without an id in our user namespace */
		uid_t nobody; /* which is what they show as */
		uid_t uid; /* of this process; it has no other there */
		gid_t gid;
	} owners; /* core/owner.h */
	bool keeps_numbers; /* a lower's origins cannot be followed: core/origintable.h */
	_Atomic int origins_fd; /* of the origin table, O_PATH; -1: there is none (yet). Owned */
	struct ldir *index; /* the index directory; NULL: no index. Its descriptor stays pinned */

	/* Each with locks of its own. */
	struct fdcache fds;
	struct ident ident;
	struct node_table nodes;
	struct recall recall;
	struct budget budget;
	struct listing_cache listings;
	struct workdir work;
	atomic_bool
		is_half_done; /* a commit of the layers is: they are not changed until it is done */
	struct progress progress;
	struct ahead ahead;
	struct idtable *handles; /* open directories */
	_Atomic unsigned int orphans; /* that keep a descriptor */
	_Atomic uint64_t caps_given; /* how often security.capability was set, of whatever file */
	struct nameindex_budget lower_names_budget; /* core/lowernames.h */
	struct watch *watch; /* owned; NULL: nothing is watched */
	struct lock_mutex index_lock; /* LOCK_RANK_INDEX: link counts of indexed nodes */
	struct lock_mutex rename_lock; /* LOCK_RANK_RENAME: directories change their parent */
};

/* Full on-disk name of a private attribute in the namespace in use. */
static inline const char *core_key(const struct core *core, enum xattr_private which)
{
	return xattr_private_name(core->ns, which);
}

/* True if nothing may be written: EROFS. */
static inline bool core_refuses_changes(const struct core *core)
{
	return core->read_only || atomic_load(&core->is_half_done);
}

/* True if reads of what lies in @layer must leave access times alone: those of lowers never change. */
static inline bool core_keeps_atime(const struct core *core, const struct layer *layer)
{
	return layer->is_upper ? core->noatime : !layer->is_private;
}

#endif
