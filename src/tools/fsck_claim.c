/* SPDX-License-Identifier: MIT */
#include "tools/fsck_claim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "format/redirect.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "tools/fsck_below.h"
#include "tools/fsck_object.h"
#include "tools/fsck_raise.h"
#include "tools/fsck_walk.h"

/* ---- the list ---- */

int fsck_claim_add(struct fsck_walk *walk)
{
	struct fsck_claims *claims = &walk->fsck->claims;
	_cleanup_strbuf_ struct strbuf lower = STRBUF_INIT;
	struct fsck_claim *more = claims->items;

	/* Grows by doubling: full whenever the count is a power of two. */
	if ((claims->count & (claims->count - 1)) == 0)
		more = reallocarray(more, claims->count ? 2 * claims->count : 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	claims->items = more;
	fsck_walk_lower_path(walk, &lower);
	struct fsck_claim claim = {
		.target = fsck_walk_dir(walk)->below.ino,
		.upper = strdup(walk->path.data + strlen(walk->fsck->target.upper)),
		.lower = strbuf_take(&lower),
	};

	if (!claim.upper || !claim.lower) {
		free(claim.upper);
		free(claim.lower);
		return -ENOMEM;
	}
	more[claims->count++] = claim;
	return 0;
}

void fsck_claims_clear(struct fsck_claims *claims)
{
	for (size_t i = 0; i < claims->count; i++) {
		free(claims->items[i].upper);
		free(claims->items[i].lower);
	}
	free(claims->items);
	*claims = (struct fsck_claims){ 0 };
}

/* By target; of several the first by name comes first, and keeps it. */
static int fsck_claim_compare(const void *a, const void *b)
{
	const struct fsck_claim *left = a, *right = b;

	if (left->target != right->target)
		return left->target < right->target ? -1 : 1;
	return strcmp(left->upper, right->upper);
}

/* The first claim on @target, or the end of the list. */
static size_t fsck_claims_find(const struct fsck_claims *claims, uint64_t target)
{
	size_t low = 0, high = claims->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (claims->items[middle].target < target)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---- places in the upper ---- */

/* Opens the directory @path of the upper; a path may be longer than one call takes. */
static int fsck_place_open(struct fsck *fsck, const char *path)
{
	_cleanup_close_ int at = sys_reopen(fsck->upper_fd, O_RDONLY | O_DIRECTORY);
	const char *cursor = path, *component;
	size_t length;

	while (at >= 0 && (length = redirect_next(&cursor, &component))) {
		char name[NAME_MAX + 1];

		memcpy(name, component, length);
		name[length] = '\0';
		int next = sys_open(at, name, O_RDONLY | O_DIRECTORY, 0);

		close(at);
		at = next;
	}
	return at < 0 ? at : fd_take(&at);
}

enum fsck_place {
	FSCK_PLACE_ABSENT, /* what is below shows */
	FSCK_PLACE_MERGED, /* a directory that merges with it */
	FSCK_PLACE_HIDES,
};

/* What the directory @dirfd of the upper does with what is below under @name. */
static enum fsck_place fsck_place_look(struct fsck *fsck, int dirfd, const char *name)
{
	_cleanup_fsck_object_ struct fsck_object object = {
		.fsck = fsck,
		.dirfd = dirfd,
		.name = name,
	};
	char value[FSCK_VALUE_MAX + 1];
	int r = fsck_object_read(&object);

	if (r < 0)
		return r == -ENOENT ? FSCK_PLACE_ABSENT : FSCK_PLACE_HIDES;
	if (!S_ISDIR(object.st.stx_mode) || fsck_object_has(&object, XATTR_REDIRECT))
		return FSCK_PLACE_HIDES;
	ssize_t size = fsck_object_get(&object, XATTR_OPAQUE, value);

	return size >= 0 && opaque_parse(value, (size_t)size) == OPAQUE_YES ? FSCK_PLACE_HIDES :
									      FSCK_PLACE_MERGED;
}

/* ---- is the target seen elsewhere? ---- */

/*
 * The directories of the upper that merge with one of the lowers: by its name, and by redirects. One
 * in a sound layer.
 */
struct fsck_mergers {
	char **paths; /* owned */
	size_t count;
};

static void fsck_mergers_deinit(struct fsck_mergers *mergers)
{
	for (size_t i = 0; i < mergers->count; i++)
		free(mergers->paths[i]);
	free(mergers->paths);
}

/* Takes @path. */
static int fsck_mergers_add(struct fsck_mergers *mergers, char *path)
{
	char **more = path ? reallocarray(mergers->paths, mergers->count + 1, sizeof(*more)) : NULL;

	if (!more) {
		free(path);
		return -ENOMEM;
	}
	mergers->paths = more;
	more[mergers->count++] = path;
	return 0;
}

/* What @check is called for: @dirfd merges with the target's parent. */
struct fsck_uncovered {
	struct fsck *fsck;
	const struct fsck_claim *claim;
	struct fsck_below at; /* of the lowers: where the way to the target has come to */
	struct fsck_mergers mergers; /* with that */
};

/* "@path/@name", the caller's. */
static char *fsck_join(const char *path, const char *name)
{
	struct strbuf joined = STRBUF_INIT;

	strbuf_append_string(&joined, path);
	strbuf_append_string(&joined, "/");
	strbuf_append_string(&joined, name);
	return strbuf_take(&joined);
}

/* A repair put something into the directory @dirfd, whose times are to be as they were: @before. */
static void fsck_place_settle(struct fsck *fsck, int dirfd, const struct statx *before, int result)
{
	const struct timespec times[2] = {
		{ before->stx_atime.tv_sec, before->stx_atime.tv_nsec },
		{ before->stx_mtime.tv_sec, before->stx_mtime.tv_nsec },
	};

	fsck_settle(fsck, result < 0 ? result : sys_utimens(dirfd, times));
}

/*
 * What is below @name shows in the directory @dirfd (@path) of the upper, which has nothing there: the
 * moved directory shows in it, and can be hidden only if the upper has it. True: it has it now.
 */
static bool fsck_uncovered_raise(struct fsck_uncovered *way, const struct fsck_below *below,
				 int dirfd, const char *path, const char *name)
{
	struct fsck *fsck = way->fsck;
	_cleanup_strbuf_ struct strbuf full = STRBUF_INIT;
	_cleanup_strbuf_ struct strbuf moved = STRBUF_INIT;
	struct fsck_object object = { .fsck = fsck, .dirfd = dirfd, .name = name };
	struct statx before;

	strbuf_append_format(&full, "%s%s/%s", fsck->target.upper, path, name);
	strbuf_append_format(&moved, "%s%s", fsck->target.upper, way->claim->upper);
	object.path = full.data;
	if (below->kind != FSCK_BELOW_DIR || full.failed || moved.failed ||
	    sys_stat(dirfd, "", &before) < 0 ||
	    !fsck_object_find(&object, FSCK_REDIRECT_DEEP, moved.data))
		return false;
	int r = fsck_raise(&object, below);

	fsck_place_settle(fsck, dirfd, &before, r);
	return r == 0;
}

/* One component on, for one of those that merge with the directory at hand. */
static int fsck_uncovered_descend_in(struct fsck_uncovered *way, const struct fsck_below *below,
				     const char *path, const char *name, struct fsck_mergers *next)
{
	_cleanup_close_ int fd = fsck_place_open(way->fsck, path);
	enum fsck_place place = fd < 0 ? FSCK_PLACE_HIDES : fsck_place_look(way->fsck, fd, name);

	if (place == FSCK_PLACE_HIDES ||
	    (place == FSCK_PLACE_ABSENT && !fsck_uncovered_raise(way, below, fd, path, name)))
		return 0;
	return fsck_mergers_add(next, fsck_join(path, name));
}

/* One component on: who merges with the directory @name of the one at hand? */
static int fsck_uncovered_descend(struct fsck_uncovered *way, const char *name)
{
	struct fsck *fsck = way->fsck;
	struct fsck_mergers next = { 0 };
	struct fsck_below below = fsck_below_lookup(fsck, &way->at, name);
	int r = 0;

	for (size_t i = 0; r == 0 && i < way->mergers.count; i++)
		r = fsck_uncovered_descend_in(way, &below, way->mergers.paths[i], name, &next);
	for (size_t i = fsck_claims_find(&fsck->claims, below.ino);
	     r == 0 && below.ino && i < fsck->claims.count &&
	     fsck->claims.items[i].target == below.ino;
	     i++)
		r = fsck_mergers_add(&next, strdup(fsck->claims.items[i].upper));
	fsck_mergers_deinit(&way->mergers);
	fsck_below_put(fsck, &way->at);
	way->mergers = next;
	way->at = below;
	return r;
}

/* A whiteout, or the opaque mark, where the moved directory can still be seen. */
static void fsck_uncovered_cover(struct fsck_uncovered *way, int dirfd, const char *name,
				 const char *path)
{
	struct fsck *fsck = way->fsck;
	_cleanup_strbuf_ struct strbuf full = STRBUF_INIT;
	_cleanup_strbuf_ struct strbuf moved = STRBUF_INIT;
	struct fsck_object object = { .fsck = fsck, .dirfd = dirfd, .name = name };
	enum fsck_place place = fsck_place_look(fsck, dirfd, name);
	struct statx before;

	strbuf_append_format(&full, "%s%s/%s", fsck->target.upper, path, name);
	strbuf_append_format(&moved, "%s%s", fsck->target.upper, way->claim->upper);
	object.path = full.data;
	if (place == FSCK_PLACE_HIDES || full.failed || moved.failed ||
	    sys_stat(dirfd, "", &before) < 0)
		return;
	if (place == FSCK_PLACE_ABSENT) {
		if (fsck_object_find(&object, FSCK_REDIRECT_VISIBLE, moved.data))
			fsck_place_settle(fsck, dirfd, &before, fsck_object_hide(&object));
	} else if (fsck_object_read(&object) == 0 &&
		   fsck_object_find(&object, FSCK_REDIRECT_MERGED, moved.data)) {
		fsck_settle(fsck, fsck_object_set(&object, XATTR_OPAQUE, "y", 1));
	}
	fsck_object_deinit(&object);
}

/* Where the target still shows under its own name. */
static int fsck_claim_check_covered(struct fsck *fsck, const struct fsck_claim *claim)
{
	struct fsck_uncovered way = {
		.fsck = fsck,
		.claim = claim,
		.at = fsck_below_root(fsck),
	};
	const char *cursor = claim->lower, *component;
	size_t length = redirect_next(&cursor, &component);
	int r = fsck_mergers_add(&way.mergers, strdup(""));

	while (r == 0 && length > 0) {
		char name[NAME_MAX + 1];

		memcpy(name, component, length);
		name[length] = '\0';
		length = redirect_next(&cursor, &component);
		if (length > 0) {
			r = fsck_uncovered_descend(&way, name);
			continue;
		}
		for (size_t i = 0; i < way.mergers.count; i++) {
			_cleanup_close_ int fd = fsck_place_open(fsck, way.mergers.paths[i]);

			if (fd >= 0)
				fsck_uncovered_cover(&way, fd, name, way.mergers.paths[i]);
		}
	}
	fsck_mergers_deinit(&way.mergers);
	fsck_below_put(fsck, &way.at);
	return r;
}

/* ---- two of one ---- */

/* Takes the redirect from the directory @path. */
static void fsck_claim_drop(struct fsck *fsck, const struct fsck_claim *claim,
			    const struct fsck_claim *keeper)
{
	_cleanup_strbuf_ struct strbuf full = STRBUF_INIT;
	_cleanup_strbuf_ struct strbuf other = STRBUF_INIT;
	_cleanup_close_ int fd = fsck_place_open(fsck, claim->upper);
	_cleanup_fsck_object_ struct fsck_object object = { .fsck = fsck, .dirfd = fd, .name = "" };

	strbuf_append_format(&full, "%s%s", fsck->target.upper, claim->upper);
	strbuf_append_format(&other, "%s%s", fsck->target.upper, keeper->upper);
	if (fd < 0 || full.failed || other.failed || fsck_object_read(&object) < 0)
		return;
	object.path = full.data;
	if (!fsck_object_find(&object, FSCK_REDIRECT_DOUBLED, other.data))
		return;
	/* Whatever the lowers have under its present name was not in it and is not to be now. */
	int r = fsck_object_set(&object, XATTR_OPAQUE, "y", 1);

	fsck_settle(fsck, r < 0 ? r : fsck_object_drop(&object, XATTR_REDIRECT));
}

int fsck_claims_check(struct fsck *fsck)
{
	struct fsck_claims *claims = &fsck->claims;
	int r = 0;

	if (claims->count > 1)
		qsort(claims->items, claims->count, sizeof(*claims->items), fsck_claim_compare);
	for (size_t i = 0; r == 0 && i < claims->count; i++) {
		const struct fsck_claim *claim = &claims->items[i];
		const struct fsck_claim *first =
			&claims->items[fsck_claims_find(claims, claim->target)];

		if (first != claim)
			fsck_claim_drop(fsck, claim, first);
		else
			r = fsck_claim_check_covered(fsck, claim);
	}
	return r;
}
