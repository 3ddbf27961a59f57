/* SPDX-License-Identifier: MIT */
#include "offline/keepaside.h"

#include <errno.h>
#include <sys/stat.h>

#include "format/aside.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define KEEPASIDE_CAPABILITY "security.capability"

static int keepaside_read(int fd, struct statx *st, struct aside *aside)
{
	int r = sys_stat(fd, "", st);

	if (r < 0)
		return r;
	ssize_t size = sys_getxattr(fd, KEEPASIDE_CAPABILITY, aside->capability,
				    sizeof(aside->capability));

	if (size < 0 && size != -ENODATA && size != -EOPNOTSUPP)
		return (int)size;
	aside->capability_size = size > 0 ? (size_t)size : 0;
	aside->mode = st->stx_mode & 07777;
	aside->atime = (struct timespec){ st->stx_atime.tv_sec, st->stx_atime.tv_nsec };
	aside->mtime = (struct timespec){ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec };
	return 0;
}

/* Who has no right to override modes needs those of the owner: to write the attribute as well. */
static int keepaside_open_up(int fd, const struct statx *st)
{
	mode_t need = S_ISDIR(st->stx_mode) ? S_IRWXU : S_IRUSR | S_IWUSR;

	return mutate_chmod(fd, (st->stx_mode & 07777) | need);
}

bool keepaside_is_open(int fd, enum xattr_namespace ns)
{
	return sys_getxattr(fd, xattr_private_name(ns, XATTR_ASIDE), NULL, 0) >= 0;
}

int keepaside_begin(int fd, enum xattr_namespace ns)
{
	const char *key = xattr_private_name(ns, XATTR_ASIDE);
	uint8_t value[ASIDE_SIZE_MAX];
	struct aside aside;
	struct statx st;

	if (keepaside_is_open(fd, ns))
		return 0;
	int r = keepaside_read(fd, &st, &aside);

	if (r < 0)
		return r;
	size_t size = aside_encode(&aside, value);

	r = mutate_setxattr(fd, key, value, size);
	if (r == -EACCES) {
		r = keepaside_open_up(fd, &st);
		if (r == 0)
			r = mutate_setxattr(fd, key, value, size);
	}
	return r;
}

int keepaside_end(int fd, enum xattr_namespace ns)
{
	const char *key = xattr_private_name(ns, XATTR_ASIDE);
	uint8_t value[ASIDE_SIZE_MAX];
	struct aside aside;
	struct statx st;
	ssize_t size = sys_getxattr(fd, key, value, sizeof(value));

	if (size < 0)
		return size == -ENODATA || size == -EOPNOTSUPP ? 0 : (int)size;
	int r = aside_decode(value, (size_t)size, &aside);

	if (r == 0 && aside.capability_size > 0)
		r = mutate_setxattr(fd, KEEPASIDE_CAPABILITY, aside.capability,
				    aside.capability_size);
	if (r == 0)
		r = mutate_utimens(fd, (const struct timespec[]){ aside.atime, aside.mtime });
	if (r == 0)
		r = mutate_chmod(fd, aside.mode);
	if (r == 0)
		r = mutate_removexattr(fd, key);
	if (r != -EACCES)
		return r;
	r = sys_stat(fd, "", &st);
	if (r == 0)
		r = keepaside_open_up(fd, &st);
	if (r == 0)
		r = mutate_removexattr(fd, key);
	return r < 0 ? r : mutate_chmod(fd, aside.mode);
}
