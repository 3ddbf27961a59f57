/* SPDX-License-Identifier: MIT */
/*
 * The union as other rooms see it: an object made from layers, and the file
 * operations on it.  Knows nothing of FUSE.
 *
 * Nodes are named by 64-bit ids (base/idtable.h); CORE_ROOT is the root.  Every
 * function that returns an entry gives the caller one lookup reference on its
 * node, which core_forget() takes back.  All functions are thread safe and may
 * block on I/O; only those that say so wait for a whole file to be copied.
 *
 * Errors are -errno, fit for the kernel: besides what each function lists,
 * -ESTALE (no such node, or the layers were changed underneath), -ENOMEM, -EIO
 * and whatever the layers' file systems answer.
 */
#ifndef VENEER_CORE_CORE_H
#define VENEER_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/strbuf.h"
#include "format/lowerdir.h"

#define CORE_ROOT UINT64_C(1)

struct core;

/* ---- making a union ---- */

enum core_redirect {
	CORE_REDIRECT_ON, /* write and follow */
	CORE_REDIRECT_FOLLOW, /* follow what is there */
	CORE_REDIRECT_NOFOLLOW, /* meeting one is -EPERM */
};

enum core_fsync {
	CORE_FSYNC_AUTO, /* data that is copied up is on disk before it is published */
	CORE_FSYNC_STRICT, /* so are directories and metadata */
	CORE_FSYNC_VOLATILE, /* nothing is ever synced; work/incompat/volatile marks the layer */
};

enum core_index {
	CORE_INDEX_OFF,
	CORE_INDEX_AUTO, /* hard links of a lower stay hard links, where the layers allow it */
	CORE_INDEX_ON, /* or the mount fails */
};

/* Digests of metacopy files' data, where both have fs-verity. */
enum core_verity {
	CORE_VERITY_OFF,
	CORE_VERITY_ON, /* checked where there is one, written where there can be one */
	CORE_VERITY_REQUIRE, /* no metacopy file without */
};

enum core_xattrs {
	CORE_XATTRS_AUTO, /* trusted.* if it can be had, else user.* */
	CORE_XATTRS_TRUSTED,
	CORE_XATTRS_USER,
};

struct core_config {
	struct lowerdir_list lowers; /* top first, data-only layers last; borrowed for core_new() */
	const char *upperdir, *workdir; /* both or neither */
	enum core_redirect redirect;
	enum core_fsync fsync;
	bool no_user_redirect; /* no redirects if private attributes turn out to be user.* */
	enum core_index index;
	enum core_xattrs xattrs;
	bool metacopy; /* follow metacopy files */
	enum core_verity verity;
	bool metacopy_write; /* a change of metadata copies metadata only; takes metacopy */
	bool read_only; /* nothing is written to upper or work, not even at mount */
	bool unlocked; /* with read_only: a look at layers that others may be using */
	bool static_nlink; /* every directory reports st_nlink 1 */
	bool noatime; /* reading does not touch the upper's atime */
	bool layers_change; /* others edit the layers: check each known name again on lookup */
	bool watch; /* others edit the layers: core_watch_run() tells what they did */
	/* Lowers include what is mounted below them now; takes the right to clone mounts, unless... */
	bool cross_mounts;
	bool at_rest; /* ... it will not be mounted, and so is not among them itself */
	bool nfs_export; /* file handles: remember any number of forgotten nodes, not only some */
	unsigned int max_fds; /* budget of cached descriptors; 0: from RLIMIT_NOFILE */
};

/*
 * Opens the layers, checks them as kernel overlayfs does, locks and cleans the work directory.
 * Returns 0 with *@corep, or -errno with a sentence for the user in @why that names the path
 * and the way out: -EINVAL, -ENOENT, -ENOTDIR, -ELOOP (overlapping layers), -EBUSY (upper or
 * work in use), -EPERM, ...
 */
int core_new(const struct core_config *config, struct core **corep, struct strbuf *why);
/* Syncs the upper (unless volatile) and lets go of everything; returns NULL. No call may run. */
struct core *core_free(struct core *core);

/*
 * From here on mutations count for the fault injection of the tests (core/upper.h): called when
 * the mount is live. Does nothing in an ordinary build.
 */
void core_faults_arm(void);

/*
 * Passthrough: who has a file of the upper open reads and writes it without asking. All who have
 * it open at once do so by the same number, or none does.
 */
struct core_backing {
	/* A number above 0 for the open file @fd, which stays the caller's; or -errno: not this
	 * one. Called with locks held: must not block, nor call the core. */
	int (*open)(void *context, int fd);
	void (*close)(void *context, int backing);
	void *context;
};

