/* SPDX-License-Identifier: MIT */
/*
 * Attributes of an object of the upper, as the union shows them, given to one
 * of the destination. What is equal already is not set again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>

#include "format/acl.h"
#include "format/protattr.h"
#include "offline/apply_internal.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define APPLY_SET_FLAGS (FS_SYNC_FL | FS_NOATIME_FL | FS_DIRSYNC_FL | FS_NODUMP_FL)
#define APPLY_PROTECTING_FLAGS (FS_APPEND_FL | FS_IMMUTABLE_FL)

/* ---- extended attributes ---- */

/* The names that the union shows; -errno, or their size. */
static ssize_t apply_list_shown(const struct apply *apply, int fd, char **list)
{
	ssize_t size = sys_listxattr_alloc(fd, list);

	if (size == -EOPNOTSUPP) {
		*list = calloc(1, 1);
		return *list ? 0 : -ENOMEM;
	}
	return size <= 0 ? size : (ssize_t)xattr_list_filter(apply->ns, *list, (size_t)size);
}

static bool apply_list_has(const char *list, ssize_t size, const char *key)
{
	for (const char *at = list; at < list + size; at += strlen(at) + 1)
		if (strcmp(at, key) == 0)
			return true;
	return false;
}

/* An attribute whose loss would change who may do what. */
static bool apply_must_copy(const char *key)
{
	return strncmp(key, "security.", 9) == 0 || strcmp(key, ACL_XATTR_ACCESS) == 0 ||
	       strcmp(key, ACL_XATTR_DEFAULT) == 0;
}

/* A label is the system's to give. */
static bool apply_is_label(const char *key)
{
	return strcmp(key, "security.selinux") == 0 || strncmp(key, "security.SMACK64", 16) == 0;
}

static int apply_copy_xattr(const struct apply_attr *attr, const char *key)
{
	char buf[XATTR_KEY_MAX + 1];
	const char *stored = xattr_name_escape(attr->apply->ns, key, buf);
	_cleanup_free_ char *value = NULL, *old = NULL;
	ssize_t size = sys_getxattr_alloc(attr->from, stored, &value);

	if (size == -ENODATA)
		return 0;
	if (size < 0)
		return size == -EOPNOTSUPP && !apply_must_copy(key) ? 0 : (int)size;
	if (attr->apply->stays_layer)
		key = stored;
	ssize_t old_size = sys_getxattr_alloc(attr->to, key, &old);

	if (old_size == size && memcmp(old, value, (size_t)size) == 0)
		return 0;
	int r = mutate_setxattr(attr->to, key, value, (size_t)size);

	return r < 0 && (apply_is_label(key) || (r == -EOPNOTSUPP && !apply_must_copy(key))) ? 0 :
											       r;
}

/* Removes what the upper's object does not have; private attributes are the layer's own. */
static int apply_drop_xattrs(const struct apply_attr *attr, const char *shown, ssize_t shown_size)
{
	const struct apply *apply = attr->apply;
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(attr->to, &list);
	int r = 0;

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : (int)size;
	for (const char *key = list; r == 0 && key < list + size; key += strlen(key) + 1) {
		char name[XATTR_KEY_MAX + 2];
		size_t length = strlen(key) + 1;

		if (xattr_name_is_private(apply->ns, key) || apply_is_label(key) ||
		    length > sizeof(name))
			continue;
		memcpy(name, key, length);
		if (apply->stays_layer)
			xattr_list_filter(apply->ns, name, length);
		if (!apply_list_has(shown, shown_size, name))
			r = mutate_removexattr(attr->to, key);
		if (r == -ENODATA)
			r = 0;
	}
	return r;
}

static int apply_copy_xattrs(const struct apply_attr *attr)
{
	_cleanup_free_ char *shown = NULL;
	ssize_t size = apply_list_shown(attr->apply, attr->from, &shown);
	int r = size < 0 ? (int)size : apply_drop_xattrs(attr, shown, size);

	for (const char *key = shown; r == 0 && key < shown + size; key += strlen(key) + 1)
		r = apply_copy_xattr(attr, key);
	return r;
}

int apply_attr_strip(struct apply *apply, int fd)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(fd, &list);
	int r = 0;

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : (int)size;
	for (const char *key = list; r == 0 && key < list + size; key += strlen(key) + 1)
		if (xattr_name_is_private(apply->ns, key))
			r = mutate_removexattr(fd, key);
	return r;
}

int apply_attr_is_escaped(struct apply *apply, int fd)
{
	_cleanup_free_ char *list = NULL, *raw = NULL;
	ssize_t shown = apply_list_shown(apply, fd, &list);
	ssize_t size = sys_listxattr_alloc(fd, &raw);

	if (shown < 0 || size < 0)
		return shown < 0 ? (int)shown : size == -EOPNOTSUPP ? 0 : (int)size;
	for (const char *key = list; key < list + shown; key += strlen(key) + 1)
		if (!apply_list_has(raw, size, key))
			return 1;
	return 0;
}

/* True if the destination's object @to has @key, as the upper's object @from has it. */
static bool apply_has_xattr(struct apply *apply, int from, int to, const char *key)
{
	char buf[XATTR_KEY_MAX + 1];
	const char *stored = xattr_name_escape(apply->ns, key, buf);
	_cleanup_free_ char *value = NULL, *other = NULL;
	ssize_t size = stored ? sys_getxattr_alloc(from, stored, &value) : -ENODATA;
	ssize_t other_size = sys_getxattr_alloc(to, apply->stays_layer ? stored : key, &other);

	return size >= 0 && size == other_size && memcmp(value, other, (size_t)size) == 0;
}

