/* SPDX-License-Identifier: MIT */
/*
 * New objects.  Where the name is free in the upper, they are made in place
 * with the caller's ids, so that the file system itself lets them inherit
 * (set-gid directories, default ACLs).  Where a whiteout has the name, they are
 * made in the work directory and exchanged with it in one step.
 */
#include "core/create.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/attr.h"
#include "core/copyup.h"
#include "core/datafd.h"
#include "core/lookup.h"
#include "core/place.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "core/xattr.h"
#include "format/acl.h"
#include "format/whiteout.h"
#include "sys/creds.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* What is to be created. */
struct creation {
	const struct core_call *call;
	mode_t mode; /* with its type */
	int backing; /* of the file, once it is open; as core_open() */
	dev_t rdev;
	const char *target; /* of a symbolic link */
	int fd; /* a regular file comes open for reading and writing; else -1. Owned. */
	bool writes; /* a regular file is opened for that, if at all */
	bool is_opaque; /* a directory: it was made with the opaque attribute */
};

int node_find_dir(struct core *core, uint64_t id, struct node **nodep)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	if (!node_is_dir(node)) {
		node_unref(core, node);
		return -ENOTDIR;
	}
	*nodep = node;
	return 0;
}

/* ---- the directory that changes ---- */

static int target_lock(struct core *core, struct target *target)
{
	struct node_dir *dir = target->dir->dir;

	lock_rw_write(&dir->lock);
	target->fd = dir->dead || !dir->upper ? -ENOENT : ldir_pin(&core->fds, dir->upper);
	if (target->fd < 0)
		lock_rw_write_unlock(&dir->lock);
	return target->fd < 0 ? target->fd : 0;
}

int target_open(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		bool removes, struct target *target)
{
	*target = (struct target){ .name = name };
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	int r = node_find_dir(core, parent, &target->dir);

	if (r < 0)
		return r;
	r = core_refuses_changes(core) ? -EROFS : attr_check_names(target->dir, removes);
	if (r == 0)
		r = copyup_node(core, call, target->dir, COPYUP_META);
	if (r == 0)
		r = target_lock(core, target);
	if (r < 0)
		node_unref(core, target->dir);
	return r;
}

void target_close(struct core *core, struct target *target)
{
	ldir_unpin(target->dir->dir->upper);
	lock_rw_write_unlock(&target->dir->dir->lock);
	node_unref(core, target->dir);
}

int target_check_free(struct core *core, struct target *target)
{
	enum upper_name what;
	struct statx st;
	int r = lookup_upper_name(core, target->dir, target->name, &what, &st);

	if (r < 0)
		return r;
	target->over_whiteout = what == UPPER_WHITEOUT;
	if (what == UPPER_ABSENT && target->dir->dir->lower_count)
		r = lookup_lower_has(core, target->dir, target->name);
	if (r < 0)
		return r;
	return what == UPPER_OBJECT || r > 0 ? -EEXIST : 0;
}

void target_changed(struct core *core, struct node *dir, int subdirs)
{
	atomic_fetch_add(&dir->dir->version, 1);
	int64_t known = atomic_load(&dir->dir->subdirs);

	/* It may become unknown at any time: listing_keep_subdirs(). */
	while (subdirs && known >= 0 &&
	       !atomic_compare_exchange_weak(&dir->dir->subdirs, &known, known + subdirs))
		;
	quiet_changed(core, dir);
}

/* ---- making the object ---- */

static int creation_make(struct creation *c, int dirfd, const char *name, mode_t mode)
{
	if (S_ISREG(c->mode)) {
		c->fd = upper_create(dirfd, name, O_RDWR, mode);
		return c->fd < 0 ? c->fd : 0;
	}
	if (S_ISDIR(c->mode))
		return upper_mkdir(dirfd, name, mode);
	if (S_ISLNK(c->mode))
		return upper_symlink(c->target, dirfd, name);
	return upper_mknod(dirfd, name, (c->mode & S_IFMT) | mode, c->rdev);
}

/* In its directory: what the caller's ids and umask mean is the file system's to say. */
static int creation_make_in_place(struct creation *c, struct target *target)
{
	sys_creds_act_as(c->call->uid, c->call->gid, c->call->umask);
	int r = creation_make(c, target->fd, target->name, c->mode & 07777);

	sys_creds_restore();
	return r;
}