/* Before the first call; @backing is borrowed. */
void core_set_backing(struct core *core, const struct core_backing *backing);

/*
 * How many nodes there may be before those that hold references on them, which they can do
 * without, are to give some back.
 */
struct core_budget {
	uint64_t max_nodes; /* 0: no limit */
	/* There are more: core_prune() is due. Any thread, with locks held: must not block. */
	void (*exceeded)(void *context);
	void *context;
};

/* Before the first call. */
void core_set_budget(struct core *core, const struct core_budget *budget);
/* Asks for core_forget() of the nodes @ids, where they are not in use. Not 0: no more of it. */
typedef int core_prune_fn(void *context, const uint64_t *ids, unsigned int count);
/*
 * Calls @prune for nodes that nobody has asked for in a while, as many as there are too many. No
 * lock is held meanwhile. One thread at a time; exceeded() is not called again before its end.
 * 0, or what @prune returned.
 */
int core_prune(struct core *core, core_prune_fn *prune, void *context);
/* How many nodes there are now. */
uint64_t core_node_count(const struct core *core);

/*
 * In a quiet moment: closes what can be opened again, so that no file system is kept busy, and gives
 * back memory that is kept for what may come.
 */
void core_trim(struct core *core);

/* True if nothing can be written (no upper, or read_only). */
bool core_is_read_only(const struct core *core);
/* True if a commit that is not finished was found by core_resume(): changes are -EROFS since. */
bool core_is_half_done(const struct core *core);
/*
 * Before the first call: files are changed without core_open() before. What that would have
 * refused is refused to the change. Takes core_can_reopen().
 */
void core_do_without_open(struct core *core);
/* True if every file that could be opened once can be opened again, whoever it belongs to, so
 * that nothing hangs on core_open() and core_release(). */
bool core_can_reopen(const struct core *core);
/* True if a layer whose files may be passed through (the upper's; all of a union that nothing
 * changes) is on a file system that lies on other ones. */
bool core_passes_stacked(const struct core *core);
/* True if user.overlay.* is in use. */
bool core_uses_user_xattrs(const struct core *core);

/* ---- calls ---- */

/* Who asks, and how to learn that they gave up waiting. */
struct core_call {
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool (*is_interrupted)(void *context); /* may be NULL */
	/* Asked in the rare case that it matters: is the group one of the supplementary ones? */
	bool (*has_group)(void *context, gid_t gid); /* may be NULL */
	void *context;
};

struct core_entry {
	uint64_t node; /* 0: the name does not exist (a fact, not an error) */
	struct statx attr;
};

/* Looks @name up in directory @parent. Absence is node 0. -ENAMETOOLONG, -ENOTDIR. */
int core_lookup(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		struct core_entry *entry);
/*
 * For file handles, which are held longer than references: the object that has or had the id
 * @node, and the directory it is in. -ESTALE: there is no such object any more, or it was
 * forgotten for too long (config.nfs_export).
 */
int core_lookup_self(struct core *core, uint64_t node, struct core_entry *entry);
int core_lookup_parent(struct core *core, uint64_t node, struct core_entry *entry);
/* Takes back @count lookup references; more than were given are ignored. */
void core_forget(struct core *core, uint64_t node, uint64_t count);

int core_getattr(struct core *core, uint64_t node, struct statx *attr);
/* The same; what costs more is there if @mask asks for it: STATX_BTIME. */
int core_statx(struct core *core, uint64_t node, unsigned int mask, struct statx *attr);

enum core_set {
	CORE_SET_MODE = 1 << 0,
	CORE_SET_UID = 1 << 1,
	CORE_SET_GID = 1 << 2,
	CORE_SET_SIZE = 1 << 3,
	CORE_SET_ATIME = 1 << 4,
	CORE_SET_MTIME = 1 << 5,
	CORE_SET_KILL_SUIDGID = 1 << 6, /* a truncation by someone who may not keep them */
};

struct core_setattr {
	unsigned int mask; /* CORE_SET_* */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	struct timespec atime, mtime; /* tv_nsec may be UTIME_NOW */
};

/* Changes attributes and returns the new ones. Copies up. -EPERM: immutable, append-only. */
int core_setattr(struct core *core, const struct core_call *call, uint64_t node,
		 const struct core_setattr *set, struct statx *attr);
/* Target into @buf, not NUL-terminated; returns its length. -EINVAL: not a symbolic link. */
ssize_t core_readlink(struct core *core, uint64_t node, char *buf, size_t size);

/* ---- names ---- */

