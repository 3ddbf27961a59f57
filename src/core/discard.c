/* SPDX-License-Identifier: MIT */
/*
 * Emptying the upper.
 *
 * What goes is renamed into one directory in the work directory, which takes
 * as long as there are names in the upper's root, and deleted from there later:
 * by us, or by the next mount.  A crash in between leaves some names discarded
 * and others not, and doing it again does the rest (docs/crash.md).
 *
 * What is kept stays where it is, and the directories above it with it, as
 * plain merged ones: what made them hide or borrow something goes, after what
 * is kept in them has been made independent of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "core/clone.h"
#include "core/discard_kept.h"
#include "core/index.h"
#include "core/internal.h"
#include "core/origintable.h"
#include "core/upper.h"
#include "format/redirect.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

_Static_assert(CORE_DISCARD_MAX >= WORKDIR_TEMP_MAX, "a name in the work directory fits");

/* Names in the directory where what goes is collected. */
#define DISCARD_NAME_MAX 24

/* ---- paths that are kept ---- */

/* The rest of a path, below some directory; "" is that directory itself. */
struct discard_rest {
	const char *text;
};

/* What follows @name in @path, if that begins with it; else NULL. */
static const char *discard_behind(const char *path, const char *name)
{
	size_t length = strlen(name);

	if (strncmp(path, name, length) != 0 || (path[length] && path[length] != '/'))
		return NULL;
	return path[length] ? path + length + 1 : path + length;
}

/* One directory of the upper, while it is emptied. */
struct discard_level {
	struct core *core;
	int fd; /* for reading */
	int trash_fd; /* where to */
	uint64_t *moved; /* names given there so far */
	struct discard_rest *rests; /* of what is kept in it */
	size_t rest_count;
	bool is_opaque; /* nothing of the lowers shows in it */
	bool is_redirected; /* what shows in it is elsewhere in the lowers */
	bool progress;
	bool only_looks; /* whether it can be done */
	struct strbuf *why;
};

/* Those of @level's rests that are below @name, into @below; *@is_kept: it is one itself. */
static size_t discard_rests_below(const struct discard_level *level, const char *name,
				  struct discard_rest *below, bool *is_kept)
{
	size_t count = 0;

	*is_kept = false;
	for (size_t i = 0; i < level->rest_count; i++) {
		const char *rest = discard_behind(level->rests[i].text, name);

		if (rest && !*rest)
			*is_kept = true;
		else if (rest)
			below[count++].text = rest;
	}
	return count;
}

/* ---- what something in the upper says of itself ---- */

static bool discard_has(const struct core *core, int dirfd, const char *name,
			enum xattr_private which)
{
	return sys_getxattr_at(dirfd, name, core_key(core, which), NULL, 0) > 0;
}

static bool discard_is_opaque(const struct core *core, int dirfd, const char *name)
{
	char value[4];

	return sys_getxattr_at(dirfd, name, core_key(core, XATTR_OPAQUE), value, sizeof(value)) ==
		       1 &&
	       value[0] == 'y';
}

/* Nothing of a lower belongs to it that the directories above it lead to. */
static bool discard_is_whole(const struct core *core, int dirfd, const char *name, mode_t mode)
{
	char value[PATH_MAX];

	/* What belongs to it is found from the root. */
	if (sys_getxattr_at(dirfd, name, core_key(core, XATTR_REDIRECT), value, sizeof(value)) >
		    0 &&
	    redirect_is_absolute(value))
		return true;
	if (S_ISDIR(mode))
		return discard_is_opaque(core, dirfd, name);
	return !S_ISREG(mode) ||
	       sys_getxattr_at(dirfd, name, core_key(core, XATTR_METACOPY), NULL, 0) < 0;
}

/* An attribute that may not be there. */
static int discard_remove_xattr(int fd, const char *key)
{
	int r = upper_removexattr(fd, key);

	return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r;
}

/* ---- moving ---- */

/* A directory must be writable to move, as its ".." changes: that matters to who is not root. */
static int discard_rename(struct discard_level *level, const char *name, const char *to)
{
	int r = upper_rename(level->fd, name, level->trash_fd, to, 0);

	if (r != -EACCES)
		return r;
	_cleanup_close_ int fd = sys_open(level->fd, name, O_PATH | O_NOFOLLOW, 0);
	struct statx st;

	if (fd < 0)
		return fd;
	if (sys_stat(fd, "", &st) == 0)
		upper_chmod(fd, (st.stx_mode & 07777) | 0700);
	r = upper_rename(level->fd, name, level->trash_fd, to, 0);
	if (r == 0)
		upper_chmod(fd, st.stx_mode & 07777);
	return r;
}

