/* SPDX-License-Identifier: MIT */
/*
 * What the files of apply share: the plan, and small things about paths.
 *
 * Paths have no leading slash; "" is the root. A path in the destination as it
 * was before the run is called a source, since it is only good until the first
 * change; a path in the upper and one in the destination after the run are the
 * same.
 */
#ifndef VENEER_OFFLINE_APPLY_INTERNAL_H
#define VENEER_OFFLINE_APPLY_INTERNAL_H

#include <stdlib.h>

#include "offline/apply.h"
#include "offline/entry.h"
#include "offline/hold.h"

/*
 * Names of our own in the destination: objects in preparation, and what is moved out of the way. The
 * id of the run is part of them: what has such a name is this run's, and nobody else's.
 */
#define APPLY_PREFIX ".veneer-commit-"
#define APPLY_STAGE APPLY_PREFIX "%s-moved-%zu"
#define APPLY_ID_MAX 16

#define APPLY_NONE ((size_t)-1)

/* Which object of the destination, and which of the layers below it, something is merged with. */
struct apply_place {
	char *source; /* owned; NULL: nothing of the destination */
	char *below; /* path in the layers below the destination, owned; NULL: nothing of them */
};

#define APPLY_PLACE_INIT ((struct apply_place){ 0 })

/* A directory of the upper. */
struct apply_dir {
	char *path; /* owned */
	struct apply_place place;
	size_t parent; /* index; of the root its own */
	size_t move; /* that brings it here; APPLY_NONE: it is here, or made */
	bool is_written; /* names in it change below; while planning only */
	char *identity; /* of the root of what is mounted there, owned; NULL: nothing is */
};

/* An object of the destination that has to go somewhere else. */
struct apply_move {
	char *source, *stage; /* where it is moved meanwhile, in the destination; owned */
	uint64_t ino;
	uint64_t upper_ino; /* of the file of the upper that has its attributes; 0: a directory */
	size_t to_dir; /* index of the directory that it comes to; while planning only */
	bool is_dir;
	/* A file with names that stay: it does not move itself, but a copy of it is made; or, if all
	 * its names are one file to the union, it gets one more name. */
	bool is_copied, is_linked;
};

/* A file of the upper whose data is below. */
enum apply_meta_kind {
	APPLY_META_HERE, /* in the destination under the same name */
	APPLY_META_MOVED,
	APPLY_META_DEEP, /* further below: it stays without data */
};

struct apply_meta {
	char *path; /* owned */
	enum apply_meta_kind kind;
	size_t move;
	char *source; /* of the data, owned; while planning only */
	char *redirect; /* of APPLY_META_DEEP, owned; NULL: none */
};

/* A name in the destination that becomes a name of a file in the index. */
struct apply_extra {
	char *path, *index_name; /* owned */
	struct timespec parent_mtime;
};

/*
 * Files of the upper with several names: where the first one of each is in the destination, once for
 * each place between which there are no links.
 */
struct apply_groups {
	struct apply_group {
		struct apply_group_key {
			uint64_t dev, ino; /* of the upper's file */
			uint64_t to_mount, to_dev; /* of the destination's directory */
		} key;
		char *path; /* owned; NULL: unused */
	} * slots;
	size_t count, size;
};

struct apply {
	const struct apply_config *config;
	enum xattr_namespace ns;
	struct hold hold, dest_hold;
	int upper_fd, work_fd, dest_fd; /* open for reading */
	int index_fd; /* -1: there is no index */
	int journal_fd; /* the directory; -1: there is none yet */
	char *dest; /* absolute path, owned */
	char *dest_real, *upper_real; /* without symbolic links, for the journal; owned */
	dev_t upper_dev, dest_dev;
	unsigned long long upper_mount, dest_mount;
	bool stays_layer; /* the destination has layers below */
	bool is_unfinished, is_staged, is_merged, is_applied;
	char id[APPLY_ID_MAX + 1]; /* of the run, in hexadecimal digits */
	char temp[sizeof(APPLY_PREFIX) + APPLY_ID_MAX + sizeof("-new")];
	bool is_root_user;
	struct timespec begun; /* nothing of the upper is older than this; 0: not known */
	struct timespec planned; /* when the looking at the destination began */
	struct core *below; /* the layers below the destination; NULL: none */
	struct core *shown; /* of a run to elsewhere: the lowers, to compare with; NULL */

