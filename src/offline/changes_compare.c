/* SPDX-License-Identifier: MIT */
#include "offline/changes_compare.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "offline/changes.h"
#include "offline/view.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define COMPARE_CHUNK (128U * 1024)
#define COMPARE_LIST_MAX 65536 /* XATTR_LIST_MAX */

/* ---- content ---- */

/* Where data begins from @at on, in either of the two; the size if nowhere. */
static off_t compare_next_data(const struct compared *c, int fd, off_t at)
{
	off_t size = (off_t)c->entry->st.stx_size;
	off_t mine = sys_seek(fd, at, SEEK_DATA);
	off_t other = core_seek(c->lowers, c->lower->node, at, SEEK_DATA);

	/* Behind the last data; else a file system that has no holes. */
	mine = mine == -ENXIO ? size : mine < 0 ? at : mine;
	other = other == -ENXIO ? size : other < 0 ? at : other;
	return MIN(mine, other);
}

static int compare_bytes(const struct compared *c, int fd, bool *differ)
{
	_cleanup_free_ char *ours = malloc(COMPARE_CHUNK), *theirs = malloc(COMPARE_CHUNK);
	off_t size = (off_t)c->entry->st.stx_size, at = 0;

	if (!ours || !theirs)
		return -ENOMEM;
	*differ = false;
	while (!*differ && (at = compare_next_data(c, fd, at)) < size) {
		ssize_t mine = sys_pread(fd, ours, COMPARE_CHUNK, at);
		ssize_t other = mine < 0 ? mine :
					   core_read(c->lowers, c->lower->node, theirs,
						     COMPARE_CHUNK, (uint64_t)at, true);

		if (mine < 0 || other < 0)
			return mine < 0 ? (int)mine : (int)other;
		*differ = mine != other || memcmp(ours, theirs, (size_t)mine) != 0;
		if (mine == 0)
			break; /* shorter than it was: changed meanwhile */
		at += COMPARE_CHUNK;
	}
	return 0;
}

static int compare_data(const struct compared *c, bool *differ)
{
	int backing;

	*differ = c->entry->st.stx_size != c->lower->attr.stx_size;
	if (*differ || c->entry->is_metacopy)
		return 0;
	_cleanup_close_ int fd = sys_open(c->dirfd, c->name, O_RDONLY | O_NONBLOCK | O_NOATIME, 0);

	if (fd == -EPERM)
		fd = sys_open(c->dirfd, c->name, O_RDONLY | O_NONBLOCK, 0);
	int r = fd < 0 ? fd : core_open(c->lowers, &view_call, c->lower->node, O_RDONLY, &backing);

	if (r < 0)
		return r;
	r = compare_bytes(c, fd, differ);
	core_release(c->lowers, c->lower->node);
	return r;
}

static int compare_targets(const struct compared *c, bool *differ)
{
	char ours[PATH_MAX], theirs[PATH_MAX];
	ssize_t mine = sys_readlink(c->dirfd, c->name, ours, sizeof(ours));
	ssize_t other = core_readlink(c->lowers, c->lower->node, theirs, sizeof(theirs));

	if (mine < 0 || other < 0)
		return mine < 0 ? (int)mine : (int)other;
	*differ = mine != other || memcmp(ours, theirs, (size_t)mine) != 0;
	return 0;
}

static int compare_content(const struct compared *c, bool *differ)
{
	mode_t mode = c->entry->st.stx_mode;

	*differ = false;
	if (S_ISREG(mode))
		return compare_data(c, differ);
	if (S_ISLNK(mode))
		return compare_targets(c, differ);
	if (S_ISCHR(mode) || S_ISBLK(mode))
		*differ = sys_stat_rdev(&c->entry->st) != sys_stat_rdev(&c->lower->attr);
	return 0;
}

/* ---- attributes ---- */

/* The value of what a user calls @key. Bytes; -ENODATA. */
static ssize_t compare_get(const struct compared *c, const char *key, char **value)
{
	char escaped[XATTR_KEY_MAX + 1];
	const char *real = xattr_name_escape(c->ns, key, escaped);
	ssize_t size = real ? sys_getxattr_at(c->dirfd, c->name, real, NULL, 0) : -ENODATA;

	if (size < 0)
		return size;
	*value = malloc((size_t)size + 1);
	return *value ? sys_getxattr_at(c->dirfd, c->name, real, *value, (size_t)size) : -ENOMEM;
}

static int compare_value(const struct compared *c, const char *key, bool *differ)
{
	_cleanup_free_ char *ours = NULL;
	ssize_t mine = compare_get(c, key, &ours);

	if (mine < 0)
		return mine == -ENODATA ? (*differ = true, 0) : (int)mine;
	_cleanup_free_ char *theirs = malloc((size_t)mine + 1);
	ssize_t other =
		theirs ? core_getxattr(c->lowers, c->lower->node, key, theirs, (size_t)mine + 1) :
			 -ENOMEM;

	if (other < 0 && other != -ENODATA && other != -ERANGE)
		return (int)other;
	*differ = other != mine || memcmp(ours, theirs, (size_t)mine) != 0;
	return 0;
}

/* The names a user sees of it, and how many. */
static ssize_t compare_list(const struct compared *c, char **list)
{
	ssize_t size = sys_listxattr_alloc_at(c->dirfd, c->name, list);

	if (size == -EOPNOTSUPP) {
		*list = calloc(1, 1);
		return *list ? 0 : -ENOMEM;
	}
	return size <= 0 ? size : (ssize_t)xattr_list_filter(c->ns, *list, (size_t)size);
}

static unsigned int compare_count(const char *list, ssize_t size)
{
	unsigned int count = 0;

	for (const char *at = list; at < list + size; at += strlen(at) + 1)
		count++;
	return count;
}

static int compare_xattrs(const struct compared *c, bool *differ)
{
	_cleanup_free_ char *ours = NULL, *theirs = malloc(COMPARE_LIST_MAX);
	ssize_t mine = compare_list(c, &ours), other = -ENOMEM;
	int r = 0;

	*differ = false;
	if (mine >= 0 && theirs)
		other = core_listxattr(c->lowers, &view_call, c->lower->node, theirs,
				       COMPARE_LIST_MAX);
	if (other == -EOPNOTSUPP)
		other = 0;
	if (mine < 0 || other < 0)
		return mine < 0 ? (int)mine : (int)other;
	/* As many names, and each of ours there with the same value. */
	*differ = compare_count(ours, mine) != compare_count(theirs, other);
	for (const char *at = ours; r == 0 && !*differ && at < ours + mine; at += strlen(at) + 1)
		r = compare_value(c, at, differ);
	return r;
}

int changes_compare(const struct compared *c, unsigned int *what)
{
	const struct statx *mine = &c->entry->st, *other = &c->lower->attr;
	bool content, xattrs = false;
	int r = compare_content(c, &content);

	if (r == 0)
		r = compare_xattrs(c, &xattrs);
	if (r < 0)
		return r;
	*what = (content ? CHANGE_CONTENT : 0) | (xattrs ? CHANGE_XATTRS : 0);
	if (mine->stx_mode != other->stx_mode)
		*what |= CHANGE_MODE;
	if (mine->stx_uid != other->stx_uid || mine->stx_gid != other->stx_gid)
		*what |= CHANGE_OWNER;
	if (!S_ISDIR(mine->stx_mode) && (mine->stx_mtime.tv_sec != other->stx_mtime.tv_sec ||
					 mine->stx_mtime.tv_nsec != other->stx_mtime.tv_nsec))
		*what |= CHANGE_TIMES;
	return 0;
}
