/* SPDX-License-Identifier: MIT */
#include "tools/import_entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "format/whiteout.h"
#include "sys/file.h"
#include "tools/import_path.h"

/* An entry and where it belongs. */
struct import_target {
	const struct tarread_entry *entry;
	const char *place;
	int dirfd; /* the directory it is in; borrowed */
	const char *name;
};

static int import_entry_refuse(struct strbuf *why, const char *reason)
{
	strbuf_append_string(why, reason);
	return -EINVAL;
}

/* Names what could not be done. */
static int import_entry_result(int r, const char *what, struct strbuf *why)
{
	if (r < 0 && why->length == 0)
		strbuf_append_format(why, "%s: %s", what, strerror(-r));
	return r;
}

static int import_entry_no_parent(int error, struct strbuf *why)
{
	if (error == -ENOTDIR || error == -ELOOP)
		return import_entry_refuse(
			why,
			"its name leads through something that is no directory of the archive");
	return import_entry_result(error, "its directory cannot be opened", why);
}

/* ---- attributes and data ---- */

static int import_entry_xattrs(const struct import_job *job, int fd, struct strbuf *why)
{
	char key[XATTR_KEY_MAX + 1];
	const void *value;
	size_t size;
	int r;

	tarread_xattr_rewind(job->tar);
	while ((r = tarread_xattr(job->tar, key, &value, &size)) > 0) {
		r = import_tree_setxattr(job->tree, fd, key, value, size);
		if (r < 0) {
			strbuf_append_format(why, "its attribute %s cannot be set: %s", key,
					     strerror(-r));
			return r;
		}
	}
	return r < 0 ? import_entry_refuse(why, tarread_reason(job->tar)) : 0;
}

static int import_entry_dress(const struct import_job *job, int fd,
			      const struct tarread_entry *entry, struct strbuf *why)
{
	int r = import_tree_chown(job->tree, fd, entry->uid, entry->gid);

	r = import_entry_result(r, "its owner cannot be set", why);
	if (r == 0)
		r = import_entry_xattrs(job, fd, why);
	if (r == 0)
		r = import_tree_chmod(job->tree, fd, entry->mode, entry->uid);
	if (r == 0)
		r = import_tree_touch(fd, &entry->mtime);
	return import_entry_result(r, "its attributes cannot be set", why);
}

static int import_entry_write(int fd, const char *data, size_t size, uint64_t offset)
{
	while (size > 0) {
		ssize_t r = sys_pwrite(fd, data, size, (off_t)offset);

		if (r <= 0)
			return r < 0 ? (int)r : -EIO;
		data += r;
		offset += (uint64_t)r;
		size -= (size_t)r;
	}
	return 0;
}

static int import_entry_data(const struct import_job *job, int fd, uint64_t total,
			     struct strbuf *why)
{
	const void *data;
	uint64_t offset;
	size_t size;
	int r;

	while ((r = tarread_data(job->tar, &data, &size, &offset)) > 0) {
		if (job->is_interrupted && job->is_interrupted(NULL))
			return -EINTR;
		if (offset > total || size > total - offset)
			return import_entry_refuse(why, "it has more data than its size says");
		r = import_entry_write(fd, data, size, offset);
		if (r < 0)
			return import_entry_result(r, "its data cannot be written", why);
		job->tree->counts.bytes += size;
	}
	if (r < 0) {
		strbuf_append_string(why, tarread_reason(job->tar));
		return r;
	}
	/* A hole at the end. */
	return import_entry_result(sys_truncate(fd, (off_t)total), "its size cannot be set", why);
}

/* ---- objects ---- */

static int import_entry_file(const struct import_job *job, const struct import_target *target,
			     struct strbuf *why)
{
	_cleanup_close_ int fd =
		sys_open(target->dirfd, target->name, O_CREAT | O_EXCL | O_WRONLY, 0600);

	if (fd < 0)
		return import_entry_result(fd, "it cannot be made", why);
	int r = import_entry_data(job, fd, target->entry->size, why);

	return r < 0 ? r : import_entry_dress(job, fd, target->entry, why);
}

/* A symbolic link, a device, a fifo. */
static int import_entry_special(const struct import_job *job, const struct import_target *target,
				struct strbuf *why)
{
	const struct tarread_entry *entry = target->entry;
	int r;