/* How many names a list has, labels left out. */
static size_t apply_count_names(const char *list, ssize_t size)
{
	size_t count = 0;

	for (const char *key = list; key < list + size; key += strlen(key) + 1)
		count += !apply_is_label(key);
	return count;
}

bool apply_attr_is_equal(struct apply *apply, int from, int to)
{
	_cleanup_free_ char *ours = NULL, *theirs = NULL;
	ssize_t size = apply_list_shown(apply, from, &ours);
	ssize_t other_size = sys_listxattr_alloc(to, &theirs);

	if (other_size > 0)
		other_size = (ssize_t)xattr_list_filter(apply->ns, theirs, (size_t)other_size);
	if (other_size == -EOPNOTSUPP)
		return size == 0;
	if (size < 0 || other_size < 0 ||
	    apply_count_names(ours, size) != apply_count_names(theirs, other_size))
		return false;
	for (const char *key = ours; key < ours + size; key += strlen(key) + 1)
		if (!apply_is_label(key) && !apply_has_xattr(apply, from, to, key))
			return false;
	return true;
}

/* ---- inode flags ---- */

static bool apply_has_flags(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode);
}

static int apply_copy_flags(const struct apply_attr *attr)
{
	unsigned int from_flags, to_flags;

	if (!apply_has_flags(attr->st->stx_mode))
		return 0;
	_cleanup_close_ int from = sys_reopen(attr->from, O_RDONLY | O_NONBLOCK);
	_cleanup_close_ int to = sys_reopen(attr->to, O_RDONLY | O_NONBLOCK);

	if (from < 0 || to < 0 || sys_get_fsflags(from, &from_flags) < 0 ||
	    sys_get_fsflags(to, &to_flags) < 0 || ((from_flags ^ to_flags) & APPLY_SET_FLAGS) == 0)
		return 0; /* equal, or a file system without them */
	int r = mutate_set_fsflags(to,
				   (to_flags & ~APPLY_SET_FLAGS) | (from_flags & APPLY_SET_FLAGS));

	return r == -EOPNOTSUPP || r == -ENOTTY || r == -EPERM ? 0 : r;
}

unsigned int apply_attr_protection(struct apply *apply, int fd)
{
	char value[PROTATTR_SIZE_MAX];
	ssize_t size = sys_getxattr(fd, xattr_private_name(apply->ns, XATTR_PROTATTR), value,
				    sizeof(value));
	unsigned int flags = size > 0 ? protattr_decode(value, (size_t)size) : 0;

	return (flags & PROTATTR_APPEND ? FS_APPEND_FL : 0) |
	       (flags & PROTATTR_IMMUTABLE ? FS_IMMUTABLE_FL : 0);
}

int apply_attr_protect(int fd, unsigned int flags)
{
	_cleanup_close_ int real = sys_reopen(fd, O_RDONLY | O_NONBLOCK);
	unsigned int now;
	int r = real < 0 ? real : sys_get_fsflags(real, &now);

	return r < 0 ? r : (now | flags) == now ? 0 : mutate_set_fsflags(real, now | flags);
}

bool apply_attr_unprotect(int fd)
{
	struct statx st;
	unsigned int flags;

	if (sys_stat(fd, "", &st) < 0 || !apply_has_flags(st.stx_mode))
		return false;
	_cleanup_close_ int real = sys_reopen(fd, O_RDONLY | O_NONBLOCK);

	return real >= 0 && sys_get_fsflags(real, &flags) == 0 && flags & APPLY_PROTECTING_FLAGS &&
	       mutate_set_fsflags(real, flags & ~(unsigned int)APPLY_PROTECTING_FLAGS) == 0;
}

/* ---- all ---- */

int apply_attr_copy(const struct apply_attr *attr)
{
	const struct statx *st = attr->st;
	mode_t mode = st->stx_mode & 07777;
	struct statx made;
	int r = sys_stat(attr->to, "", &made);

	if (!attr->is_final && S_ISDIR(st->stx_mode))
		mode |= 0700;
	/* The owner first: a change of owner takes set-id bits and capabilities away. */
	if (r == 0 && (made.stx_uid != st->stx_uid || made.stx_gid != st->stx_gid))
		r = mutate_chown(attr->to, st->stx_uid, st->stx_gid);
	if (r == 0)
		r = apply_copy_xattrs(attr);
	if (r == 0)
		r = apply_copy_flags(attr);
	/* The mode last, as an ACL sets it too; of both it is the one of the upper. */
	if (r == 0 && !S_ISLNK(st->stx_mode))
		r = sys_stat(attr->to, "", &made);
	if (r == 0 && !S_ISLNK(st->stx_mode) && (made.stx_mode & 07777) != mode)
		r = mutate_chmod(attr->to, mode);
	return r;
}

int apply_attr_times(int to, const struct statx *st)
{
	const struct timespec times[2] = {
		{ st->stx_atime.tv_sec,
		  S_ISDIR(st->stx_mode) ? UTIME_OMIT : (long)st->stx_atime.tv_nsec },
		{ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec },
	};

	return mutate_utimens(to, times);
}
