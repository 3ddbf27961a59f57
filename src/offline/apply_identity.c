/* SPDX-License-Identifier: MIT */
/*
 * Which object something is, told so that it holds after a reboot, when device
 * numbers and mount ids are others.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "offline/apply_internal.h"
#include "sys/file.h"
#include "sys/handle.h"

int apply_name_run(struct apply *apply, const char *id)
{
	uint64_t random;

	if (id) {
		snprintf(apply->id, sizeof(apply->id), "%s", id);
	} else {
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		snprintf(apply->id, sizeof(apply->id), "%016llx", (unsigned long long)random);
	}
	snprintf(apply->temp, sizeof(apply->temp), APPLY_PREFIX "%s-new", apply->id);
	return 0;
}

static void apply_append_hex(struct strbuf *buf, const void *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		strbuf_append_format(buf, "%02x", ((const unsigned char *)bytes)[i]);
}

/* A file system that has a UUID keeps its file handles, too: they tell subvolumes apart. */
static int apply_append_file_system(int fd, struct strbuf *buf)
{
	struct sys_handle handle;
	uint8_t uuid[16];
	long magic;

	if (sys_fs_uuid(fd, uuid) == 0) {
		strbuf_append_string(buf, " of the file system ");
		apply_append_hex(buf, uuid, sizeof(uuid));
		if (sys_handle_get(fd, "", &handle) == 0) {
			strbuf_append_format(buf, ", handle %d-", handle.type);
			apply_append_hex(buf, handle.bytes, handle.size);
		}
		return 0;
	}
	int r = sys_fs_magic(fd, &magic);

	if (r == 0)
		strbuf_append_format(buf, " of a file system of type 0x%lx", (unsigned long)magic);
	return r;
}

int apply_identify(int fd, char **identity)
{
	_cleanup_strbuf_ struct strbuf buf = STRBUF_INIT;
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	strbuf_append_format(&buf, "inode %llu", (unsigned long long)st.stx_ino);
	r = apply_append_file_system(fd, &buf);
	if (r < 0)
		return r;
	*identity = buf.failed ? NULL : strdup(buf.data);
	return *identity ? 0 : -ENOMEM;
}

int apply_identify_path(const char *path, char **identity)
{
	_cleanup_close_ int fd = sys_open_path(path, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : apply_identify(fd, identity);
}

bool apply_is_moved(const struct apply_move *move, const struct statx *st)
{
	return st->stx_ino == move->ino && S_ISDIR(st->stx_mode) == move->is_dir &&
	       !sys_stat_is_mount_root(st);
}

int apply_prove_moved(struct apply *apply, const struct apply_move *move, int dirfd,
		      const char *name)
{
	struct statx st;
	int r = sys_stat(dirfd, name, &st);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && apply_is_moved(move, &st))
		return 0;
	return apply_fail(apply, -ESTALE,
			  "%s, which was renamed from %s, is neither in its new place nor %s/%s, "
			  "where this commit had put it: somebody else changed it, or a file "
			  "system is not mounted",
			  name, move->source, apply->dest, move->stage);
}
