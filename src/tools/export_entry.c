/* SPDX-License-Identifier: MIT */
#include "tools/export_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "format/xattr_name.h"
#include "offline/view.h"

#define EXPORT_BUFFER_SIZE (1 << 20)

/* Made by this machine's policy, and for it. */
#define EXPORT_XATTR_LABEL "security.selinux"

static int export_entry_fail(struct strbuf *why, int error, const char *what)
{
	if (why->length == 0)
		strbuf_append_format(why, "%s: %s", what, strerror(-error));
	return error;
}

static int export_entry_written(const struct export *export, int r, struct strbuf *why)
{
	if (r < 0 && why->length == 0)
		strbuf_append_format(why, "the archive cannot be written: %s",
				     tarwrite_reason(export->tar));
	return r;
}

static struct timespec export_entry_time(const struct export *export,
					 const struct statx_timestamp *from)
{
	struct timespec time = { .tv_sec = from->tv_sec, .tv_nsec = from->tv_nsec };

	if (export->has_latest && time.tv_sec >= export->latest)
		time = (struct timespec){ .tv_sec = export->latest };
	return time;
}

int export_entry_mark(struct export *export, const char *path, struct strbuf *why)
{
	/* When something was removed is not known of all forms, and means nothing. */
	const struct tarwrite_entry mark = { .path = path, .mode = S_IFREG };

	tarwrite_begin(export->tar, &mark);
	export->counts.entries++;
	return export_entry_written(export, tarwrite_header(export->tar), why);
}

/* ---- attributes ---- */

static int export_entry_xattr(const struct export_entry *entry, const char *key)
{
	_cleanup_free_ char *value = NULL;
	ssize_t size = core_getxattr(entry->view, entry->object->node, key, NULL, 0);

	if (size >= 0) {
		value = malloc((size_t)size + 1);
		size = value ? core_getxattr(entry->view, entry->object->node, key, value,
					     (size_t)size) :
			       -ENOMEM;
	}
	if (size < 0)
		return (int)size;
	tarwrite_xattr(entry->export->tar, key, value, (size_t)size);
	return 0;
}

static int export_entry_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The names in @list, of @size bytes, in an order of their own: file systems list them in any. */
static int export_entry_sort(const char *list, size_t size, const char ***keysp, size_t *countp)
{
	size_t count = 0;
	const char **keys = calloc(size + 1, sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	for (size_t at = 0; at < size; at += strlen(list + at) + 1)
		keys[count++] = list + at;
	qsort(keys, count, sizeof(*keys), export_entry_compare);
	*keysp = keys;
	*countp = count;
	return 0;
}

static int export_entry_xattrs(const struct export_entry *entry, struct strbuf *why)
{
	_cleanup_free_ const char **keys = NULL;
	_cleanup_free_ char *list = NULL;
	uint64_t node = entry->object->node;
	ssize_t size = core_listxattr(entry->view, &view_call, node, NULL, 0);
	size_t count = 0;
	int r = 0;

	if (size == 0 || size == -EOPNOTSUPP)
		return 0;
	if (size > 0) {
		list = calloc(1, (size_t)size + 1);
		size = list ? core_listxattr(entry->view, &view_call, node, list, (size_t)size) :
			      -ENOMEM;
	}
	r = size < 0 ? (int)size : export_entry_sort(list, (size_t)size, &keys, &count);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (strcmp(keys[i], EXPORT_XATTR_LABEL) != 0)
			r = export_entry_xattr(entry, keys[i]);
	return r < 0 ? export_entry_fail(why, r, "its attributes cannot be read") : 0;
}

/* ---- data ---- */

/* A piece of a file with no hole in it, or all of a hole. */
struct export_piece {
	uint64_t offset, end;
	bool is_hole;
};

static struct export_piece export_entry_next_piece(const struct export_entry *entry,
						   uint64_t offset)
{
	uint64_t node = entry->object->node, size = entry->object->attr.stx_size;
	struct export_piece piece = { .offset = offset, .end = size };
	off_t data = core_seek(entry->view, node, (off_t)offset, SEEK_DATA);

	/* Where the file system does not tell, all is data. */
	if (data == -ENXIO || data > (off_t)offset) {
		piece.is_hole = true;
		piece.end = data < 0 ? size : MIN((uint64_t)data, size);
	} else if (data >= 0) {
		off_t hole = core_seek(entry->view, node, (off_t)offset, SEEK_HOLE);

		if (hole > (off_t)offset)
			piece.end = MIN((uint64_t)hole, size);
	}
	return piece;
}

/* Tells where data is, if there are holes. */
static void export_entry_map(const struct export_entry *entry)
{
	uint64_t size = entry->object->attr.stx_size;
	struct export_piece piece = { 0 };

	if (size == 0)
		return;
	piece = export_entry_next_piece(entry, 0);
	if (!piece.is_hole && piece.end == size)
		return;
	while (piece.offset < size) {
		if (!piece.is_hole)
			tarwrite_piece(entry->export->tar, piece.offset, piece.end - piece.offset);
		else if (piece.end == size)
			tarwrite_piece(entry->export->tar, size, 0);
		piece = export_entry_next_piece(entry, piece.end);
	}
}

static int export_entry_piece(const struct export_entry *entry, const struct export_piece *piece,
			      char *buf, struct strbuf *why)
{
	struct export *export = entry->export;
	uint64_t offset = piece->offset;

	while (offset < piece->end) {
		size_t wanted = MIN(piece->end - offset, (uint64_t)EXPORT_BUFFER_SIZE);
		/* What is given of a hole is not looked at. */
		ssize_t got = piece->is_hole ? (ssize_t)wanted :
					       core_read(entry->view, entry->object->node, buf,
							 wanted, offset, true);

		if (got < 0)
			return export_entry_fail(why, (int)got, "its data cannot be read");
		if (got == 0) {
			strbuf_append_string(why, "it became shorter while it was read");
			return -EBUSY;
		}
		int r = tarwrite_data(export->tar, buf, (size_t)got);

		if (r < 0)
			return export_entry_written(export, r, why);
		offset += (uint64_t)got;
		export->counts.bytes += piece->is_hole ? 0 : (uint64_t)got;
		if (export->progress)
			export->progress(export->context, (uint64_t)got);
		if (export->is_interrupted && export->is_interrupted(NULL))
			return -EINTR;
	}
	return 0;
}

static int export_entry_data(const struct export_entry *entry, struct strbuf *why)
{
	_cleanup_free_ char *buf = malloc(EXPORT_BUFFER_SIZE);
	uint64_t size = entry->object->attr.stx_size;
	struct export_piece piece = { 0 };
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && piece.end < size) {
		piece = export_entry_next_piece(entry, piece.end);
		r = export_entry_piece(entry, &piece, buf, why);
	}
	return r;
}