static int discard_move(struct discard_level *level, const char *name)
{
	char to[DISCARD_NAME_MAX];

	if (level->only_looks)
		return 0;
	snprintf(to, sizeof(to), "%llx", (unsigned long long)(*level->moved)++);
	int r = discard_rename(level, name, to);

	if (r < 0 && r != -ENOENT) {
		strbuf_append_format(level->why, "%s cannot be moved away: %s", name, strerror(-r));
		return r;
	}
	level->progress = true;
	return 0;
}

/* Makes what is kept independent of what the directories above it lose. */
static int discard_keep(struct discard_level *level, const char *name)
{
	struct core *core = level->core;
	_cleanup_close_ int fd = sys_open(level->fd, name, O_PATH | O_NOFOLLOW, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	bool is_whole = discard_is_whole(core, level->fd, name, st.stx_mode);

	if (level->is_redirected && !is_whole) {
		strbuf_append_format(level->why,
				     "%s cannot be kept by itself: a directory above it was "
				     "renamed, and part of it is where that was; keep that "
				     "directory, or rename it back",
				     name);
		return -EINVAL;
	}
	if (level->only_looks || !level->is_opaque || !S_ISDIR(st.stx_mode) || is_whole)
		return 0;
	return upper_setxattr(fd, core_key(core, XATTR_OPAQUE), "y", 1, 0);
}

static int discard_empty(struct discard_level *level);

/* Something in the directory @name is kept. */
static int discard_descend(struct discard_level *level, const char *name,
			   struct discard_rest *below, size_t count)
{
	struct core *core = level->core;
	_cleanup_close_ int path = sys_open(level->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	/* No directory: what is to be kept is not there. */
	if (path == -ENOTDIR || path == -ELOOP)
		return discard_move(level, name);
	_cleanup_close_ int fd = path < 0 ? path : sys_reopen(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	bool is_opaque = discard_is_opaque(core, level->fd, name);
	bool is_redirected = discard_has(core, level->fd, name, XATTR_REDIRECT);
	struct discard_level inner = {
		.core = core,
		.fd = fd,
		.trash_fd = level->trash_fd,
		.moved = level->moved,
		.rests = below,
		.rest_count = count,
		.is_opaque = level->is_opaque || is_opaque,
		.is_redirected = !is_opaque && (level->is_redirected || is_redirected),
		.only_looks = level->only_looks,
		.why = level->why,
	};
	int r = discard_empty(&inner);

	if (r == 0 && is_redirected && !level->only_looks)
		r = discard_remove_xattr(path, core_key(core, XATTR_REDIRECT));
	if (r == 0 && is_opaque && !level->only_looks)
		r = discard_remove_xattr(path, core_key(core, XATTR_OPAQUE));
	return r;
}

static int discard_entry(const struct sys_dirent *entry, void *context)
{
	struct discard_level *level = context;
	_cleanup_free_ struct discard_rest *below = NULL;
	bool is_kept;

	if (level->rest_count == 0)
		return discard_move(level, entry->name);
	below = calloc(level->rest_count, sizeof(*below));
	if (!below)
		return -ENOMEM;
	size_t count = discard_rests_below(level, entry->name, below, &is_kept);

	if (is_kept)
		return discard_keep(level, entry->name);
	if (count > 0)
		return discard_descend(level, entry->name, below, count);
	return discard_move(level, entry->name);
}

/* Moving may make getdents skip entries: until nothing moves any more. */
static int discard_empty(struct discard_level *level)
{
	int r = 0;

	do {
		level->progress = false;
		r = sys_dir_for_each(level->fd, discard_entry, level);
	} while (r == 0 && level->progress);
	return r;
}

/* All of a directory that belongs to the format: the index, the table of origins. */
static int discard_empty_table(struct discard_level *like, int path)
{
	if (path < 0)
		return 0;
	_cleanup_close_ int fd = sys_reopen(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	struct discard_level level = *like;

	level.fd = fd;
	level.rest_count = 0;
	return discard_empty(&level);
}

/* In use by this union or not. */
static int discard_index(struct core *core, struct discard_level *level)
{
	_cleanup_close_ int fd = sys_open(core->work.base_fd, INDEX_DIR, O_PATH | O_DIRECTORY, 0);

	return fd < 0 && fd != -ENOENT ? fd : discard_empty_table(level, fd);
}

/* ---- the root ---- */

/* Others stay true: to which lower the index belongs, say. */
static bool discard_is_stale_key(const struct core *core, const char *key)
{
	static const enum xattr_private stale[] = {
		XATTR_OPAQUE, XATTR_IMPURE, XATTR_REDIRECT, XATTR_PROTATTR, XATTR_TIMES,
	};

	for (size_t i = 0; i < ARRAY_SIZE(stale); i++)
		if (!strcmp(key, core_key(core, stale[i])))
			return true;
	return false;
}

/* Attributes that the lower's root does not have, and private ones that mean nothing any more. */
static int discard_root_xattrs(struct core *core, int from, int to)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(to, &list);
	int r = 0;

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : (int)size;
	for (const char *key = list; r == 0 && key < list + size; key += strlen(key) + 1) {
		bool is_ours = xattr_name_is_private(core->ns, key);

		if (is_ours ? discard_is_stale_key(core, key) :
			      sys_getxattr(from, key, NULL, 0) == -ENODATA)
			r = discard_remove_xattr(to, key);
	}
	/* Labels of the system are not ours to take. */
	return r == -EPERM || r == -EACCES ? 0 : r;
}

static int discard_root(struct core *core)
{
	const struct layer *lower = &core->layers[1];
	struct statx st;
	int r = sys_stat(lower->fd, "", &st);
	struct clone_attr clone = {
		.core = core,
		.from = lower->fd,
		.to = core->layers[0].fd,
		.st = &st,
	};

	if (r == 0)
		r = discard_root_xattrs(core, clone.from, clone.to);
	if (r == 0)
		r = clone_attributes(&clone);
	return r < 0 ? r : clone_finish(&clone);
}

/* ---- all of it ---- */

static int discard_all(struct core *core, struct discard_level *level)
{
	bool keeps = level->rest_count > 0;

	level->only_looks = true;
	int r = keeps ? discard_empty(level) : 0;

	level->only_looks = false;
	if (r == 0)
		r = discard_empty(level);
	/* Names of one file that are kept stay links of each other without an entry. */
	if (r == 0)
		r = discard_index(core, level);
	/* Those of what is kept are among the others, and entries of what is gone are only waste. */
	if (r == 0 && !keeps)
		r = discard_empty_table(level, atomic_load(&core->origins_fd));
	return r < 0 ? r : discard_root(core);
}

static int discard_choose(struct core *core, const struct core_discard *discard, int fd,
			  struct discard_kept *kept, struct strbuf *why)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < discard->keep_count; i++)
		r = discard_kept_add(kept, discard->keep[i]);
	if (r == -EINVAL)
		strbuf_append_string(why, "the root cannot be kept: that is everything");
	return r < 0 ? r : discard_kept_add_sources(kept, core, fd, why);
}

static int discard_into(struct core *core, struct core_discard *discard, int trash_fd,
			struct strbuf *why)
{
	_cleanup_close_ int fd = sys_reopen(core->layers[0].fd, O_RDONLY | O_DIRECTORY);
	_cleanup_kept_ struct discard_kept kept = { 0 };
	int r = fd < 0 ? fd : discard_choose(core, discard, fd, &kept, why);
	_cleanup_free_ struct discard_rest *rests = calloc(kept.count + 1, sizeof(*rests));
	uint64_t moved = 0;
	struct discard_level level = {
		.core = core,
		.fd = fd,
		.trash_fd = trash_fd,
		.moved = &moved,
		.rests = rests,
		.rest_count = kept.count,
		.why = why,
	};

	if (r < 0 || !rests)
		return r < 0 ? r : -ENOMEM;
	for (size_t i = 0; i < kept.count; i++)
		rests[i].text = kept.paths[i];
	return discard_all(core, &level);
}

int core_check_discard(const struct core *core, struct strbuf *why)
{
	if (core->read_only)
		strbuf_append_string(why, "nothing can be written here: there is nothing to "
					  "discard");
	else if (core_is_half_done(core))
		strbuf_append_string(why, "a commit was begun and is not finished: part of what it "
					  "moves is here, and part is below; run veneer commit "
					  "again first");
	return core_refuses_changes(core) ? -EROFS : 0;
}

int core_discard(struct core *core, struct core_discard *discard, struct strbuf *why)
{
	int r = core_check_discard(core, why);

	if (r < 0)
		return r;
	workdir_temp_name(core, discard->remains);
	r = upper_mkdir(core->work.fd, discard->remains, 0700);
	_cleanup_close_ int fd =
		r < 0 ? r : sys_open(core->work.fd, discard->remains, O_PATH | O_DIRECTORY, 0);

	if (fd >= 0)
		r = discard_into(core, discard, fd, why);
	else
		r = fd;
	if (r < 0 && !why->length)
		strbuf_append_string(why, strerror(-r));
	return r;
}

int core_discard_remains(struct core *core, const struct core_discard *discard)
{
	return discard->remains[0] ? workdir_discard(core, discard->remains) : 0;
}