	if (whiteout_is_device(entry->mode, entry->rdev))
		return import_entry_refuse(why, "a device 0:0 would hide a name, which an archive "
						"says by .wh. names");
	if (S_ISLNK(entry->mode))
		r = sys_symlink(entry->link, target->dirfd, target->name);
	else if (S_ISCHR(entry->mode) || S_ISBLK(entry->mode) || S_ISFIFO(entry->mode))
		r = sys_mknod(target->dirfd, target->name, (entry->mode & S_IFMT) | 0600,
			      entry->rdev);
	else
		return import_entry_refuse(why, "it is of a kind that a layer cannot hold");
	if (r == -EPERM && !S_ISLNK(entry->mode))
		return import_entry_result(r, "only root can make devices", why);
	if (r < 0)
		return import_entry_result(r, "it cannot be made", why);
	_cleanup_close_ int fd = sys_open(target->dirfd, target->name, O_PATH | O_NOFOLLOW, 0);

	return fd < 0 ? fd : import_entry_dress(job, fd, entry, why);
}

static int import_entry_remember_dir(const struct import_job *job, const char *place,
				     const struct tarread_entry *entry, struct strbuf *why)
{
	_cleanup_import_dir_ struct import_dir dir = {
		.place = strdup(place),
		.mode = entry->mode,
		.uid = entry->uid,
		.gid = entry->gid,
		.mtime = entry->mtime,
	};
	char key[XATTR_KEY_MAX + 1];
	const void *value;
	size_t size;
	int r;

	tarread_xattr_rewind(job->tar);
	while ((r = tarread_xattr(job->tar, key, &value, &size)) > 0)
		import_dir_add_xattr(&dir, key, value, size);
	if (r < 0)
		return import_entry_refuse(why, tarread_reason(job->tar));
	r = dir.place ? import_dirs_set(&job->tree->dirs, &dir) : -ENOMEM;
	return import_entry_result(r, "it cannot be remembered", why);
}

/*
 * A directory that is there gets other attributes; in place of a whiteout it is opaque, so that
 * what that hid stays hidden.
 */
static int import_entry_dir(const struct import_job *job, const struct import_target *target,
			    bool was_hidden, struct strbuf *why)
{
	int r = sys_mkdir(target->dirfd, target->name, 0700);

	if (r == 0 && was_hidden) {
		_cleanup_close_ int fd =
			sys_open(target->dirfd, target->name, O_PATH | O_DIRECTORY, 0);

		r = fd < 0 ? fd : import_tree_set_opaque(job->tree, fd);
	}
	if (r < 0 && r != -EEXIST)
		return import_entry_result(r, "it cannot be made", why);
	return import_entry_remember_dir(job, target->place, target->entry, why);
}

/* The place that a hard link leads to: an object that the archive brought before. */
static int import_entry_link_at(const struct import_job *job, const struct import_target *target,
				const char *from, struct strbuf *why)
{
	const char *name = import_path_name(from);
	_cleanup_close_ int dirfd = import_tree_open_parent(job->tree, from);
	struct statx st;
	int r = dirfd < 0 ? dirfd : sys_stat(dirfd, name, &st);

	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		return import_entry_refuse(why, "it is a hard link to what the archive does not "
						"have before it");
	if (r < 0)
		return import_entry_result(r, "what it is a hard link to cannot be reached", why);
	if (S_ISDIR(st.stx_mode) || import_tree_is_whiteout(job->tree, dirfd, name))
		return import_entry_refuse(why, "it is a hard link to a directory or a whiteout");
	return import_entry_result(sys_link(dirfd, name, target->dirfd, target->name),
				   "the hard link cannot be made", why);
}

/* ---- what is there already ---- */

/* Makes room for the object, which takes the place of what the archive brought before. */
static int import_entry_make_room(const struct import_job *job, const struct import_target *target,
				  bool *was_hidden)
{
	bool is_dir = !target->entry->is_hardlink && S_ISDIR(target->entry->mode);
	struct statx st;
	int r = sys_stat(target->dirfd, target->name, &st);

	*was_hidden = false;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (S_ISDIR(st.stx_mode) && is_dir)
		return 0;
	*was_hidden = import_tree_is_whiteout(job->tree, target->dirfd, target->name);
	return import_stage_remove(job->stage, target->dirfd, target->name);
}

static int import_entry_hardlink(const struct import_job *job, const struct import_target *target,
				 struct strbuf *why)
{
	_cleanup_free_ char *from = NULL;
	enum import_kind kind;
	const char *reason;
	bool was_hidden;
	int r = import_path_parse(target->entry->link, &kind, &from, &reason);

	if (r == -EINVAL)
		strbuf_append_format(why, "it is a hard link, and of its target: %s", reason);
	if (r < 0)
		return import_entry_result(r, "it cannot be read", why);
	if (kind != IMPORT_OBJECT || !*from)
		return import_entry_refuse(why, "it is a hard link to a directory or a whiteout");
	if (strcmp(from, target->place) == 0)
		return 0;
	r = import_entry_make_room(job, target, &was_hidden);
	return r < 0 ? import_entry_result(r, "it cannot take its place", why) :
		       import_entry_link_at(job, target, from, why);
}