	struct apply_dir *dirs; /* a directory comes after its parent */
	struct apply_move *moves; /* what lies in a directory comes before that directory */
	struct apply_meta *metas;
	struct apply_extra *extras;
	size_t dir_count, move_count, meta_count, extra_count;
	/* Directories of the destination that the user may not empty; while planning only; owned. */
	char **closed;
	size_t closed_count;
	size_t *dirs_by_path, *metas_by_path, *dirs_by_source; /* sorted indices */
	size_t by_source_count;

	uint64_t *indexed; /* inode numbers of the index' entries, sorted */
	size_t indexed_count;
	bool has_outer_names; /* some file in the index has names that are only below */

	struct apply_groups groups;
	/* Files that get append-only or immutable at the end. */
	struct apply_protected {
		char *path;
		unsigned int flags;
	} * protected;
	size_t protected_count;
	/* File systems that were written to, each with a descriptor on it. */
	struct apply_touched {
		dev_t dev;
		int fd;
	} * touched;
	size_t touched_count;

	uint64_t bytes, copied;
	struct strbuf *why; /* of the call that runs */
};

/* Makes room for one more at the end of an array that grows by doubling. */
#define apply_grow(array, count)                                              \
	(((count) & ((count)-1)) != 0 ? 0 : ({                                \
		size_t _size = (count) ? 2 * (count) : 1;                     \
		void *_more = reallocarray((array), _size, sizeof(*(array))); \
		if (_more)                                                    \
			(array) = _more;                                      \
		_more ? 0 : -ENOMEM;                                          \
	}))

/* ---- apply_path.c ---- */