/*
 * Creates the regular file and opens it with @flags (as core_open). -EEXIST if the name exists.
 * @mode has its file type and is not yet masked by call->umask (a default ACL may replace it);
 * so for the other creating calls.
 */
int core_create(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		mode_t mode, int flags, struct core_entry *entry, int *backing);
/* O_TMPFILE: a file without a name, open. */
int core_tmpfile(struct core *core, const struct core_call *call, uint64_t parent, mode_t mode,
		 int flags, struct core_entry *entry, int *backing);
int core_mkdir(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
	       mode_t mode, struct core_entry *entry);
/* Also regular files. -EPERM for a character device 0:0, which would be a whiteout. */
int core_mknod(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
	       mode_t mode, dev_t rdev, struct core_entry *entry);
int core_symlink(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		 const char *target, struct core_entry *entry);
/* New name for @node, which is copied up first. */
int core_link(struct core *core, const struct core_call *call, uint64_t node, uint64_t parent,
	      const char *name, struct core_entry *entry);
int core_unlink(struct core *core, const struct core_call *call, uint64_t parent, const char *name);
int core_rmdir(struct core *core, const struct core_call *call, uint64_t parent, const char *name);
/*
 * @flags: RENAME_NOREPLACE, RENAME_EXCHANGE. -EXDEV: a directory that lowers hold and no
 * redirects; -EINVAL: RENAME_WHITEOUT, as on kernel overlayfs.
 */
int core_rename(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		uint64_t new_parent, const char *new_name, unsigned int flags);

/* ---- data ---- */

/*
 * Opens for O_RDONLY, O_WRONLY or O_RDWR (O_TRUNC is the caller's to ask for by core_setattr).
 * Nothing is copied up: the first change does that. Data belongs to the node; an open only
 * keeps it reachable. *@backing: what core_backing.open() returned for the data file, by which
 * this open reads and writes until core_release(); else by core_read() and core_write(): 0, or
 * CORE_BACKING_BESIDE if others may have written to the file without the kernel's page cache.
 */
#define CORE_BACKING_BESIDE (-1)
int core_open(struct core *core, const struct core_call *call, uint64_t node, int flags,
	      int *backing);
/* Puts data into the kernel's cache of @node, which is of @size bytes at @offset. 0 or -errno. */
typedef int core_store_fn(void *context, uint64_t node, uint64_t offset, const void *data,
			  size_t size);
/*
 * After core_open() for writing, before the kernel knows of it: stores what a first write is likely
 * to touch, if that may take long and nobody else has the file open. (core/warm.c has why.)
 */
void core_warm(struct core *core, uint64_t node, core_store_fn *store, void *context);
void core_release(struct core *core, uint64_t node);
/* The same of one who had opened it for writing. */
void core_release_writer(struct core *core, uint64_t node);
/* Bytes read, less than @size only at the end of the file. @keep_atime: as with O_NOATIME. */
ssize_t core_read(struct core *core, uint64_t node, void *buf, size_t size, uint64_t offset,
		  bool keep_atime);
/*
 * Writes all of @size or fails (-ENOSPC, -EDQUOT, -EFBIG, ...; a short count if some was
 * written). Copies up first, which may wait: -EINTR when interrupted.
 */
enum core_write_flag {
	CORE_WRITE_KILL_SUIDGID = 1 << 0, /* the writer may not keep set-id bits */
	/* The writer appends: @offset is where he takes the end to be. */
	CORE_WRITE_APPEND = 1 << 1,
};

ssize_t core_write(struct core *core, const struct core_call *call, uint64_t node, const void *buf,
		   size_t size, uint64_t offset, unsigned int flags);
int core_fallocate(struct core *core, const struct core_call *call, uint64_t node, int mode,
		   uint64_t offset, uint64_t length);
/* SEEK_DATA, SEEK_HOLE; returns the offset. */
off_t core_seek(struct core *core, uint64_t node, off_t offset, int whence);
/* Bytes copied. */
ssize_t core_copy_range(struct core *core, const struct core_call *call, uint64_t from,
			uint64_t from_offset, uint64_t to, uint64_t to_offset, size_t size);
/* To the disk: data (and metadata unless @data_only). A file still in a lower needs nothing. */
int core_fsync(struct core *core, uint64_t node, bool data_only);

/* FS_IOC_GETFLAGS, SETFLAGS. */
int core_get_fsflags(struct core *core, uint64_t node, unsigned int *flags);
int core_set_fsflags(struct core *core, const struct core_call *call, uint64_t node,
		     unsigned int flags);

/* ---- directories ---- */