static int import_entry_object(const struct import_job *job, const struct import_target *target,
			       struct strbuf *why)
{
	bool was_hidden;
	int r;

	if (target->entry->is_hardlink)
		return import_entry_hardlink(job, target, why);
	r = import_entry_make_room(job, target, &was_hidden);
	if (r < 0)
		return import_entry_result(r, "it cannot take its place", why);
	if (S_ISREG(target->entry->mode))
		return import_entry_file(job, target, why);
	if (S_ISDIR(target->entry->mode))
		return import_entry_dir(job, target, was_hidden, why);
	return import_entry_special(job, target, why);
}

/* ---- whiteouts ---- */

/* Of the directory only what the archive brings shows. */
static int import_entry_hide(const struct import_job *job, int fd)
{
	int r = import_tree_set_opaque(job->tree, fd);

	return r < 0 ? r : import_tree_drop_whiteouts(job->tree, fd);
}

/*
 * Hides what lowers have, not what the archive itself brings under that name: that may have come
 * before, and a directory of it must not show what lowers have in it.
 */
static int import_entry_whiteout(const struct import_job *job, const struct import_target *target,
				 struct strbuf *why)
{
	_cleanup_close_ int fd = -1;
	struct statx st;
	int r = sys_stat(target->dirfd, target->name, &st);

	job->tree->counts.whiteouts++;
	if (r == -ENOENT) {
		if (import_tree_is_opaque(job->tree, target->dirfd))
			return 0;
		r = import_tree_make_whiteout(job->tree, target->dirfd, target->name);
		return import_entry_result(r,
					   "the whiteout cannot be made (see "
					   "--attribute-whiteouts)",
					   why);
	}
	if (r == 0 && S_ISDIR(st.stx_mode)) {
		fd = sys_open(target->dirfd, target->name, O_PATH | O_DIRECTORY, 0);
		r = fd < 0 ? fd : import_entry_hide(job, fd);
	}
	return import_entry_result(r, "what it hides cannot be hidden", why);
}

static int import_entry_opaque(const struct import_job *job, const char *place, struct strbuf *why)
{
	_cleanup_close_ int fd = import_tree_open(job->tree, place);
	int r = fd < 0 ? fd : import_entry_hide(job, fd);

	job->tree->counts.opaque++;
	return import_entry_result(r, "the directory cannot be made opaque", why);
}

/* ---- an entry ---- */

/* What concerns a directory itself, which may be the root. */
static int import_entry_root(const struct import_job *job, const struct tarread_entry *entry,
			     struct strbuf *why)
{
	if (entry->is_hardlink || !S_ISDIR(entry->mode))
		return import_entry_refuse(why, "the layer itself can only be a directory");
	return import_entry_remember_dir(job, "", entry, why);
}

static int import_entry_place(const struct import_job *job, const struct tarread_entry *entry,
			      enum import_kind kind, const char *place, struct strbuf *why)
{
	if (kind == IMPORT_OBJECT && !*place)
		return import_entry_root(job, entry, why);
	_cleanup_free_ char *inside = NULL;

	/* For its directory to be made, an opaque mark has a name in it. */
	if (kind == IMPORT_OPAQUE && asprintf(&inside, "%s%s.", place, *place ? "/" : "") < 0)
		return -ENOMEM;
	const struct import_target target = {
		.entry = entry,
		.place = place,
		.dirfd = import_tree_parent(job->tree, inside ? inside : place, &entry->mtime),
		.name = import_path_name(place),
	};

	if (target.dirfd < 0)
		return import_entry_no_parent(target.dirfd, why);
	if (kind == IMPORT_OPAQUE)
		return import_entry_opaque(job, place, why);
	if (kind == IMPORT_WHITEOUT)
		return import_entry_whiteout(job, &target, why);
	return import_entry_object(job, &target, why);
}

int import_entry(const struct import_job *job, const struct tarread_entry *entry,
		 struct strbuf *why)
{
	_cleanup_free_ char *place = NULL;
	enum import_kind kind;
	const char *reason;
	int r = import_path_parse(entry->path, &kind, &place, &reason);

	if (r == -EINVAL)
		return import_entry_refuse(why, reason);
	if (r < 0)
		return import_entry_result(r, "it cannot be read", why);
	job->tree->counts.entries++;
	if (kind == IMPORT_NOTHING)
		return 0;
	return import_entry_result(import_entry_place(job, entry, kind, place, why),
				   "it cannot be put into the layer", why);
}
