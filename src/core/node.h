/* SPDX-License-Identifier: MIT */
/*
 * Nodes: the objects of the union, one for each inode the kernel knows.
 *
 * A node keeps its id, its inode number and its identity for life; copy-up
 * only changes where its parts lie.  Names (struct link) lead from a directory
 * node to a node; a name's absence from the table means nothing (it may just
 * not have been asked for).
 *
 * What guards what (docs/locking.md): the names in a directory, and with them
 * every link whose parent it is, change only with the directory's lock held
 * for writing.  A node's flags and the places of its parts change only under
 * its node lock, and, for a node with a name, with its parent's directory lock
 * held for writing as well: holding either is enough to read them.
 */
#ifndef VENEER_CORE_NODE_H
#define VENEER_CORE_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/idtable.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/pool.h"
#include "core/layer.h"
#include "format/times.h"

struct core;
struct listing;
struct metacopy;
struct nameindex;
struct node;
struct watch_mark;

enum node_flag {
	NODE_UPPER = 1 << 0, /* the object exists in the upper */
	NODE_METACOPY = 1 << 1, /* the topmost object holds metadata only */
	NODE_COPYING = 1 << 2, /* one thread is copying it up */
	NODE_ORPHAN = 1 << 3, /* its last name is gone */
	NODE_IMMUTABLE = 1 << 4, /* chattr +i */
	NODE_APPEND = 1 << 5, /* chattr +a */
	NODE_INDEXED = 1 << 6, /* a lower file with several names, all of which are this node */
	NODE_STRIPPED = 1 << 7, /* the last change took its capabilities away */
	/* What its names lead to may be another object now: looked up again. Set at any time. */
	NODE_UNSURE = 1 << 8,
	NODE_WARMING = 1 << 9, /* core/warm.c: who opens it or copies it up waits */
	NODE_RECENT = 1 << 10, /* asked for lately: core/budget.h. Set and cleared at any time */
	NODE_NO_CAPS = 1 << 11, /* known to have no security.capability; node lock */
	/* core/renew.c: its parts are to be looked up anew; they and all below are what they were. */
	NODE_STALE = 1 << 12,
	NODE_STEADY = 1 << 13,
	NODE_RENEWED = 1 << 14, /* its parts were others once */
	NODE_OWNER = 1 << 15, /* shows another owner than it has on disk: core/owner.h */
};

/* A name of a node. */
struct link {
	struct node *node; /* borrowed: the node owns its links */
	struct node *parent; /* counted */
	struct link *hash_next; /* name table */
	struct link *next; /* the node's other names */
	uint64_t hash;
	uint16_t length;
	bool leaves; /* its removal is under way; node lock */
	char name[];
};

/* Cookies of a stream are its file system's, those of a listing are good for one version. */
enum core_dircache_of {
	DIRCACHE_OF_NOTHING,
	DIRCACHE_OF_STREAM,
	DIRCACHE_OF_LISTING,
};

/* What is known of the change time that a directory in the upper shows: core/quiet.h. */
enum quiet_state {
	QUIET_UNKNOWN, /* not asked for yet, or not in the upper */
	QUIET_NONE, /* the real one */
	QUIET_HIDES, /* an earlier one, if the real one is no later than times.until */
};

