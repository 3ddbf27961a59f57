/* SPDX-License-Identifier: MIT */
#include "core/mark.h"

#include <errno.h>

#include "core/upper.h"
#include "sys/file.h"

/* True if @error is for lack of a permission that could be given; then it is. */
static bool mark_unlock(struct core *core, int fd, int error, struct statx *st)
{
	return error == -EACCES && !core->can_override && sys_stat(fd, "", st) == 0 &&
	       !(st->stx_mode & S_IWUSR) && upper_chmod(fd, (st->stx_mode | S_IWUSR) & 07777) == 0;
}

/* What came of it is @r, unless the mode cannot be had back. */
static int mark_lock(int fd, const struct statx *st, int r)
{
	int locked = upper_chmod(fd, st->stx_mode & 07777);

	return locked < 0 ? locked : r;
}

int mark_set(struct core *core, int fd, enum xattr_private which, const void *value, size_t size)
{
	const char *key = core_key(core, which);
	struct statx st;
	int r = upper_setxattr(fd, key, value, size, 0);

	return mark_unlock(core, fd, r, &st) ?
		       mark_lock(fd, &st, upper_setxattr(fd, key, value, size, 0)) :
		       r;
}

int mark_remove(struct core *core, int fd, enum xattr_private which)
{
	const char *key = core_key(core, which);
	struct statx st;
	int r = upper_removexattr(fd, key);

	return mark_unlock(core, fd, r, &st) ? mark_lock(fd, &st, upper_removexattr(fd, key)) : r;
}