/* Says why it failed, unless something deeper did already; returns @error. */
int apply_fail(struct apply *apply, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "cannot DO PATH: what the error says". */
int apply_fail_path(struct apply *apply, int error, const char *doing, const char *path);
/* "directory/name"; NULL: out of memory. */
char *apply_join(const char *directory, const char *name);
/* Sets *@copy to a copy of @path, NULL if that is. 0 or -ENOMEM. */
int apply_copy_path(const char *path, char **copy);
const char *apply_basename(const char *path);
/* The path of the directory that @path lies in. NULL: out of memory. */
char *apply_parent(const char *path);
/* Opens the object @path below @rootfd, however long it is, following no symbolic link. */
int apply_open_at(int rootfd, const char *path, int flags);
/* A directory for reading. */
int apply_open_dir(int rootfd, const char *path);
/* Opens the directory that @path lies in; *@name is the last component. */
int apply_open_parent(int rootfd, const char *path, const char **name);
void apply_place_deinit(struct apply_place *place);

/* ---- apply_identity.c ---- */

/* Names the run, a new one if @id is NULL. */
int apply_name_run(struct apply *apply, const char *id);
/*
 * Which directory it is (open for reading), in words: of which file system, and which one there. The
 * caller's.
 */
int apply_identify(int fd, char **identity);
int apply_identify_path(const char *path, char **identity);
/* True if @st is of what @move moves; the file system is known to be the right one. */
bool apply_is_moved(const struct apply_move *move, const struct statx *st);
/* Fails unless @name in @dirfd is what @move moves. */
int apply_prove_moved(struct apply *apply, const struct apply_move *move, int dirfd,
		      const char *name);

/* ---- apply_step.c ---- */

/* What a name leads to below the upper. */
struct apply_step {
	struct apply_place place;
	struct entry low; /* in the destination; valid if is_there */
	bool is_there; /* the destination has it, and not as a whiteout */
	bool is_whiteout; /* the destination says that it does not exist */
};

#define APPLY_STEP_INIT ((struct apply_step){ 0 })

void apply_step_deinit(struct apply_step *step);
#define _cleanup_step_ _cleanup_(apply_step_deinit)

/* One name in @parent, of which @dirfd is the destination's directory, -1 if it has none. */
int apply_step(struct apply *apply, int dirfd, const struct apply_place *parent, const char *name,
	       struct apply_step *step);
/* The same for a redirect, which may be absolute. */
int apply_resolve(struct apply *apply, int dirfd, const struct apply_place *parent,
		  const char *redirect, struct apply_step *step);
/* True if the layers below the destination show @path. -errno. */
int apply_below_has(struct apply *apply, const char *path);
/* Where an object that merges with @below under @name has to say so: its redirect. NULL: it is
 * the same name; *@is_opaque: nothing of what is there. 0 or -ENOMEM. */
int apply_mark(const struct apply_place *parent, const char *name, const char *below,
	       bool *is_opaque, char **redirect);

/* ---- apply_plan.c, apply_plan_file.c ---- */

/* A name of the upper that is being planned. */
struct apply_visit {
	struct apply *apply;
	size_t dir; /* index of the directory it is in */
	int upper_fd, source_fd; /* of that directory; source_fd -1: none */
	const char *name;
	char *path; /* owned */
	struct entry up;
	struct apply_step step; /* of the name itself */
};

int apply_plan_file(struct apply_visit *visit);
/* Adds a move of the destination's object @step to the name that is visited; *@move is its index. */
int apply_add_move(struct apply_visit *visit, const struct apply_step *step, size_t *move);
void apply_tell(struct apply *apply, enum apply_verb verb, const char *path, const char *from,
		uint64_t bytes);

/* ---- apply_moves.c ---- */

/* After all directories are known: orders the moves, names their stages, and refuses what cannot
 * be moved. */
int apply_plan_moves(struct apply *apply);
/*
 * Where the union shows the destination's @source now; *@path is NULL if it does not, because the
 * upper has something else there. The caller's.
 */
int apply_find_shown(struct apply *apply, const char *source, char **path);

/* ---- apply_links.c ---- */

/* Reads the index, and finds the names that files in it have only below. */
int apply_read_index(struct apply *apply);
int apply_plan_links(struct apply *apply);
bool apply_is_indexed(const struct apply *apply, const struct statx *st);

/* ---- apply_check.c ---- */

/* Complains if @visit's object below was changed after the upper's was made. */
int apply_check_visit(struct apply_visit *visit);
/* The same for all that lies in a directory of the destination that is to go. */
int apply_check_hidden(struct apply_visit *visit);
int apply_check_root(struct apply *apply);
void apply_complain(struct apply *apply, const char *path, const char *what);

/* ---- apply_recheck.c ---- */

/* Of an unfinished run: complains of what others changed where it is not merged yet. */
int apply_recheck(struct apply *apply);

/* ---- apply_ready.c ---- */

/* Refuses what will not let the directory of the plan be changed below, where it is @source_fd. */
int apply_check_ready(struct apply *apply, size_t dir, int upper_fd, int source_fd);
/* The same for the directories that get names which only the index knows. */
int apply_check_extras_ready(struct apply *apply);
/* Notes a directory that goes with what it lies in, if the user cannot empty it. */
int apply_note_closed(struct apply *apply, int fd, const char *source);
/* After the moves are known: refuses if one of these is not moved out before. */
int apply_check_closed(struct apply *apply);

/* ---- apply_table.c ---- */

/* Builds the sorted tables. 0 or -ENOMEM. */
int apply_build_tables(struct apply *apply);
/* Index of the directory, or APPLY_NONE. */
size_t apply_find_dir(const struct apply *apply, const char *path);
/* Of the directory of the upper that merges with @source. */
size_t apply_find_by_source(const struct apply *apply, const char *source);
struct apply_meta *apply_find_meta(const struct apply *apply, const char *path);
const char *apply_group_find(const struct apply_groups *groups, const struct apply_group_key *key);
/* In the place of what was told for @key before. */
int apply_group_set(struct apply_groups *groups, const struct apply_group_key *key,
		    const char *path);
void apply_groups_deinit(struct apply_groups *groups);
void apply_plan_deinit(struct apply *apply);

/* ---- apply_journal.c ---- */

/*
 * Opens a directory of the work directory for reading, which is made if @make. The mode that it has may
 * keep its ordinary owner out; then it is given another.
 */
int apply_open_work(int dirfd, const char *name, bool make);
/* Looks for an unfinished run; loads its plan. */
int apply_journal_find(struct apply *apply);
int apply_journal_write(struct apply *apply);
/* Notes that a stage of the run is complete and on the disk. */
int apply_journal_mark(struct apply *apply, const char *name);
int apply_journal_remove(struct apply *apply);
#define APPLY_MARK_STAGED "staged"
#define APPLY_MARK_MERGED "merged"
#define APPLY_MARK_APPLIED "applied"

/* ---- apply_attr.c ---- */

/* Attributes of one object made those of another. */
struct apply_attr {
	struct apply *apply;
	int from, to; /* O_PATH will do */
	const struct statx *st; /* of from */
	bool is_final; /* the exact mode; else the owner may do all, so that the rest can be done */
};

/* Owner, extended attributes, flags that protect nothing, mode. */
int apply_attr_copy(const struct apply_attr *attr);
/* Times; of a directory only that of its last change. */
int apply_attr_times(int to, const struct statx *st);
/* FS_APPEND_FL and FS_IMMUTABLE_FL as the union shows them for the upper's object @fd. */
unsigned int apply_attr_protection(struct apply *apply, int fd);
int apply_attr_protect(int fd, unsigned int flags);
/* Takes append-only and immutable off; true if there was one. */
bool apply_attr_unprotect(int fd);
/* Takes all private attributes off an object of the upper. */
int apply_attr_strip(struct apply *apply, int fd);
/*
 * True if the extended attributes that the union shows of the upper's object @from are those of the
 * destination's object @to.
 */
bool apply_attr_is_equal(struct apply *apply, int from, int to);
/* True if the upper's object has an attribute that the destination has under another name. */
int apply_attr_is_escaped(struct apply *apply, int fd);

/* ---- apply_publish.c ---- */

/* Removes @name in @dirfd, whatever it is, through apply->temp. Nothing there is fine. */
int apply_remove(struct apply *apply, int dirfd, const char *name);
/* Removes a tree right where it is; fails at what is mounted in it. */
int apply_remove_tree(struct apply *apply, int dirfd, const char *name);
/* Puts @from in @fromfd in the place of @name in @dirfd, in one step, and removes what was there. */
int apply_publish(struct apply *apply, int fromfd, const char *from, int dirfd, const char *name);
/* One more name for @oldname in @olddirfd: in place of @name. */
int apply_publish_link(struct apply *apply, int olddirfd, const char *oldname, int dirfd,
		       const char *name);
/* A whiteout in place of @name. */
int apply_publish_whiteout(struct apply *apply, int dirfd, const char *name);

/* ---- apply_file.c ---- */

/* A file of the upper (or of the index) and its place in the destination. */
struct apply_job {
	struct apply *apply;
	int fromfd, dirfd; /* the directories */
	const char *from, *name;
	const char *path; /* of the name in the destination */
	struct entry up;
	int fd; /* O_PATH of the upper's object */
};

int apply_file(struct apply *apply, const struct apply_job *where);

/* ---- apply_merge.c ---- */

int apply_stage_moves(struct apply *apply);
int apply_merge(struct apply *apply);
int apply_empty_upper(struct apply *apply);
/* Notes that the file system of @fd is written to. */
int apply_touch(struct apply *apply, int fd);
int apply_sync(struct apply *apply);

#endif
