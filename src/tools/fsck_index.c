/* SPDX-License-Identifier: MIT */
#include "tools/fsck_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/whiteout.h"
#include "offline/entry.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "tools/fsck_indexed.h"
#include "tools/fsck_object.h"
#include "tools/fsck_origin.h"
#include "tools/fsck_shown.h"
#include "tools/fsck_tree.h"
#include "tools/fsck_work.h"

/* ---- the files of the upper that it has ---- */

static int fsck_indexed_compare(const void *a, const void *b)
{
	const struct fsck_indexed *left = a, *right = b;

	return left->ino < right->ino ? -1 : left->ino > right->ino;
}

struct fsck_indexed *fsck_index_find(const struct fsck *fsck, const struct statx *st)
{
	const struct fsck_indexed wanted = { .ino = st->stx_ino };

	if (fsck->indexed_count == 0 || S_ISDIR(st->stx_mode))
		return NULL;
	return bsearch(&wanted, fsck->indexed, fsck->indexed_count, sizeof(wanted),
		       fsck_indexed_compare);
}

bool fsck_index_has(const struct fsck *fsck, const struct statx *st)
{
	return fsck_index_find(fsck, st);
}

void fsck_index_note(struct fsck *fsck, const struct statx *st)
{
	struct fsck_indexed *indexed = st->stx_nlink > 1 ? fsck_index_find(fsck, st) : NULL;

	if (indexed)
		indexed->names++;
}

/* ---- whose it is ---- */

/* The index belongs to one upper: kernel and veneer refuse it (index=on) over another. */
static void fsck_index_check_upper(struct fsck_object *index)
{
	struct fsck *fsck = index->fsck;
	uint8_t uuid[16] = { 0 }, encoded[ORIGIN_SIZE_MAX];
	char value[FSCK_VALUE_MAX + 1];
	struct origin is, should;

	if (!fsck_object_has(index, XATTR_UPPER))
		return;
	sys_fs_uuid(fsck->upper_fd, uuid);
	if (!fsck_origin_of(fsck->upper_fd, uuid, &should))
		return;
	should.is_upper = true;
	ssize_t size = fsck_object_get(index, XATTR_UPPER, value);
	enum origin_kind kind = size < 0 ? ORIGIN_INVALID : origin_decode(value, (size_t)size, &is);

	if (kind == ORIGIN_VALID && fsck_origin_is_same(&is, &should))
		return;
	if (fsck_object_find(index, FSCK_INDEX_UPPER, NULL))
		fsck_settle(fsck, fsck_object_set(index, XATTR_UPPER, encoded,
						  origin_encode(&should, encoded)));
}

/* ---- entries ---- */

/* Nothing is lost: what has no other name goes to lost+found. */
static int fsck_index_take_out(const struct fsck_object *entry)
{
	return entry->st.stx_nlink > 1 && !S_ISDIR(entry->st.stx_mode) ?
		       fsck_object_unlink(entry) :
		       fsck_object_keep(entry, false);
}

static void fsck_index_settle_out(struct fsck_object *entry, enum fsck_problem problem)
{
	if (fsck_object_find(entry, problem, NULL))
		fsck_settle(entry->fsck, fsck_index_take_out(entry));
}

/* Directories are put there for NFS export, and name one of the upper. */
static void fsck_index_check_directory(struct fsck_object *entry)
{
	char value[FSCK_VALUE_MAX + 1];
	struct origin origin;
	ssize_t size = fsck_object_get(entry, XATTR_UPPER, value);

	if (size > 0 && origin_decode(value, (size_t)size, &origin) == ORIGIN_VALID &&
	    origin.is_upper)
		return;
	fsck_index_settle_out(entry, FSCK_INDEX_DIRECTORY);
}

/* Its own attribute must be what its name says; symbolic links and the like have no user.* ones. */
static void fsck_index_check_origin(struct fsck_object *entry, struct origin *named)
{
	struct fsck *fsck = entry->fsck;
	uint8_t encoded[ORIGIN_SIZE_MAX];
	struct origin origin;

	if (fsck->target.ns == XATTR_USER && !S_ISREG(entry->st.stx_mode))
		return;
	if (fsck_origin_read(entry, &origin) && origin_is_equal(&origin, named))
		return;
	if (fsck_object_find(entry, FSCK_INDEX_ORIGIN, NULL))
		fsck_settle(fsck, fsck_object_set(entry, XATTR_ORIGIN, encoded,
						  origin_encode(named, encoded)));
}

static void fsck_index_check_named(struct fsck_object *entry)
{
	struct fsck *fsck = entry->fsck;
	struct origin named;

	if (!origin_from_index_name(entry->name, &named) || named.is_upper) {
		fsck_index_settle_out(entry, FSCK_INDEX_NAME);
		return;
	}
	/* What was removed, for NFS export. */
	if (whiteout_is_device(entry->st.stx_mode, sys_stat_rdev(&entry->st)))
		return;
	if (fsck_origin_judge(fsck, &named, entry->st.stx_mode, NULL) != FSCK_ORIGIN_GOOD)
		fsck_index_settle_out(entry, FSCK_INDEX_STALE);
	else if (S_ISDIR(entry->st.stx_mode))
		fsck_index_check_directory(entry);
	else
		fsck_index_check_origin(entry, &named);
}