static int export_entry_file(const struct export_entry *entry, struct strbuf *why)
{
	uint64_t node = entry->object->node;
	int backing;
	int r = core_open(entry->view, &view_call, node, O_RDONLY, &backing);

	if (r < 0)
		return export_entry_fail(why, r, "it cannot be opened");
	export_entry_map(entry);
	r = export_entry_written(entry->export, tarwrite_header(entry->export->tar), why);
	if (r == 0)
		r = export_entry_data(entry, why);
	core_release(entry->view, node);
	return r;
}

/* ---- an object ---- */

static int export_entry_object(const struct export_entry *entry, struct strbuf *why)
{
	const struct statx *attr = &entry->object->attr;
	struct export *export = entry->export;
	char target[PATH_MAX + 1] = "";
	const struct tarwrite_entry to = {
		.path = entry->path,
		.link = target,
		.mode = attr->stx_mode,
		.uid = attr->stx_uid,
		.gid = attr->stx_gid,
		.rdev = makedev(attr->stx_rdev_major, attr->stx_rdev_minor),
		.size = attr->stx_size,
		.mtime = export_entry_time(export, &attr->stx_mtime),
	};
	int r = 0;

	if (S_ISLNK(attr->stx_mode)) {
		ssize_t length = core_readlink(entry->view, entry->object->node, target, PATH_MAX);

		if (length < 0)
			return export_entry_fail(why, (int)length, "it cannot be read");
		target[length] = '\0';
	}
	tarwrite_begin(export->tar, &to);
	r = export_entry_xattrs(entry, why);
	if (r < 0)
		return r;
	export->counts.entries++;
	if (S_ISREG(attr->stx_mode))
		return export_entry_file(entry, why);
	return export_entry_written(export, tarwrite_header(export->tar), why);
}

static int export_entry_hardlink(const struct export_entry *entry, const char *first,
				 struct strbuf *why)
{
	struct export *export = entry->export;
	const struct tarwrite_entry link = {
		.path = entry->path,
		.link = first,
		.is_hardlink = true,
		.mode = entry->object->attr.stx_mode,
		.uid = entry->object->attr.stx_uid,
		.gid = entry->object->attr.stx_gid,
		.mtime = export_entry_time(export, &entry->object->attr.stx_mtime),
	};

	tarwrite_begin(export->tar, &link);
	export->counts.entries++;
	export->counts.hardlinks++;
	return export_entry_written(export, tarwrite_header(export->tar), why);
}

int export_entry(const struct export_entry *entry, struct strbuf *why)
{
	const struct statx *attr = &entry->object->attr;
	const char *first = NULL;
	int r = 0;

	if (S_ISSOCK(attr->stx_mode)) {
		entry->export->counts.sockets++;
		return 0;
	}
	if (!S_ISDIR(attr->stx_mode) && attr->stx_nlink > 1)
		r = export_links_add(entry->links, attr->stx_ino, entry->path, &first);
	if (r < 0)
		return export_entry_fail(why, r, "it cannot be remembered");
	return first ? export_entry_hardlink(entry, first, why) : export_entry_object(entry, why);
}
