/* SPDX-License-Identifier: MIT */
/* Making one object's metadata equal to another's. */
#include "core/clone.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/owner.h"
#include "core/upper.h"
#include "format/acl.h"
#include "format/protattr.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define XATTR_CAPABILITY "security.capability"

/* An attribute whose loss would change who may do what. */
static bool clone_must_copy(const char *key)
{
	return strncmp(key, "security.", 9) == 0 || strcmp(key, ACL_XATTR_ACCESS) == 0 ||
	       strcmp(key, ACL_XATTR_DEFAULT) == 0;
}

static int clone_xattr(const struct clone_attr *clone, const char *key)
{
	_cleanup_free_ char *value = NULL;
	ssize_t size = sys_getxattr_alloc(clone->from, key, &value);

	if (size == -ENODATA)
		return 0; /* gone meanwhile, or a name that has no value to this reader */
	if (size < 0)
		return size == -EOPNOTSUPP && !clone_must_copy(key) ? 0 : size;
	int r = upper_setxattr(clone->to, key, value, size, 0);

	if (r == -EOPNOTSUPP && !clone_must_copy(key))
		return 0;
	return r;
}

static int clone_xattrs(const struct clone_attr *clone)
{
	_cleanup_free_ char *list = NULL;
	ssize_t size = sys_listxattr_alloc(clone->from, &list);
	int r = 0;

	if (size < 0)
		return size == -EOPNOTSUPP ? 0 : size;
	for (const char *key = list; r == 0 && key < list + size; key += strlen(key) + 1) {
		if (!xattr_name_is_private(clone->core->ns, key) &&
		    !(clone->is_lost && strcmp(key, XATTR_CAPABILITY) == 0))
			r = clone_xattr(clone, key);
	}
	return r;
}

/* Append-only and immutable are kept in an attribute; a few others are set for real. */
static int clone_fsflags(const struct clone_attr *clone)
{
	const unsigned int copied = FS_SYNC_FL | FS_NOATIME_FL | FS_DIRSYNC_FL | FS_NODUMP_FL;
	const uint64_t attributes = clone->st->stx_attributes;
	unsigned int prot = (attributes & STATX_ATTR_APPEND ? PROTATTR_APPEND : 0) |
			    (attributes & STATX_ATTR_IMMUTABLE ? PROTATTR_IMMUTABLE : 0);
	unsigned int flags, real;

	if (!S_ISREG(clone->st->stx_mode) && !S_ISDIR(clone->st->stx_mode))
		return 0;
	if (prot) {
		char letters[PROTATTR_SIZE_MAX];
		size_t size = protattr_encode(prot, letters);
		int r = upper_setxattr(clone->to, core_key(clone->core, XATTR_PROTATTR), letters,
				       size, 0);

		if (r < 0)
			return r;
	}
	_cleanup_close_ int from = sys_reopen(clone->from, O_RDONLY | O_NONBLOCK);

	if (from < 0 || sys_get_fsflags(from, &flags) < 0 || !(flags & copied))
		return 0; /* none, or a file system without them */
	_cleanup_close_ int to = sys_reopen(clone->to, O_RDONLY | O_NONBLOCK);

	if (to < 0 || sys_get_fsflags(to, &real) < 0)
		return 0;
	int r = upper_set_fsflags(to, real | (flags & copied));

	return r == -EOPNOTSUPP || r == -ENOTTY || r == -EPERM ? 0 : r;
}

int clone_attributes(struct clone_attr *clone)
{
	/* First: a change of owner takes set-id bits and capabilities away. */
	int r = owner_clone(clone);

	if (r == 0 && clone->from >= 0)
		r = clone_xattrs(clone);
	if (r == 0 && clone->from >= 0)
		r = clone_fsflags(clone);
	return r;
}

int clone_stat_times(int fd, const struct statx *st)
{
	const struct timespec times[2] = {
		{ st->stx_atime.tv_sec, st->stx_atime.tv_nsec },
		{ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec },
	};

	return upper_utimens(fd, times);
}

int clone_finish(const struct clone_attr *clone)
{
	int r = S_ISLNK(clone->st->stx_mode) ? 0 : upper_chmod(clone->to, clone->mode);

	return r < 0 ? r : clone_stat_times(clone->to, clone->st);
}

int clone_save(int fd, struct clone_privileges *privileges)
{
	*privileges = (struct clone_privileges){ 0 };
	privileges->size = sys_getxattr_alloc(fd, XATTR_CAPABILITY, &privileges->capability);
	if (privileges->size == -ENODATA || privileges->size == -EOPNOTSUPP)
		privileges->size = 0;
	return privileges->size < 0 ? (int)privileges->size : 0;
}

void clone_privileges_deinit(struct clone_privileges *privileges)
{
	free(ptr_take(privileges->capability));
}

int clone_restore(int fd, const struct statx *st, const struct clone_privileges *privileges)
{
	const mode_t set_ids = S_ISUID | S_ISGID;
	struct statx now;
	int r = sys_stat(fd, "", &now);

	if (r < 0)
		return r;
	/* Somebody changed the owner or the mode meanwhile: what that took away stays away. */
	bool same = now.stx_uid == st->stx_uid && now.stx_gid == st->stx_gid &&
		    (now.stx_mode | set_ids) == (st->stx_mode | set_ids);

	if (same && privileges->size > 0)
		r = upper_setxattr(fd, XATTR_CAPABILITY, privileges->capability, privileges->size,
				   0);
	if (r == 0 && same && st->stx_mode & set_ids)
		r = upper_chmod(fd, st->stx_mode & 07777);
	return r < 0 ? r : clone_stat_times(fd, st);
}

int clone_sync_dir(int fd)
{
	_cleanup_close_ int dir = sys_reopen(fd, O_RDONLY | O_DIRECTORY);

	return dir < 0 ? dir : upper_fsync(dir, false);
}
