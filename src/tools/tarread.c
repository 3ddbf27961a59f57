/* SPDX-License-Identifier: MIT */
/*
 * libarchive turns names into the character set of the locale, and in a UTF-8
 * locale also composes their characters: two names that differ would become
 * one.  In the C locale it cannot convert what is not ASCII, says so, and hands
 * out the bytes as they are, which is what a file name is.
 */
#include "tools/tarread.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/util.h"
#include "format/acl.h"
#include "format/xattr_name.h"
#include "tools/tarlib.h"
#include "tools/tarread_acl.h"

#define TARREAD_BLOCK_SIZE (128 * 1024)

struct tarread {
	const struct tarlib *lib; /* constant */
	struct archive *archive; /* owned */
	struct archive_entry *entry; /* of libarchive: the last one read */
	locale_t locale, before; /* the C locale, owned, and the one in force before */
	const char *reason; /* constant, or NULL: ask libarchive */
	unsigned int acl; /* which comes after the extended attributes: index of tarread_acls */
	struct strbuf acl_value;
};

/* In the order of "is it the default one?" */
static const char *const tarread_acls[] = { ACL_XATTR_ACCESS, ACL_XATTR_DEFAULT };

static int tarread_fail(struct tarread *tar, const char *reason)
{
	tar->reason = reason;
	return -EBADMSG;
}

/* libarchive's own numbers for "damaged" and the like are below 0, or no errno at all. */
static int tarread_error(struct tarread *tar)
{
	int error = tar->lib->archive_errno(tar->archive);

	tar->reason = tar->lib->archive_error_string(tar->archive) ?
			      NULL :
			      "it is damaged or ends too early";
	if (error == ENOMEM || error == EIO || error == EISDIR || error == EACCES)
		return -error;
	return -EBADMSG;
}

static bool tarread_supports(const struct tarread *tar)
{
	struct archive *archive = tar->archive;

	/* Not all that libarchive can: it starts programs for what it has no library for. */
	return tar->lib->archive_read_support_filter_gzip(archive) == ARCHIVE_OK &&
	       tar->lib->archive_read_support_filter_bzip2(archive) == ARCHIVE_OK &&
	       tar->lib->archive_read_support_filter_xz(archive) == ARCHIVE_OK &&
	       tar->lib->archive_read_support_filter_zstd(archive) == ARCHIVE_OK &&
	       tar->lib->archive_read_support_format_tar(archive) == ARCHIVE_OK;
}

struct tarread *tarread_new(int fd)
{
	struct tarread *tar = calloc(1, sizeof(*tar));

	if (!tar)
		return NULL;
	tar->lib = tarlib_get();
	if (!tar->lib) {
		free(tar);
		return NULL;
	}
	tar->archive = tar->lib->archive_read_new();
	tar->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (tar->locale)
		tar->before = uselocale(tar->locale);
	if (!tar->archive || !tar->locale || !tarread_supports(tar))
		return tarread_free(tar);
	/* A failure shows again at the first entry, with its reason. */
	tar->lib->archive_read_open_fd(tar->archive, fd, TARREAD_BLOCK_SIZE);
	return tar;
}

struct tarread *tarread_free(struct tarread *tar)
{
	tar->lib->archive_read_free(tar->archive);
	if (tar->locale) {
		uselocale(tar->before);
		freelocale(tar->locale);
	}
	strbuf_deinit(&tar->acl_value);
	free(tar);
	return NULL;
}

const char *tarread_reason(const struct tarread *tar)
{
	const char *reason = tar->reason ? tar->reason :
					   tar->lib->archive_error_string(tar->archive);

	return reason ? reason : "it is damaged";
}

uint64_t tarread_done(const struct tarread *tar)
{
	int64_t done = tar->lib->archive_filter_bytes(tar->archive, -1);

	return done > 0 ? (uint64_t)done : 0;
}

static bool tarread_is_id(int64_t id)
{
	return id >= 0 && id < UINT32_MAX;
}