/* What only directories have. */
struct node_dir {
	struct lock_rw lock; /* the directory's names, see above */
	struct ldir *_Atomic upper; /* counted; NULL until it is in the upper */
	/* Counted; the merged lower directories, top first. Constant, but for one that turned out
	 * to be empty and was replaced (remove_adopt_cleared()). */
	struct ldir **lowers;
	unsigned int lower_count;
	bool opaque; /* the upper one has the opaque attribute; guarded by lock */
	bool dead; /* removed; guarded by lock */
	_Atomic bool impure_known, impure; /* lookup_is_impure() */
	/* Of a removed one: the descriptor of upper stays pinned, as nothing else leads to it; or
	 * upper is in the work directory, until the node's end. Guarded by lock. */
	bool pinned, stored;
	char *redirect; /* of the upper one; owned, or NULL; node lock */
	_Atomic bool watched; /* all its parts are, as far as they can be: watch_dir() */
	struct watch_mark *marks; /* owned; lock of core->watch */
	_Atomic uint64_t version; /* grows with every change of its names */
	_Atomic uint32_t changes; /* grows with every change of it, after that */
	_Atomic enum quiet_state quiet;
	struct times times; /* node lock */
	/* Owned; which lowers have a name, or NULL; freed only with lock held for writing. */
	struct nameindex *_Atomic lower_names;
	/* Lowers asked in vain without it, and at how many it is made (0: not known yet;
	 * UINT32_MAX: it is not, or no more). */
	_Atomic uint32_t lower_misses, lower_names_due;
	_Atomic int64_t subdirs; /* how many subdirectories, -1: not counted yet */
	/* The last merged listing, counted, or NULL; and its place among those of all directories.
	 * Lock of core->listings. */
	struct listing *listing;
	struct list listing_ring;
	/* What the kernel may have cached of it, and whose cookies that has; node lock. */
	enum core_dircache_of cached_of;
	uint64_t cached_version;
	/* Open handles, and the version that all of them have seen; node lock. */
	unsigned int handles;
	uint64_t handles_version;
};

/* An open data file; its descriptor may be closed by the cache at any time it is not pinned. */
struct datafd {
	_Atomic uint32_t refs;
	struct fdslot slot;
	bool is_upper, is_writable; /* constant */
	bool is_kept; /* its descriptor is not closed before it; node lock */
	_Atomic bool is_synced; /* with all that made it the data file: by an fsync since then */
	/* Which file it is, even if the number is given to another one; constant. */
	uint64_t ino;
	struct statx_timestamp btime;
};

/* What a non-directory has while it is open, orphaned or being copied up. */
struct node_file {
	struct datafd *data; /* counted; the current data file, or NULL; node lock */
	unsigned int opens, writers; /* who has it open, and of those for writing; node lock */
	int backing; /* > 0: all of them reach the data file directly, by this number; node lock */
	/* Of an orphan in the upper: an O_PATH descriptor, pinned while it is kept (node lock), or
	 * a name in the work directory, constant once set. */
	struct fdslot orphan_slot;
	bool orphan_kept;
	struct name *orphan_name;
	/* Of an orphan in a lower: when it lost its name; node lock. */
	struct statx_timestamp removed;
	/* While NODE_METACOPY: where the data lies. data_dir is counted; NULL: it is missing. */
	struct ldir *data_dir;
	struct name *data_name;
	uint64_t data_ino; /* real inode number */
	char *redirect; /* of the upper file; owned, or NULL; node lock */
	struct metacopy *digest; /* what its data must be; owned, or NULL; node lock */
	/* While NODE_INDEXED: the entry, and how many names the union shows (index_lock). */
	struct name *index_name; /* counted; constant */
	_Atomic int64_t nlink;
	uint32_t lower_nlink; /* of the lower file; 0: not known. Constant */
};

struct node {
	uint64_t id;
	_Atomic uint32_t refs; /* all the kernel's references count as one */
	_Atomic uint32_t flags; /* enum node_flag */
	uint64_t lookups; /* the kernel's references; node lock */
	/* st_ino; constant, but for a copy that leaves its other names behind (no index) */
	_Atomic uint64_t ino;
	uint64_t upper_ino; /* real number in the upper, once NODE_UPPER */
	uint32_t type; /* S_IFMT bits, constant */
	struct link *links; /* owned; the first one is used to reach it */
	struct identity *identities; /* owned; identity lock */
	union {
		struct node_dir *dir; /* owned */
		struct node_file *file; /* owned; NULL until needed, set once; node lock */
	};
	/* Non-directories: where the topmost lower part lies. lower_dir is counted; NULL: there
	 * is none. */
	struct ldir *lower_dir;
	struct name
		*lower_name; /* NULL: the first link's; else counted. Set with the last unlink */
};

#define NODE_STRIPES 64

struct node_stripe {
	struct lock_mutex lock; /* LOCK_RANK_NODE */
	pthread_cond_t copied; /* a copy-up of one of its nodes ended */
};