struct core_dirent {
	const char *name; /* NUL-terminated */
	size_t name_length;
	uint64_t ino; /* equal to st_ino */
	uint64_t offset; /* pass to core_readdir() to go on after this entry */
	unsigned char type; /* DT_* */
	/* With lookup: the entry and a reference on it; node 0 for "." and "..", or if it
	 * could not be looked up. */
	struct core_entry entry;
};

/*
 * What the kernel may do with entries that it was given: it goes on from its own copy with a
 * cookie of one handle where another was, so all must mean the same by it.
 */
enum core_dircache {
	CORE_DIRCACHE_NONE, /* not keep them */
	CORE_DIRCACHE_FRESH, /* keep what it reads from now on, but not what it has */
	CORE_DIRCACHE_KEEP, /* use what it has */
};

/* An open directory; *@handle is an id. */
int core_opendir(struct core *core, uint64_t node, uint64_t *handle, enum core_dircache *cache);
void core_releasedir(struct core *core, uint64_t handle);
/* Which entries of a directory, and what of them. */
struct core_dirread {
	uint64_t handle;
	uint64_t offset; /* the ones after this; 0: from the start, freshly read */
	bool lookup; /* looked up as well */
	unsigned int plain; /* but not the first so many that are no directories */
};

/*
 * Calls @emit for entries until it returns false, which takes that entry back, or the directory
 * ends. 0 or -errno.
 */
int core_readdir(struct core *core, const struct core_call *call, const struct core_dirread *read,
		 bool (*emit)(void *context, const struct core_dirent *entry), void *context);
int core_fsyncdir(struct core *core, uint64_t node, bool data_only);

/* ---- extended attributes ---- */

/* Size of the value; with @size 0 only that. -ENODATA, -ERANGE, -EOPNOTSUPP. */
ssize_t core_getxattr(struct core *core, uint64_t node, const char *key, void *value, size_t size);
/* Names separated by NUL; the format's own are left out, and trusted.* for all but root. */
ssize_t core_listxattr(struct core *core, const struct core_call *call, uint64_t node, char *list,
		       size_t size);
/* @flags: XATTR_CREATE, XATTR_REPLACE. @kill_sgid: an ACL set by someone outside the group. */
int core_setxattr(struct core *core, const struct core_call *call, uint64_t node, const char *key,
		  const void *value, size_t size, int flags, bool kill_sgid);
int core_removexattr(struct core *core, const struct core_call *call, uint64_t node,
		     const char *key);

/* ---- what others change in the layers, if config.watch ---- */

/*
 * Who is to forget what is said of a node or a name. Called with no lock held, in the thread of
 * core_watch_run(), and only for what others than this process changed.
 */
struct core_watcher {
	/*
	 * Around each look at the layers, where these may be changed under a live union: holds that
	 * off. May be NULL.
	 */
	void (*enter)(void *context);
	void (*leave)(void *context);
	/* @name in @parent may lead elsewhere, or exist now, or no more. */
	void (*name)(void *context, uint64_t parent, const char *name);
	/* Attributes alone; must wait for nothing. Of core_resume() only. */
	void (*attributes)(void *context, uint64_t node);
	/* Attributes, content, a directory's names. */
	void (*node)(void *context, uint64_t node);
	void *context;
};

/* To be polled for reading; -1: nothing is watched. */
int core_watch_fd(const struct core *core);
/* Deals with a bufferful of what has come. One thread at a time. 0 or -errno. */
int core_watch_run(struct core *core, const struct core_watcher *watcher);

/* ---- layers that change under a live union ---- */

/* What is going to happen to them. */
enum core_change {
	/* The upper is emptied: of what is found then under a known name, only what has its inode
	 * number is the object that was known. */
	CORE_CHANGE_DISCARD,
	/* Objects move from one layer to another and keep their names: what is found then under a
	 * known name, if it is of the same type, is the object that was known. */
	CORE_CHANGE_COMMIT,
};

struct core_pause;

/*
 * Between calls: none may run from here to core_resume(), but core_forget(), those that report, and
 * core_trim(). What is in use stays usable even if nothing leads to it afterwards. One at a time.
 * Returns 0, -ENOMEM, or, for a commit, -EBUSY: @written files are open that are written to past us
 * (struct core_backing), which nobody could tell that their file is another one.
 */
int core_pause(struct core *core, enum core_change change, struct core_pause **pausep,
	       unsigned int *written);
/*
 * The layers are what they are now; if a commit of them has only half happened, nothing is changed
 * in them until the same call finds it finished. Every known object finds its parts anew; one that is not there
 * any more is as if removed, as is one that is open by a backing: those keep their file. Says whose
 * attributes are to be forgotten before anybody goes on.
 */
