/* SPDX-License-Identifier: MIT */
#include "tools/fsck_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "format/origin.h"
#include "format/whiteout.h"
#include "offline/entry.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "tools/fsck_object.h"
#include "tools/fsck_tree.h"

#define FSCK_WORK "work"
#define FSCK_INCOMPAT "incompat"
#define FSCK_VOLATILE "volatile"
#define FSCK_COMMIT "veneer-commit"
#define FSCK_TABLE "origin"
/* An entry of the table for an object whose lower has no handles. */
#define FSCK_TABLE_NUMBER "number-%u-%llx-%llx%c"

/* Opens a directory below @dirfd for reading; -ENOENT also for what is none. */
static int fsck_work_open(int dirfd, const char *name)
{
	int fd = dirfd < 0 ? dirfd : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
}

/* ---- features ---- */

static int fsck_work_refuse(struct fsck *fsck, const char *feature, struct strbuf *why)
{
	if (!strcmp(feature, FSCK_COMMIT))
		strbuf_append_format(why,
				     "%s: a commit of this layer was cut off: run 'veneer commit' "
				     "again first, which finishes it",
				     fsck->target.upper);
	else
		strbuf_append_format(why,
				     "%s: the layer has the feature \"%s\", which this program "
				     "does not know",
				     fsck->target.upper, feature);
	return -EINVAL;
}

int fsck_work_check_features(struct fsck *fsck, struct strbuf *why)
{
	_cleanup_close_ int workfd = fsck->work_fd < 0 ? -ENOENT :
							 fsck_work_open(fsck->work_fd, FSCK_WORK);
	_cleanup_close_ int fd = fsck_work_open(workfd, FSCK_INCOMPAT);
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = fd < 0 ? fd : entry_names_read(fd, &names);

	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (strcmp(names.names[i], FSCK_VOLATILE) != 0)
			r = fsck_work_refuse(fsck, names.names[i], why);
	return r;
}

/* ---- entries ---- */

struct fsck_work_dir {
	struct fsck *fsck;
	int fd;
	const char *path; /* within the work directory */
};

/* Calls @check for each entry. */
static int fsck_work_each(const struct fsck_work_dir *dir, void (*check)(struct fsck_object *))
{
	_cleanup_entry_names_ struct entry_names names = ENTRY_NAMES_INIT;
	int r = entry_names_read(dir->fd, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
		struct fsck_object entry = {
			.fsck = dir->fsck,
			.dirfd = dir->fd,
			.name = names.names[i],
		};

		strbuf_append_format(&path, "%s/%s/%s", dir->fsck->target.work, dir->path,
				     names.names[i]);
		entry.path = path.data;
		r = path.failed ? -ENOMEM : sys_stat(entry.dirfd, entry.name, &entry.st);
		if (r == 0)
			check(&entry);
		dir->fsck->report.objects++;
	}
	return r;
}

/* Only a volatile mount's mark can be there: others were refused. */
static void fsck_work_check_volatile(struct fsck_object *incompat)
{
	_cleanup_close_ int fd = fsck_work_open(incompat->dirfd, incompat->name);
	struct statx st;

	if (fd < 0 || sys_stat(fd, FSCK_VOLATILE, &st) < 0)
		return;
	if (fsck_object_find(incompat, FSCK_WORK_VOLATILE, NULL))
		fsck_settle(incompat->fsck, fsck_tree_remove(fd, FSCK_VOLATILE));
}

bool fsck_work_is_spare(const struct fsck_object *entry)
{
	return entry->name[0] == '#' &&
	       whiteout_is_device(entry->st.stx_mode, sys_stat_rdev(&entry->st));
}

static void fsck_work_check_entry(struct fsck_object *entry)
{
	if (fsck_work_is_spare(entry))
		return;
	if (!strcmp(entry->name, FSCK_INCOMPAT)) {
		fsck_work_check_volatile(entry);
	} else if (entry->name[0] != '#') {
		if (fsck_object_find(entry, FSCK_WORK_UNKNOWN, NULL))
			fsck_settle(entry->fsck, fsck_object_keep(entry, false));
	} else if (fsck_object_find(entry, FSCK_WORK_REMAINS, NULL)) {
		fsck_settle(entry->fsck, fsck_tree_remove(entry->dirfd, entry->name));
	}
}

/* ---- the table of origins ---- */

static bool fsck_table_is_value(const char *value)
{
	unsigned int position;
	unsigned long long device, number;
	struct origin origin;
	char rest;

	return origin_from_index_name(value, &origin) ||
	       sscanf(value, FSCK_TABLE_NUMBER, &position, &device, &number, &rest) == 3;
}

/* True unless the object that the entry is about is known to be gone. */
static bool fsck_table_has_object(const struct fsck *fsck, const struct origin *self)
{
	struct sys_handle handle = { .type = self->type, .size = self->fid_size };

	if (!fsck->can_open_handles)
		return true;
	memcpy(handle.bytes, self->fid, self->fid_size);
	_cleanup_close_ int fd = sys_handle_open(fsck->upper_fd, &handle, O_PATH | O_NOFOLLOW);

	return fd != -ESTALE;
}

static void fsck_table_check_entry(struct fsck_object *entry)
{
	char value[ORIGIN_INDEX_NAME_MAX + 1];
	struct origin self;
	ssize_t size = S_ISLNK(entry->st.stx_mode) ? sys_readlink(entry->dirfd, entry->name, value,
								  ORIGIN_INDEX_NAME_MAX) :
						     -EINVAL;

	value[size < 0 ? 0 : size] = '\0';
	if (!origin_from_index_name(entry->name, &self) || !fsck_table_is_value(value)) {
		if (fsck_object_find(entry, FSCK_TABLE_ENTRY, size < 0 ? NULL : value))
			fsck_settle(entry->fsck, fsck_object_keep(entry, false));
	} else if (!fsck_table_has_object(entry->fsck, &self) &&
		   fsck_object_find(entry, FSCK_TABLE_GONE, NULL)) {
		fsck_settle(entry->fsck, fsck_object_unlink(entry));
	}
}

/* ---- all of it ---- */

static int fsck_work_check_dir(struct fsck *fsck, const char *name,
			       void (*check)(struct fsck_object *))
{
	struct fsck_work_dir dir = { .fsck = fsck, .path = name };
	_cleanup_close_ int fd = fsck_work_open(fsck->work_fd, name);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	dir.fd = fd;
	return fsck_work_each(&dir, check);
}

int fsck_work_check(struct fsck *fsck)
{
	if (fsck->work_fd < 0)
		return 0;
	int r = fsck_work_check_dir(fsck, FSCK_WORK, fsck_work_check_entry);

	return r < 0 ? r : fsck_work_check_dir(fsck, FSCK_TABLE, fsck_table_check_entry);
}