/* The parent's default ACL, or its absence, applied to an object that was made elsewhere. */
static int creation_inherit_acl(struct creation *c, const struct target *target, int fd,
				mode_t *mode)
{
	_cleanup_free_ void *parent_acl = NULL;
	ssize_t size = sys_getxattr_alloc(target->fd, ACL_XATTR_DEFAULT, (char **)&parent_acl);

	if (size == -ENODATA || size == -EOPNOTSUPP) {
		*mode &= ~c->call->umask;
		return 0;
	}
	if (size < 0)
		return size;
	_cleanup_free_ void *access = malloc(size);

	if (!access)
		return -ENOMEM;
	ssize_t access_size = acl_inherit(parent_acl, size, mode, access);

	if (access_size < 0)
		return access_size;
	int r = 0;

	if (S_ISDIR(c->mode))
		r = upper_setxattr(fd, ACL_XATTR_DEFAULT, parent_acl, size, 0);
	if (r == 0 && access_size > 0)
		r = upper_setxattr(fd, ACL_XATTR_ACCESS, access, access_size, 0);
	return r;
}

/* Mode, group and ACLs as they would be, had it been made in its directory. */
static int creation_inherit(struct creation *c, const struct target *target, int fd)
{
	mode_t mode = c->mode & 07777;
	struct statx st;
	int r = sys_stat(target->fd, "", &st);

	if (r < 0)
		return r;
	if (st.stx_mode & S_ISGID) {
		r = upper_chown(fd, -1, st.stx_gid);
		if (S_ISDIR(c->mode))
			mode |= S_ISGID;
	}
	if (r < 0 || S_ISLNK(c->mode))
		return r;
	r = creation_inherit_acl(c, target, fd, &mode);
	return r < 0 ? r : upper_chmod(fd, mode);
}

static int creation_prepare(struct core *core, struct creation *c, const struct target *target,
			    const char *temp)
{
	_cleanup_close_ int fd = sys_open(core->work.fd, temp, O_PATH | O_NOFOLLOW, 0);

	if (fd < 0)
		return fd;
	int r = creation_inherit(c, target, fd);

	/* What the lowers have under the name must not shine through. */
	if (r == 0 && S_ISDIR(c->mode)) {
		r = upper_setxattr(fd, core_key(core, XATTR_OPAQUE), "y", 1, 0);
		c->is_opaque = r == 0;
	}
	return r;
}

/* In the work directory, then put in the whiteout's place in one step. */
static int creation_make_over_whiteout(struct core *core, struct creation *c, struct target *target)
{
	char temp[WORKDIR_TEMP_MAX];
	bool is_dir = S_ISDIR(c->mode);

	workdir_temp_name(core, temp);
	sys_creds_act_as(c->call->uid, c->call->gid, 0);
	int r = creation_make(c, core->work.fd, temp, is_dir ? 0700 : 0600);

	sys_creds_restore();
	if (r < 0)
		return r;
	r = creation_prepare(core, c, target, temp);
	if (r == 0)
		r = upper_rename(core->work.fd, temp, target->fd, target->name,
				 is_dir ? RENAME_EXCHANGE : 0);
	/* What is left there now: the whiteout of a directory, or what could not be moved. */
	if (r < 0 || is_dir)
		workdir_discard(core, temp);
	return r;
}

/*
 * A new directory in a merged one has nothing to merge with, as long as nobody changes the lowers
 * while the union is not mounted, which redirects forbid: the mark saves later lookups from
 * asking them.  Nothing depends on it.
 */
static void creation_mark_opaque(struct core *core, struct creation *c, const struct target *target)
{
	if (!S_ISDIR(c->mode) || core->redirect != CORE_REDIRECT_ON || !node_is_merged(target->dir))
		return;
	_cleanup_close_ int fd = sys_open(target->fd, target->name, O_PATH | O_NOFOLLOW, 0);

	if (fd >= 0)
		c->is_opaque = upper_setxattr(fd, core_key(core, XATTR_OPAQUE), "y", 1, 0) == 0;
}

/* ---- its node ---- */