static void fsck_index_check_entry(struct fsck_object *entry)
{
	struct fsck *fsck = entry->fsck;

	fsck->report.objects++;
	if (entry->name[0] != '#')
		fsck_index_check_named(entry);
	else if (!fsck_work_is_spare(entry) && fsck_object_find(entry, FSCK_INDEX_REMAINS, NULL))
		fsck_settle(fsck, fsck_tree_remove(entry->dirfd, entry->name));
}

/* ---- all entries ---- */

/* Calls @check for each; the number of entries is that of files with several names. */
static int fsck_index_each(struct fsck *fsck, int fd, void (*check)(struct fsck_object *))
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = entry_names_read(fd, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
		_cleanup_fsck_object_ struct fsck_object entry = {
			.fsck = fsck,
			.dirfd = fd,
			.name = names.names[i],
		};

		strbuf_append_format(&path, "%s/" FSCK_INDEX "/%s", fsck->target.work,
				     names.names[i]);
		if (path.failed)
			return -ENOMEM;
		entry.path = path.data;
		r = fsck_object_read(&entry);
		if (r == 0)
			check(&entry);
		else
			fsck_report_fail(&fsck->report, entry.path, r);
		r = 0;
	}
	return r;
}

static int fsck_index_open(struct fsck *fsck)
{
	return fsck->work_fd < 0 ? -ENOENT :
				   sys_open(fsck->work_fd, FSCK_INDEX, O_RDONLY | O_DIRECTORY, 0);
}

/* What is known of the file below that the entry is named after. */
static void fsck_index_note_lower(const struct fsck_object *entry, const struct origin *named,
				  struct fsck_indexed *indexed)
{
	_cleanup_close_ int fd = -1;
	struct statx st;

	fsck_origin_judge(entry->fsck, named, entry->st.stx_mode, &fd);
	if (fd < 0 || sys_stat(fd, "", &st) < 0)
		return;
	indexed->lower = st.stx_ino;
	indexed->lower_links = st.stx_nlink;
}

/* Notes which file the entry is. Without memory it is taken for none of the index. */
static void fsck_index_load(struct fsck_object *entry)
{
	struct fsck *fsck = entry->fsck;
	size_t count = fsck->indexed_count;
	struct fsck_indexed *more = fsck->indexed;
	struct fsck_indexed indexed = { .ino = entry->st.stx_ino };
	uint8_t encoded[ORIGIN_SIZE_MAX];
	struct origin named;

	if (S_ISDIR(entry->st.stx_mode) ||
	    whiteout_is_device(entry->st.stx_mode, sys_stat_rdev(&entry->st)))
		return;
	if ((count & (count - 1)) == 0)
		more = reallocarray(more, count ? 2 * count : 1, sizeof(*more));
	if (!more)
		return;
	if (origin_from_index_name(entry->name, &named)) {
		fsck_index_note_lower(entry, &named, &indexed);
		/* If another file has the origin as well, that is wrong there and right here. */
		fsck_origin_is_doubled(entry, encoded, origin_encode(&named, encoded));
	}
	fsck->indexed = more;
	more[fsck->indexed_count++] = indexed;
}

static void fsck_index_check_self(struct fsck *fsck, int fd)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	_cleanup_fsck_object_ struct fsck_object index = { .fsck = fsck, .dirfd = fd, .name = "" };

	strbuf_append_format(&path, "%s/" FSCK_INDEX, fsck->target.work);
	index.path = path.data;
	if (!path.failed && fsck_object_read(&index) == 0)
		fsck_index_check_upper(&index);
}

int fsck_index_check(struct fsck *fsck)
{
	_cleanup_close_ int fd = fsck_index_open(fsck);

	free(fsck->indexed);
	fsck->indexed = NULL;
	fsck->indexed_count = 0;
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	fsck_index_check_self(fsck, fd);
	int r = fsck_index_each(fsck, fd, fsck_index_check_entry);

	if (r == 0)
		r = fsck_index_each(fsck, fd, fsck_index_load);
	if (fsck->indexed_count > 1)
		qsort(fsck->indexed, fsck->indexed_count, sizeof(*fsck->indexed),
		      fsck_indexed_compare);
	return r;
}

int fsck_index_check_names(struct fsck *fsck)
{
	_cleanup_close_ int fd = fsck->indexed_count ? fsck_index_open(fsck) : -ENOENT;
	int r = fd < 0 ? 0 : fsck_shown_count(fsck);

	return fd < 0 || r < 0 ? r : fsck_index_each(fsck, fd, fsck_indexed_check_count);
}