void core_resume(struct core *core, struct core_pause *pause, const struct core_watcher *watcher);
/*
 * With calls running again: says who is to forget what (names and nodes).
 * Frees @pause.
 */
void core_pause_end(struct core *core, struct core_pause *pause,
		    const struct core_watcher *watcher);

#define CORE_DISCARD_MAX 24
/* Between core_pause() and core_resume(), or without any call before or after. */
struct core_discard {
	char *const *keep; /* paths in the union that stay, with what is below; borrowed */
	size_t keep_count;
	char remains[CORE_DISCARD_MAX]; /* what is to be deleted yet; "" */
};

/* 0, or -EROFS with a sentence in @why: nothing can be discarded, as things are. */
int core_check_discard(const struct core *core, struct strbuf *why);
/*
 * Takes all that the upper holds away, except what is to be kept and the directories above that.
 * It is in the work directory afterwards: core_discard_remains() deletes it, at any time. 0, or
 * -errno with a sentence in @why: -EROFS, -EINVAL: something cannot be kept as it is (nothing was
 * done); else part of it may have been done, and doing it again does the rest.
 */
int core_discard(struct core *core, struct core_discard *discard, struct strbuf *why);
int core_discard_remains(struct core *core, const struct core_discard *discard);

/* ---- where an object comes from ---- */

/* A real object. */
struct core_part {
	unsigned int layer; /* of core_get_layer() */
	const char *path; /* in the layer, without a leading slash; borrowed */
};

struct core_origin {
	mode_t type; /* S_IFMT bits */
	bool is_copied_up; /* it is in the upper, and is of something in a lower */
	bool is_metacopy; /* its data lies apart */
	/* The topmost one, which has its attributes; for a directory all that merge, top first;
	 * for other objects at most one more, which has the data, if it lies apart. */
	const struct core_part *parts;
	unsigned int count;
};

/*
 * Calls @visit with what the path from the root, "a/b", leads to; symbolic links are not followed. 0
 * or -errno: -ENOENT, -ENOTDIR, ...
 */
int core_which(struct core *core, const char *path,
	       void (*visit)(void *context, const struct core_origin *origin), void *context);

/* Of the upper (of the top lower if there is none); f_namemax is the largest of all layers. */
int core_statfs(struct core *core, struct statvfs *st);

/* ---- what a union is made of and holds: for reports, from any thread, at any time ---- */

enum core_layer_kind {
	CORE_LAYER_UPPER,
	CORE_LAYER_LOWER,
	CORE_LAYER_DATA,
};

struct core_layer {
	enum core_layer_kind kind;
	const char *path; /* as it was given; borrowed */
	dev_t dev;
	long magic; /* of its file system: f_type of statfs(2) */
};

unsigned int core_layer_count(const struct core *core);
/* @index: 0 is the topmost. */
void core_get_layer(const struct core *core, unsigned int index, struct core_layer *info);

/* What is in force, which the layers had a say in. */
struct core_settings {
	enum core_redirect redirect;
	enum core_fsync fsync;
	enum core_verity verity;
	bool has_index;
	bool metacopy, metacopy_write; /* followed; written as well */
	bool uses_user_xattrs;
	bool read_only, static_nlink, noatime, layers_change;
	bool cross_mounts;
};

void core_get_settings(const struct core *core, struct core_settings *settings);

struct core_counts {
	uint64_t nodes, nodes_max; /* objects the kernel knows, and their budget; 0: none */
	uint64_t open_dirs;
	unsigned int fds, fds_max; /* cached descriptors, and their budget */
	unsigned int orphan_fds, orphan_fds_max; /* of what is removed but still in use */
	size_t name_index_bytes, name_index_bytes_max; /* of which names are in which lowers */
	uint64_t copyups, copyup_bytes; /* since the mount, and the data that they brought */
};

void core_get_counts(struct core *core, struct core_counts *counts);

enum core_copyup_phase {
	CORE_COPYUP_COPYING,
	CORE_COPYUP_FINISHING, /* the data is copied: to the disk with it, and to its name */
};

struct core_copyup {
	const char *path; /* in the union, from its root; NULL: it has no name any more */
	enum core_copyup_phase phase;
	uint64_t done, size; /* bytes of data */
	uint64_t elapsed_ms;
};

/* Calls @visit for every copy-up under way. No lock is held meanwhile. 0 or -ENOMEM. */
int core_copyups(struct core *core, void (*visit)(void *context, const struct core_copyup *copyup),
		 void *context);

#endif