/* Keeps what is open anyway: who made a file writes to it; @open: has it open. */
static int creation_keep(struct core *core, struct creation *c, const struct statx *st, bool open,
			 struct node *node)
{
	struct node_file *file = node_get_file(core, node);
	struct datafd *data = file ? datafd_new(core, fd_take(&c->fd), st, true, true) : NULL;

	if (!data)
		return -ENOMEM;
	datafd_adopt(core, node, data, st->stx_mode, open, &c->backing);
	file->writers = open && c->writes;
	return 0;
}

static int creation_node(struct core *core, struct creation *c, const struct statx *st, bool open,
			 struct node **nodep)
{
	uint64_t ino = ident_ino(&core->ident, sys_stat_dev(st), st->stx_ino);
	struct node *node = ino ? node_new(core, c->mode, ino) : NULL;
	int r = node ? 0 : -ENOMEM;

	if (r == 0) {
		node->upper_ino = st->stx_ino;
		node_set(node, NODE_UPPER | (xattr_may_remember(core) ? NODE_NO_CAPS : 0));
		if (c->fd >= 0)
			r = creation_keep(core, c, st, open, node);
	}
	if (r < 0) {
		if (node)
			node_unref(core, node);
		return r;
	}
	*nodep = node;
	return 0;
}

/* The name may still be known as that of an object which somebody removed from the upper. */
static int creation_add_name(struct core *core, struct node *node, const struct target *target)
{
	struct node *owner = node_add_name(core, node, target->dir, target->name);

	if (owner && owner != node) {
		node_remove_name(core, owner, target->dir, target->name);
		node_unref(core, owner);
		owner = node_add_name(core, node, target->dir, target->name);
	}
	return owner == node ? 0 : -ENOMEM;
}

/* Takes the new object into the table of nodes. */
static int creation_adopt(struct core *core, struct creation *c, struct target *target, bool open,
			  struct core_entry *entry)
{
	struct node *node = NULL;
	int r = c->fd >= 0 ? sys_stat(c->fd, "", &entry->attr) :
			     sys_stat(target->fd, target->name, &entry->attr);

	if (r == 0)
		r = creation_node(core, c, &entry->attr, open, &node);
	if (r < 0)
		return r;
	if (node_is_dir(node)) {
		node->dir->upper = ldir_new(target->dir->dir->upper, target->name, &entry->attr);
		node->dir->opaque = c->is_opaque;
		if (!node->dir->upper)
			r = -ENOMEM;
	}
	if (r == 0)
		r = creation_add_name(core, node, target);
	if (r == 0) {
		node_lookup_add(core, node);
		entry->node = node->id;
		entry->attr.stx_ino = node->ino;
	}
	node_unref(core, node);
	return r;
}

static int creation_run(struct core *core, struct creation *c, uint64_t parent, const char *name,
			bool open, struct core_entry *entry)
{
	struct target target;
	int r = target_open(core, c->call, parent, name, false, &target);

	if (r < 0)
		return r;
	r = target_check_free(core, &target);
	if (r == 0)
		r = target.over_whiteout ? creation_make_over_whiteout(core, c, &target) :
					   creation_make_in_place(c, &target);
	if (r == 0) {
		if (!target.over_whiteout)
			creation_mark_opaque(core, c, &target);
		target_changed(core, target.dir, S_ISDIR(c->mode) ? 1 : 0);
		r = creation_adopt(core, c, &target, open, entry);
	}
	target_close(core, &target);
	if (c->fd >= 0)
		close(c->fd);
	return r;
}

/* ---- the calls ---- */

int core_create(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		mode_t mode, int flags, struct core_entry *entry, int *backing)
{
	struct creation c = {
		.call = call,
		.mode = (mode & 07777) | S_IFREG,
		.fd = -1,
		.writes = (flags & O_ACCMODE) != O_RDONLY,
	};
	int r = creation_run(core, &c, parent, name, true, entry);

	*backing = c.backing;
	return r;
}

int core_mkdir(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
	       mode_t mode, struct core_entry *entry)
{
	struct creation c = { .call = call, .mode = (mode & 07777) | S_IFDIR, .fd = -1 };

	return creation_run(core, &c, parent, name, false, entry);
}

