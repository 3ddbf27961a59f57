/* SPDX-License-Identifier: MIT */
#include "tools/fsck_object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys/file.h"
#include "sys/xattr.h"

#define FSCK_LOST "lost+found"
#define FSCK_LOST_TRIES 10000
#define FSCK_SPARE "#fsck"

int fsck_object_read(struct fsck_object *object)
{
	int r = sys_stat(object->dirfd, object->name, &object->st);

	if (r < 0)
		return r;
	ssize_t size = object->name[0] ?
			       sys_listxattr_alloc_at(object->dirfd, object->name, &object->list) :
			       sys_listxattr_alloc(object->dirfd, &object->list);

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : (int)size;
	object->list_size = (size_t)size;
	return 0;
}

void fsck_object_deinit(struct fsck_object *object)
{
	free(object->list);
	object->list = NULL;
	object->list_size = 0;
}

/* ---- attributes ---- */

static bool fsck_object_lists(const struct fsck_object *object, const char *key)
{
	const char *end = object->list + object->list_size;

	for (const char *at = object->list; at < end; at += strlen(at) + 1)
		if (!strcmp(at, key))
			return true;
	return false;
}

bool fsck_object_has(const struct fsck_object *object, enum xattr_private which)
{
	return fsck_object_lists(object, xattr_private_name(object->fsck->target.ns, which));
}

ssize_t fsck_object_get(const struct fsck_object *object, enum xattr_private which,
			char value[FSCK_VALUE_MAX + 1])
{
	const char *key = xattr_private_name(object->fsck->target.ns, which);
	ssize_t size = object->name[0] ? sys_getxattr_at(object->dirfd, object->name, key, value,
							 FSCK_VALUE_MAX) :
					 sys_getxattr(object->dirfd, key, value, FSCK_VALUE_MAX);

	if (size >= 0)
		value[size] = '\0';
	return size;
}

/* A descriptor of the object, if it is still the one that was looked at. */
static int fsck_object_open(const struct fsck_object *object)
{
	_cleanup_close_ int fd = object->name[0] ?
					 sys_open(object->dirfd, object->name, O_PATH, 0) :
					 sys_dup(object->dirfd);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	return st.stx_ino == object->st.stx_ino ? fd_take(&fd) : -ESTALE;
}

int fsck_object_set(const struct fsck_object *object, enum xattr_private which, const void *value,
		    size_t size)
{
	_cleanup_close_ int fd = fsck_object_open(object);

	return fd < 0 ? fd :
			sys_setxattr(fd, xattr_private_name(object->fsck->target.ns, which), value,
				     size, 0);
}

int fsck_object_drop(const struct fsck_object *object, enum xattr_private which)
{
	_cleanup_close_ int fd = fsck_object_open(object);
	int r = fd < 0 ? fd :
			 sys_removexattr(fd, xattr_private_name(object->fsck->target.ns, which));

	return r == -ENODATA ? 0 : r;
}

bool fsck_object_find(const struct fsck_object *object, enum fsck_problem problem, const char *note)
{
	return fsck_report_find(&object->fsck->report, problem, object->path, note);
}

/* ---- names ---- */

int fsck_object_unlink(const struct fsck_object *object)
{
	return sys_unlink(object->dirfd, object->name);
}

/* The directory for what nobody may want to lose, made if there is none. */
static int fsck_lost_open(const struct fsck *fsck)
{
	if (fsck->work_fd < 0)
		return -EXDEV;
	int r = sys_mkdir(fsck->work_fd, FSCK_LOST, 0700);

	if (r < 0 && r != -EEXIST)
		return r;
	return sys_open(fsck->work_fd, FSCK_LOST, O_RDONLY | O_DIRECTORY, 0);
}

/* Without a work directory nothing can be put in the place of something else in one step. */
static int fsck_object_hide_here(const struct fsck_object *object)
{
	int r = sys_unlink(object->dirfd, object->name);

	return r < 0 && r != -ENOENT ? r : sys_mknod(object->dirfd, object->name, S_IFCHR, 0);
}

int fsck_object_hide(const struct fsck_object *object)
{
	int work = object->fsck->work_fd;

	if (work < 0)
		return fsck_object_hide_here(object);
	int r = sys_mknod(work, FSCK_SPARE, S_IFCHR, 0);

	if (r == -EEXIST) { /* of a run that was cut off */
		r = sys_unlink(work, FSCK_SPARE);
		if (r == 0)
			r = sys_mknod(work, FSCK_SPARE, S_IFCHR, 0);
	}
	if (r == 0)
		r = sys_rename(work, FSCK_SPARE, object->dirfd, object->name, 0);
	if (r < 0)
		sys_unlink(work, FSCK_SPARE);
	return r;
}

/* A name in lost+found that nothing has: the object's, then with a number. */
static void fsck_lost_name(const char *name, unsigned int number, char kept[NAME_MAX + 1])
{
	int room = NAME_MAX - 12;

	if (number == 0)
		snprintf(kept, NAME_MAX + 1, "%s", name);
	else
		snprintf(kept, NAME_MAX + 1, "%.*s.%u", room, name, number);
}

/* With a whiteout in its place the two change places, so that the name never leads elsewhere. */
static int fsck_object_keep_as(const struct fsck_object *object, int lostfd, const char *kept,
			       bool hide)
{
	if (!hide)
		return sys_rename(object->dirfd, object->name, lostfd, kept, RENAME_NOREPLACE);
	int r = sys_mknod(lostfd, kept, S_IFCHR, 0);

	if (r < 0)
		return r;
	r = sys_rename(object->dirfd, object->name, lostfd, kept, RENAME_EXCHANGE);
	if (r < 0)
		sys_unlink(lostfd, kept);
	return r;
}

int fsck_object_keep(const struct fsck_object *object, bool hide)
{
	_cleanup_close_ int lostfd = fsck_lost_open(object->fsck);
	char kept[NAME_MAX + 1];
	int r = lostfd < 0 ? lostfd : -EEXIST;

	for (unsigned int i = 0; r == -EEXIST && i < FSCK_LOST_TRIES; i++) {
		fsck_lost_name(object->name, i, kept);
		r = fsck_object_keep_as(object, lostfd, kept, hide);
	}
	return r;
}