struct name_stripe {
	struct lock_mutex lock; /* LOCK_RANK_TABLE */
	struct link **buckets;
	uint64_t count, size;
};

struct node_table {
	struct idtable *ids;
	struct pool pool; /* nodes, what directories have beside, names */
	struct node_stripe nodes[NODE_STRIPES];
	struct name_stripe names[NODE_STRIPES];
	struct lock_mutex identity_lock; /* LOCK_RANK_TABLE */
	struct identity **identities; /* non-directories with several names, by real inode */
	uint64_t identity_count, identity_size;
};

int node_table_init(struct node_table *table);
/* Every node must be gone (asserted). */
void node_table_deinit(struct node_table *table);

/*
 * A new node with one reference, without names. Takes over nothing; the caller fills in the
 * places before node_publish(). NULL: out of memory.
 */
struct node *node_new(struct core *core, mode_t type, uint64_t ino);
/* One with the id that it had when it was known before, if that can be; 0: with a new one. */
struct node *node_new_again(struct core *core, mode_t type, uint64_t ino, uint64_t id);
/* The node of a kernel id, with a reference the caller gives back; NULL: no such node. */
struct node *node_find(struct core *core, uint64_t id);
struct node *node_ref(struct node *node);
/* Returns NULL. May free the node and its parents; no lock may be held. */
struct node *node_unref(struct core *core, struct node *node);
/* Counts one more reference of the kernel, forgets @count. */
void node_lookup_add(struct core *core, struct node *node);
void node_forget(struct core *core, struct node *node, uint64_t count);
/* The same by id, if there is such a node; being forgotten is no use of it. */
void node_forget_id(struct core *core, uint64_t id, uint64_t count);

void node_lock(struct core *core, struct node *node);
void node_unlock(struct core *core, struct node *node);
/* Waits until the node's state may have changed, or for @ms; the node lock is held. */
void node_wait(struct core *core, struct node *node, unsigned int ms);
/* Wakes those who wait; the node lock is held. */
void node_wake(struct core *core, struct node *node);

/* Somebody asks for it. */
void node_note_use(struct node *node);
bool node_has(const struct node *node, uint32_t flags);
void node_set(struct node *node, uint32_t flags);
void node_clear(struct node *node, uint32_t flags);
static inline bool node_is_dir(const struct node *node)
{
	return S_ISDIR(node->type);
}
/* True if the directory's names come from more than one layer directory. */
bool node_is_merged(const struct node *node);
/* Its node_file, made on demand; NULL: out of memory. */
struct node_file *node_get_file(struct core *core, struct node *node);

/* The node a known name leads to, with a reference, or NULL if the name is not known. */
struct node *node_find_name(struct core *core, struct node *parent, const char *name);
/*
 * Makes @name in @parent lead to @node. If it leads to another node already that one is
 * returned instead, with a reference (two lookups of one name met). NULL: out of memory.
 * The caller holds the directory's lock (for reading: lookup; for writing: a new name).
 */
struct node *node_add_name(struct core *core, struct node *node, struct node *parent,
			   const char *name);
/* The same in two steps, so that the second one cannot fail. NULL: out of memory. */
struct link *node_new_link(struct core *core, struct node *node, struct node *parent,
			   const char *name);
/* Consumes @link; its name must not be known. */
void node_insert_link(struct core *core, struct link *link);
void node_free_link(struct core *core, struct link *link);
/* Takes the name away, if known. The directory's lock is held for writing. */
void node_remove_name(struct core *core, struct node *node, struct node *parent, const char *name);

/* Finds a non-directory with several names by a real inode that it is; with a reference. */
struct node *node_find_identity(struct core *core, dev_t dev, uint64_t ino);
/*
 * From now on it can be found so. Returns @node, or the one that was there first, with a
 * reference. Being out of memory is not told: it only costs an identity.
 */
struct node *node_add_identity(struct core *core, struct node *node, dev_t dev, uint64_t ino);
/* It is that inode no more. */
void node_remove_identity(struct core *core, struct node *node, dev_t dev, uint64_t ino);

/* A directory's parent by name, with a reference; NULL for the root or a removed directory. */
struct node *node_get_parent(struct core *core, struct node *node);

#endif