int core_mknod(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
	       mode_t mode, dev_t rdev, struct core_entry *entry)
{
	struct creation c = { .call = call, .mode = mode, .rdev = rdev, .fd = -1 };

	if (whiteout_is_device(mode, rdev))
		return -EPERM;
	if (!(S_ISREG(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode)))
		return -EINVAL;
	return creation_run(core, &c, parent, name, false, entry);
}

int core_symlink(struct core *core, const struct core_call *call, uint64_t parent, const char *name,
		 const char *target, struct core_entry *entry)
{
	struct creation c = { .call = call, .mode = S_IFLNK | 0777, .target = target, .fd = -1 };

	return creation_run(core, &c, parent, name, false, entry);
}

/* ---- files without a name ---- */

static bool tmpfile_is_unsupported(int r)
{
	return r == -EOPNOTSUPP || r == -EISDIR || r == -ENOENT;
}

static int tmpfile_make_in(struct creation *c, const struct target *target)
{
	sys_creds_act_as(c->call->uid, c->call->gid, c->call->umask);
	c->fd = upper_tmpfile(target->fd, O_RDWR, c->mode & 07777);
	sys_creds_restore();
	return c->fd < 0 ? c->fd : 0;
}

/*
 * In the work directory: without a name as well, so that it can be given one, or unlinked where
 * the file system has no O_TMPFILE.
 */
static int tmpfile_make_in_work(struct core *core, struct creation *c, const struct target *target)
{
	char temp[WORKDIR_TEMP_MAX];

	sys_creds_act_as(c->call->uid, c->call->gid, 0);
	c->fd = upper_tmpfile(core->work.fd, O_RDWR, 0600);
	bool has_name = tmpfile_is_unsupported(c->fd);

	if (has_name) {
		workdir_temp_name(core, temp);
		c->fd = upper_create(core->work.fd, temp, O_RDWR, 0600);
	}
	sys_creds_restore();
	if (c->fd < 0)
		return c->fd;
	int r = creation_inherit(c, target, c->fd);

	if (has_name)
		workdir_discard(core, temp);
	return r;
}

static int tmpfile_adopt(struct core *core, struct creation *c, struct core_entry *entry)
{
	struct node *node;
	int r = sys_stat(c->fd, "", &entry->attr);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = sys_dup(c->fd); /* the other one becomes the data file's */

	if (fd < 0)
		return fd;
	r = creation_node(core, c, &entry->attr, true, &node);
	if (r < 0)
		return r;
	r = datafd_keep_orphan(core, node, fd, "");
	if (r == 0) {
		node_set(node, NODE_ORPHAN);
		node_lookup_add(core, node);
		entry->node = node->id;
		entry->attr.stx_ino = node->ino;
	}
	node_unref(core, node);
	return r;
}

/* The directory only gives what is inherited: it does not change, and is not copied up. */
static int tmpfile_make_for(struct core *core, struct creation *c, struct node *dir)
{
	struct place place;
	int r = core_refuses_changes(core) ? -EROFS : attr_check_names(dir, false);

	if (r < 0)
		return r;
	lock_rw_read(&dir->dir->lock);
	r = dir->dir->dead ? -ENOENT : place_hold(core, dir, PLACE_META, &place);
	if (r == 0) {
		const struct target target = { .dir = dir, .name = "", .fd = place.dirfd };

		r = place.is_upper ? tmpfile_make_in(c, &target) : -EOPNOTSUPP;
		if (tmpfile_is_unsupported(r))
			r = tmpfile_make_in_work(core, c, &target);
		place_release(core, &place);
	}
	lock_rw_read_unlock(&dir->dir->lock);
	return r;
}

int core_tmpfile(struct core *core, const struct core_call *call, uint64_t parent, mode_t mode,
		 int flags, struct core_entry *entry, int *backing)
{
	struct creation c = {
		.call = call,
		.mode = (mode & 07777) | S_IFREG,
		.fd = -1,
		.writes = (flags & O_ACCMODE) != O_RDONLY,
	};
	struct node *dir;
	int r = node_find_dir(core, parent, &dir);

	if (r < 0)
		return r;
	r = tmpfile_make_for(core, &c, dir);
	node_unref(core, dir);
	if (r == 0)
		r = tmpfile_adopt(core, &c, entry);
	if (c.fd >= 0)
		close(c.fd);
	*backing = c.backing;
	return r;
}
