/* SPDX-License-Identifier: MIT */
/*
 * Names are written as they are.  In a UTF-8 locale libarchive takes those
 * that are UTF-8 for such, and marks the others as binary (hdrcharset of pax);
 * in the C locale it would mark every name that is not ASCII, and GNU tar
 * complains of the mark.
 */
#include "tools/tarwrite.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "tools/tarlib.h"

struct tarwrite {
	const struct tarlib *lib; /* constant */
	struct archive *archive; /* owned */
	struct archive_entry *entry; /* owned: the one under way */
	locale_t locale, before; /* owned, and the one in force before */
};

static int tarwrite_compress(const struct tarwrite *tar, enum tarwrite_compression compression)
{
	struct archive *archive = tar->archive;

	if (compression == TARWRITE_PLAIN)
		return ARCHIVE_OK;
	if (compression == TARWRITE_ZSTD)
		return tar->lib->archive_write_add_filter_zstd(archive);
	int r = tar->lib->archive_write_add_filter_gzip(archive);

	/* The header of gzip has a time, which would be the one of this run. */
	return r == ARCHIVE_OK ? tar->lib->archive_write_set_filter_option(archive, "gzip",
									   "timestamp", NULL) :
				 r;
}

static bool tarwrite_open(const struct tarwrite *tar, int fd, enum tarwrite_compression compression)
{
	struct archive *archive = tar->archive;

	return tarwrite_compress(tar, compression) == ARCHIVE_OK &&
	       tar->lib->archive_write_set_format_pax(archive) == ARCHIVE_OK &&
	       tar->lib->archive_write_set_format_option(archive, "pax", "xattrheader", "SCHILY") ==
		       ARCHIVE_OK &&
	       /* The same bytes into a pipe as into a file: no padding to a tape's record. */
	       tar->lib->archive_write_set_bytes_in_last_block(archive, 1) == ARCHIVE_OK &&
	       tar->lib->archive_write_open_fd(archive, fd) == ARCHIVE_OK;
}

struct tarwrite *tarwrite_new(int fd, enum tarwrite_compression compression)
{
	struct tarwrite *tar = calloc(1, sizeof(*tar));

	if (!tar)
		return NULL;
	tar->lib = tarlib_get();
	if (!tar->lib) {
		free(tar);
		return NULL;
	}
	tar->archive = tar->lib->archive_write_new();
	tar->entry = tar->lib->archive_entry_new();
	tar->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	if (tar->locale)
		tar->before = uselocale(tar->locale);
	if (!tar->archive || !tar->entry || !tarwrite_open(tar, fd, compression))
		return tarwrite_free(tar);
	return tar;
}

struct tarwrite *tarwrite_free(struct tarwrite *tar)
{
	/* Closing would write what is missing of the entry under way, as zeros. */
	tar->lib->archive_write_fail(tar->archive);
	tar->lib->archive_write_free(tar->archive);
	tar->lib->archive_entry_free(tar->entry);
	if (tar->locale) {
		uselocale(tar->before);
		freelocale(tar->locale);
	}
	free(tar);
	return NULL;
}

const char *tarwrite_reason(const struct tarwrite *tar)
{
	const char *reason = tar->lib->archive_error_string(tar->archive);

	return reason ? reason : "it cannot be written";
}

/* Of a warning there is one kind: a name is not UTF-8, and marked. */
static int tarwrite_result(struct tarwrite *tar, long r)
{
	int error = tar->lib->archive_errno(tar->archive);

	if (r >= ARCHIVE_WARN)
		return 0;
	return error > 0 && error < 4096 ? -error : -EIO;
}

void tarwrite_begin(struct tarwrite *tar, const struct tarwrite_entry *from)
{
	struct archive_entry *to = tar->lib->archive_entry_clear(tar->entry);

	tar->lib->archive_entry_copy_pathname(to, from->path);
	tar->lib->archive_entry_set_mode(to, from->mode);
	tar->lib->archive_entry_set_uid(to, from->uid);
	tar->lib->archive_entry_set_gid(to, from->gid);
	/* libarchive writes a half after -2 as -2.5, which is another time: whole seconds before 1970. */
	tar->lib->archive_entry_set_mtime(to, from->mtime.tv_sec,
					  from->mtime.tv_sec < 0 ? 0 : from->mtime.tv_nsec);
	if (from->is_hardlink) {
		tar->lib->archive_entry_copy_hardlink(to, from->link);
		return;
	}
	if (S_ISLNK(from->mode))
		tar->lib->archive_entry_copy_symlink(to, from->link);
	if (S_ISREG(from->mode))
		tar->lib->archive_entry_set_size(to, (int64_t)from->size);
	if (S_ISCHR(from->mode) || S_ISBLK(from->mode)) {
		tar->lib->archive_entry_set_rdevmajor(to, major(from->rdev));
		tar->lib->archive_entry_set_rdevminor(to, minor(from->rdev));
	}
}

void tarwrite_xattr(struct tarwrite *tar, const char *key, const void *value, size_t size)
{
	tar->lib->archive_entry_xattr_add_entry(tar->entry, key, value, size);
}

void tarwrite_piece(struct tarwrite *tar, uint64_t offset, uint64_t size)
{
	tar->lib->archive_entry_sparse_add_entry(tar->entry, (int64_t)offset, (int64_t)size);
}

int tarwrite_header(struct tarwrite *tar)
{
	return tarwrite_result(tar, tar->lib->archive_write_header(tar->archive, tar->entry));
}

int tarwrite_data(struct tarwrite *tar, const void *data, size_t size)
{
	return tarwrite_result(tar, tar->lib->archive_write_data(tar->archive, data, size));
}

int tarwrite_finish(struct tarwrite *tar)
{
	return tarwrite_result(tar, tar->lib->archive_write_close(tar->archive));
}

uint64_t tarwrite_size(const struct tarwrite *tar)
{
	return (uint64_t)tar->lib->archive_filter_bytes(tar->archive, -1);
}

uint64_t tarwrite_plain_size(const struct tarwrite *tar)
{
	return (uint64_t)tar->lib->archive_filter_bytes(tar->archive, 0);
}