static int tarread_fill(struct tarread *tar, struct tarread_entry *to)
{
	struct archive_entry *entry = tar->entry;
	const char *hardlink = tar->lib->archive_entry_hardlink(entry);

	*to = (struct tarread_entry){
		.path = tar->lib->archive_entry_pathname(entry),
		.link = hardlink ? hardlink : tar->lib->archive_entry_symlink(entry),
		.is_hardlink = hardlink != NULL,
		.mode = tarread_acl_mode(tar->lib, entry),
		.uid = (uid_t)tar->lib->archive_entry_uid(entry),
		.gid = (gid_t)tar->lib->archive_entry_gid(entry),
		.rdev = makedev(tar->lib->archive_entry_rdevmajor(entry),
				tar->lib->archive_entry_rdevminor(entry)),
		.size = (uint64_t)tar->lib->archive_entry_size(entry),
		.mtime.tv_sec = tar->lib->archive_entry_mtime(entry),
		.mtime.tv_nsec = tar->lib->archive_entry_mtime_nsec(entry),
	};
	if (!to->path || !*to->path)
		return tarread_fail(tar, "an entry has no name");
	if (S_ISLNK(to->mode) && !hardlink && (!to->link || !*to->link))
		return tarread_fail(tar, "a symbolic link leads nowhere");
	if (!tarread_is_id(tar->lib->archive_entry_uid(entry)) ||
	    !tarread_is_id(tar->lib->archive_entry_gid(entry)))
		return tarread_fail(tar, "its owner's number is out of range");
	if (tar->lib->archive_entry_size(entry) < 0)
		return tarread_fail(tar, "its size is negative");
	/* libarchive takes -1.5 for a half after -1, others for a half before: the fraction says nothing. */
	if (to->mtime.tv_sec < 0)
		to->mtime.tv_nsec = 0;
	if (to->mtime.tv_nsec < 0 || to->mtime.tv_nsec >= 1000000000)
		return tarread_fail(tar, "its time is out of range");
	return 1;
}

int tarread_next(struct tarread *tar, struct tarread_entry *entry)
{
	int r = tar->lib->archive_read_next_header(tar->archive, &tar->entry);

	tar->reason = NULL;
	/* The end is marked by blocks of zeros, which come where a header would: an archive that was
	 * cut off between two entries has none. */
	if (r == ARCHIVE_EOF)
		return tar->lib->archive_filter_bytes(tar->archive, 0) >
				       tar->lib->archive_read_header_position(tar->archive) ?
			       0 :
			       tarread_fail(tar, "it ends too early");
	/* A warning is about the character set. */
	return r < ARCHIVE_WARN ? tarread_error(tar) : tarread_fill(tar, entry);
}

int tarread_data(struct tarread *tar, const void **data, size_t *size, uint64_t *offset)
{
	la_int64_t at = 0;
	int r = tar->lib->archive_read_data_block(tar->archive, data, size, &at);

	tar->reason = NULL;
	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN)
		return tarread_error(tar);
	if (at < 0)
		return tarread_fail(tar, "its map of holes is damaged");
	*offset = (uint64_t)at;
	return 1;
}

void tarread_xattr_rewind(struct tarread *tar)
{
	tar->acl = 0;
	tar->lib->archive_entry_xattr_reset(tar->entry);
}

static int tarread_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * What cannot be in the key of a pax record is written as %XX (by libarchive; GNU tar does so for
 * '=' and '%'). False: longer than any attribute's name.
 */
static bool tarread_decode(const char *encoded, char *key)
{
	size_t length = 0;

	while (*encoded) {
		int high = *encoded == '%' ? tarread_hex(encoded[1]) : -1;
		int low = high >= 0 ? tarread_hex(encoded[2]) : -1;

		if (length == XATTR_KEY_MAX)
			return false;
		if (low >= 0 && (high || low)) {
			key[length++] = (char)(high << 4 | low);
			encoded += 3;
		} else {
			key[length++] = *encoded++;
		}
	}
	key[length] = '\0';
	return length > 0;
}

static int tarread_next_acl(struct tarread *tar, char *key, const void **value, size_t *size)
{
	while (tar->acl < ARRAY_SIZE(tarread_acls)) {
		const char *name = tarread_acls[tar->acl];
		int r = tarread_acl(tar->lib, tar->entry, tar->acl == 1, &tar->acl_value);

		tar->acl++;
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			return tarread_fail(tar, "its access control list is damaged, or names "
						 "somebody without a number");
		if (tar->acl_value.length == 0)
			continue;
		strcpy(key, name);
		*value = tar->acl_value.data;
		*size = tar->acl_value.length;
		return 1;
	}
	return 0;
}

int tarread_xattr(struct tarread *tar, char *key, const void **value, size_t *size)
{
	const char *encoded;

	tar->reason = NULL;
	if (tar->lib->archive_entry_xattr_next(tar->entry, &encoded, value, size) != ARCHIVE_OK)
		return tarread_next_acl(tar, key, value, size);
	if (!tarread_decode(encoded, key))
		return tarread_fail(tar, "an extended attribute's name is too long");
	return 1;
}
