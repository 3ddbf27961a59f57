/* SPDX-License-Identifier: MIT */
/*
 * A tree from an archive may be deeper than there are descriptors.  So it is
 * taken apart by moving each directory in it to the top first: two descriptors
 * are enough for any depth.
 */
#include "tools/import_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "format/acl.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define IMPORT_STAGE_LAYER "layer"
#define IMPORT_STAGE_TRASH "trash"
#define IMPORT_STAGE_TRIES 100
#define IMPORT_STAGE_COUNT_SIZE 24

/* A directory for us alone; what the one around it has for its children (ACL, set-gid) is not for
 * what the archive brings. Returns its descriptor. */
static int import_stage_mkdir(int dirfd, const char *name)
{
	_cleanup_close_ int fd = -1;
	int r = sys_mkdir(dirfd, name, 0700);

	if (r < 0)
		return r;
	fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	sys_removexattr(fd, ACL_XATTR_DEFAULT);
	sys_removexattr(fd, ACL_XATTR_ACCESS);
	r = sys_chmod(fd, 0700);
	return r < 0 ? r : fd_take(&fd);
}

static int import_stage_make(struct import_stage *stage)
{
	for (unsigned int i = 0; i < IMPORT_STAGE_TRIES; i++) {
		int fd;

		snprintf(stage->name, sizeof(stage->name), ".veneer-import-%d-%u", getpid(), i);
		fd = import_stage_mkdir(stage->parent, stage->name);
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

int import_stage_init(struct import_stage *stage, const char *path, struct strbuf *why)
{
	stage->parent = sys_open_path(path, O_RDONLY | O_DIRECTORY);
	if (stage->parent < 0) {
		strbuf_append_format(why, "%s: %s", path, strerror(-stage->parent));
		return stage->parent;
	}
	stage->dir = import_stage_make(stage);
	if (stage->dir >= 0)
		stage->layer = import_stage_mkdir(stage->dir, IMPORT_STAGE_LAYER);
	if (stage->layer >= 0)
		stage->trash = import_stage_mkdir(stage->dir, IMPORT_STAGE_TRASH);
	if (stage->trash >= 0)
		return 0;
	int r = stage->dir < 0 ? stage->dir : stage->layer < 0 ? stage->layer : stage->trash;

	strbuf_append_format(why, "%s: cannot make a directory to work in beside the layer: %s",
			     path, strerror(-r));
	return r;
}

static int import_stage_trash(struct import_stage *stage, int dirfd, const char *name)
{
	char number[IMPORT_STAGE_COUNT_SIZE];

	snprintf(number, sizeof(number), "%" PRIu64, stage->removed++);
	return sys_rename(dirfd, name, stage->trash, number, 0);
}

int import_stage_remove(struct import_stage *stage, int dirfd, const char *name)
{
	int r = sys_unlink(dirfd, name);

	return r == -EISDIR || r == -EPERM ? import_stage_trash(stage, dirfd, name) : r;
}

struct import_stage_sweep {
	struct import_stage *stage;
	int dirfd;
};

static int import_stage_sweep_entry(const struct sys_dirent *entry, void *context)
{
	struct import_stage_sweep *sweep = context;
	int r = sys_unlink(sweep->dirfd, entry->name);

	if (r != -EISDIR && r != -EPERM)
		return r;
	/* Who moves a directory writes its "..", for which it must be writable. */
	_cleanup_close_ int fd = sys_open(sweep->dirfd, entry->name, O_PATH | O_DIRECTORY, 0);

	if (fd >= 0)
		sys_chmod(fd, 0700);
	return import_stage_trash(sweep->stage, sweep->dirfd, entry->name);
}

/* Removes the directory @name of the trash; the directories in it are there next. */
static int import_stage_sweep_one(struct import_stage *stage, const char *name)
{
	struct import_stage_sweep sweep = { .stage = stage };
	_cleanup_close_ int path = sys_open(stage->trash, name, O_PATH | O_DIRECTORY, 0);
	_cleanup_close_ int fd = -1;
	int r;

	if (path < 0)
		return path;
	sys_chmod(path, 0700);
	fd = sys_reopen(path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	sweep.dirfd = fd;
	/* A file system may pass over names while others go: look again until it is empty. */
	do {
		r = sys_dir_for_each(fd, import_stage_sweep_entry, &sweep);
		if (r < 0)
			return r;
		r = sys_rmdir(stage->trash, name);
	} while (r == -ENOTEMPTY);
	return r;
}

static int import_stage_sweep_all(struct import_stage *stage)
{
	char number[IMPORT_STAGE_COUNT_SIZE];
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < stage->removed; i++) {
		snprintf(number, sizeof(number), "%" PRIu64, i);
		r = import_stage_sweep_one(stage, number);
		if (r == -ENOENT || r == -ENOTDIR)
			r = r == -ENOTDIR ? sys_unlink(stage->trash, number) : 0;
	}
	return r;
}

static void import_stage_close(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}

void import_stage_deinit(struct import_stage *stage)
{
	int r = 0;

	import_stage_close(&stage->layer);
	if (stage->trash >= 0) {
		r = import_stage_trash(stage, stage->dir, IMPORT_STAGE_LAYER);
		r = r == -ENOENT ? 0 : r;
		if (r == 0)
			r = import_stage_sweep_all(stage);
		if (r == 0)
			r = sys_rmdir(stage->dir, IMPORT_STAGE_TRASH);
	} else if (stage->dir >= 0) {
		sys_rmdir(stage->dir, IMPORT_STAGE_LAYER);
		sys_rmdir(stage->dir, IMPORT_STAGE_TRASH);
	}
	import_stage_close(&stage->trash);
	if (stage->dir >= 0 && r == 0)
		r = sys_rmdir(stage->parent, stage->name);
	if (r < 0)
		log_warning("%s: left over beside the layer, and may be removed: %s", stage->name,
			    strerror(-r));
	import_stage_close(&stage->dir);
	import_stage_close(&stage->parent);
}

int import_stage_publish(struct import_stage *stage, const char *name)
{
	return sys_rename(stage->dir, IMPORT_STAGE_LAYER, stage->parent, name, 0);
}
