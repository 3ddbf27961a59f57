/* SPDX-License-Identifier: MIT */
/*
 * The work directory: `work` for objects in preparation, `work/incompat` for
 * features a reader must know, and a lock so that no other veneer uses the same
 * upper (docs/format.md "The work directory").
 */
#ifndef VENEER_CORE_WORKDIR_H
#define VENEER_CORE_WORKDIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/lock.h"
#include "base/strbuf.h"
#include "core/core.h"

#define WORKDIR_TEMP_MAX 24 /* "#" and a hexadecimal number */

struct ldir;

struct workdir {
	int fd; /* workdir/work, O_PATH, that of dir; -1 if there is none */
	struct ldir *dir; /* the same, as the parent of removed directories; owned */
	int base_fd, upper_fd; /* workdir and upperdir, held by flock(2) */
	_Atomic uint64_t counter; /* of temporary names */
	struct lock_mutex whiteout_lock; /* LOCK_RANK_LEAF: guards has_whiteout and whiteout */
	bool has_whiteout; /* `whiteout` exists: new ones are hard links of it */
	_Atomic bool can_link_whiteout; /* the file system has hard links for it */
	char whiteout[WORKDIR_TEMP_MAX];
};

/*
 * Takes the lock, checks for features it does not know, empties and makes `work`, probes what
 * the file system can do, and settles core->ns if @xattrs leaves it open. @basefd and @upperfd
 * are O_PATH descriptors of workdir= and upperdir=, @path is workdir=.  Of a read-only union only
 * the lock is taken.  Returns 0 or -errno with a sentence in @why; workdir_deinit() either way.
 */
int workdir_init(struct core *core, enum core_xattrs xattrs, int basefd, int upperfd,
		 const char *path, struct strbuf *why);
/* True if what was begun to be committed is not all committed yet; or if nobody can tell. */
bool workdir_is_half_done(const struct core *core);
/* Removes what is left, but not what marks a volatile layer; releases the lock. */
void workdir_deinit(struct core *core);
/*
 * Puts a whiteout at @name in @dirfd: a hard link of the shared one where the file system has
 * them. -EEXIST: the name is taken.
 */
int workdir_make_whiteout(struct core *core, int dirfd, const char *name);
/* Removes an object in the work directory, a directory with all that it holds. */
int workdir_discard(struct core *core, const char *temp);
/*
 * The mode of `work` and `index`: nobody but this process has any business in there; without
 * rights of its own, nobody else.
 */
mode_t workdir_mode(const struct core *core);
/* A name that is not in use in the work directory. */
void workdir_temp_name(struct core *core, char name[WORKDIR_TEMP_MAX]);

#endif
