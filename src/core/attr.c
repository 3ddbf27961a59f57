/* SPDX-License-Identifier: MIT */
/* Attributes of nodes: reading them as the union shows them, and changing them. */
#include "core/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/copyup.h"
#include "core/datafd.h"
#include "core/listing.h"
#include "core/mark.h"
#include "core/owner.h"
#include "core/place.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "format/protattr.h"
#include "sys/file.h"

/* ---- reading ---- */

int attr_check_change(const struct node *node)
{
	return node_has(node, NODE_IMMUTABLE) || node_has(node, NODE_APPEND) ? -EPERM : 0;
}

int attr_check_names(const struct node *dir, bool removes)
{
	if (node_has(dir, NODE_IMMUTABLE) || (removes && node_has(dir, NODE_APPEND)))
		return -EPERM;
	return 0;
}

static bool attr_part_is_flat(struct core *core, struct ldir *part)
{
	struct statx st;

	return ldir_stat(&core->fds, part, &st) == 0 && st.stx_nlink == 2;
}

/*
 * True if no part of the merged directory can hold a subdirectory, by their link counts. False also
 * while names are being changed, perhaps by who asks: its parts may be taken away.
 */
static bool attr_parts_are_flat(struct core *core, struct node *node)
{
	struct node_dir *dir = node->dir;

	if (!lock_rw_try_read(&dir->lock))
		return false;
	uint64_t version = atomic_load(&dir->version);
	bool flat = !dir->upper || attr_part_is_flat(core, dir->upper);

	for (unsigned int i = 0; flat && i < dir->lower_count; i++)
		flat = attr_part_is_flat(core, dir->lowers[i]);
	if (flat && !core->layers_change)
		listing_keep_subdirs(dir, 0, version);
	lock_rw_read_unlock(&dir->lock);
	return flat;
}

/*
 * A directory's link count is two and one for each subdirectory. That of a directory that lies
 * in one layer is the real one (also 1, "not counted", as btrfs says it); else they are counted.
 */
static int attr_dir_nlink(struct core *core, struct node *node, struct statx *st)
{
	uint64_t subdirs;

	if (core->static_nlink) {
		st->stx_nlink = 1;
		return 0;
	}
	if (node_has(node, NODE_ORPHAN)) {
		st->stx_nlink = 0;
		return 0;
	}
	if (!node_is_merged(node) || st->stx_nlink == 1)
		return 0;
	if (st->stx_nlink == 2 && atomic_load(&node->dir->subdirs) < 0 &&
	    attr_parts_are_flat(core, node))
		return 0;
	int r = listing_count_subdirs(core, node, &subdirs);

	if (r == 0)
		st->stx_nlink = subdirs + 2 < UINT32_MAX ? subdirs + 2 : 1;
	return r;
}

static void attr_file_nlink(struct node *node, struct statx *st)
{
	if (node_has(node, NODE_INDEXED)) {
		st->stx_nlink = node->file->nlink > 0 ? node->file->nlink : 0;
		return;
	}
	bool extra = node->file && node->file->orphan_name; /* in the work directory */
	bool hidden = node_has(node, NODE_ORPHAN) && !node_has(node, NODE_UPPER);

	if ((extra || hidden) && st->stx_nlink > 0)
		st->stx_nlink--;
	if (hidden && node->file && node->file->removed.tv_sec)
		st->stx_ctime = node->file->removed;
}

/* A metacopy file occupies what its data does. */
static void attr_metacopy_blocks(struct core *core, struct node *node, struct statx *st)
{
	struct place place;
	struct statx data;

	if (place_hold(core, node, PLACE_DATA, &place) < 0)
		return;
	if (place_stat(&place, &data) == 0)
		st->stx_blocks = data.stx_blocks;
	place_release(core, &place);
}

int attr_present(struct core *core, struct node *node, struct statx *st)
{
	owner_present(core, node, st);
	st->stx_ino = node->ino;
	st->stx_attributes &= ~(STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND);
	if (node_has(node, NODE_IMMUTABLE))
		st->stx_attributes |= STATX_ATTR_IMMUTABLE;
	if (node_has(node, NODE_APPEND))
		st->stx_attributes |= STATX_ATTR_APPEND;
	if (node_is_dir(node)) {
		quiet_present_change(core, node, st);
		return attr_dir_nlink(core, node, st);
	}
	attr_file_nlink(node, st);
	if (node_has(node, NODE_METACOPY))
		attr_metacopy_blocks(core, node, st);
	return 0;
}

static int attr_read_dir(struct core *core, struct node *node, struct statx *st)
{
	node_lock(core, node);
	struct ldir *ldir = ldir_ref(node->dir->upper ? node->dir->upper : node->dir->lowers[0]);

	node_unlock(core, node);
	int r = ldir_stat(&core->fds, ldir, st);

	ldir_unref(&core->fds, ldir);
	return r == -ENOENT ? -ESTALE : r;
}

static int attr_read_place(struct core *core, struct node *node, struct statx *st)
{
	struct place place;
	int r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r;
	r = place_stat(&place, st);
	if (r == 0 && !place_is_node(core, &place, node, st))
		r = -ESTALE;
	place_release(core, &place);
	return r;
}

/* Real attributes of the topmost object. */
static int attr_read(struct core *core, struct node *node, struct statx *st)
{
	int r = node_is_dir(node) ? attr_read_dir(core, node, st) : attr_read_place(core, node, st);

	if (r != -ESTALE)
		return r;
	/* Changed underneath. Whoever has the file open goes on with it. */
	node_set(node, NODE_UNSURE);
	return S_ISREG(node->type) ? datafd_stat(core, node, st) : r;
}

int attr_get(struct core *core, struct node *node, struct statx *st)
{
	int r = attr_read(core, node, st);

	return r < 0 ? r : attr_present(core, node, st);
}

int core_getattr(struct core *core, uint64_t id, struct statx *attr)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	int r = attr_get(core, node, attr);

	node_unref(core, node);
	return r;
}

int core_statx(struct core *core, uint64_t id, unsigned int mask, struct statx *attr)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	int r = attr_get(core, node, attr);

	if (r == 0 && mask & STATX_BTIME)
		quiet_present_birth(core, node, attr);
	node_unref(core, node);
	return r;
}

ssize_t core_readlink(struct core *core, uint64_t id, char *buf, size_t size)
{
	struct node *node = node_find(core, id);
	struct place place;

	if (!node)
		return -ESTALE;
	ssize_t r = S_ISLNK(node->type) ? 0 : -EINVAL;

	if (r == 0)
		r = place_hold(core, node, PLACE_META, &place);
	if (r == 0) {
		r = sys_readlink(place.dirfd, place.name, buf, size);
		place_release(core, &place);
	}
	node_unref(core, node);
	return r;
}

/* ---- changing ---- */

/* An append-only or immutable object: only touching the times to now is left, for append-only. */
static int attr_check_set(const struct node *node, const struct core_setattr *set)
{
	const unsigned int times = CORE_SET_ATIME | CORE_SET_MTIME;

	if (attr_check_change(node) == 0)
		return 0;
	if (!node_has(node, NODE_IMMUTABLE) && !(set->mask & ~times) &&
	    (!(set->mask & CORE_SET_ATIME) || set->atime.tv_nsec == UTIME_NOW) &&
	    (!(set->mask & CORE_SET_MTIME) || set->mtime.tv_nsec == UTIME_NOW))
		return 0;
	return -EPERM;
}

/* True if the caller belongs to the group. */
static bool attr_is_member(const struct core *core, const struct core_call *call, gid_t gid)
{
	/* The root of a user namespace has its set-id bits taken away as well. */
	return call->gid == gid || (core->in_userns && call->uid == 0) ||
	       (call->has_group && call->has_group(call->context, gid));
}

int attr_kill_suidgid(const struct core *core, const struct core_call *call, int fd)
{
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	mode_t mode = st.stx_mode & 07777;

	mode &= ~S_ISUID;
	/* As since Linux 6.2: someone outside the group loses the bit however the file may be run. */
	if (mode & S_ISGID && (mode & S_IXGRP || !attr_is_member(core, call, st.stx_gid)))
		mode &= ~S_ISGID;
	return mode == (st.stx_mode & 07777) ? 0 : upper_chmod(fd, mode);
}

/* No file on its file system can be as large. (All I/O of ours names its own position.) */
static bool attr_is_too_far(int fd, uint64_t end)
{
	return end > INT64_MAX || sys_seek(fd, (off_t)end, SEEK_SET) == -EINVAL;
}

int attr_kill_suidgid_before(const struct core *core, const struct core_call *call, int fd,
			     uint64_t end)
{
	return attr_is_too_far(fd, end) ? -EFBIG : attr_kill_suidgid(core, call, fd);
}

/*
 * O_TRUNC and ftruncate(2) set the modification time even if the size stays, and the protocol
 * tells neither of them from truncate(2).
 */
static int attr_truncate(int fd, uint64_t size)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	struct statx st;
	int r = sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	return st.stx_size == size ? upper_utimens(fd, times) : upper_truncate(fd, size);
}

static int attr_set_size(struct core *core, const struct core_call *call, struct node *node,
			 const struct core_setattr *set)
{
	struct datafd *data;

	if (!S_ISREG(node->type))
		return node_is_dir(node) ? -EISDIR : -EINVAL;
	int r = copyup_truncated(core, call, node, set->size);

	if (r < 0)
		return r;
	int fd = datafd_acquire(core, node, true, &data);

	if (fd < 0)
		return fd;
	if (set->mask & CORE_SET_KILL_SUIDGID)
		r = attr_kill_suidgid_before(core, call, fd, set->size);
	if (r == 0)
		r = attr_truncate(fd, set->size);
	datafd_release(core, data);
	return r;
}

/* A change of nothing is one as well: see attr_check_nothing(). */
static bool attr_is_chown(const struct core_setattr *set)
{
	return !set->mask || set->mask & (CORE_SET_UID | CORE_SET_GID);
}

/* What needs no data: owner first, as changing it takes set-id bits away that mode may bring. */
static int attr_apply(struct core *core, struct node *node, int fd, const struct core_setattr *set)
{
	unsigned int mask = set->mask;
	int r = 0;

	if (attr_is_chown(set))
		r = upper_chown(fd, mask & CORE_SET_UID ? set->uid : (uid_t)-1,
				mask & CORE_SET_GID ? set->gid : (gid_t)-1);
	if (r == 0)
		r = owner_changed(core, node, fd, mask & CORE_SET_UID, mask & CORE_SET_GID);
	if (r == 0 && mask & CORE_SET_MODE)
		r = upper_chmod(fd, owner_fit_mode(core, node, fd, set->mode));
	if (r == 0 && mask & (CORE_SET_ATIME | CORE_SET_MTIME)) {
		const struct timespec omit = { .tv_nsec = UTIME_OMIT };
		const struct timespec times[2] = {
			mask & CORE_SET_ATIME ? set->atime : omit,
			mask & CORE_SET_MTIME ? set->mtime : omit,
		};

		r = upper_utimens(fd, times);
	}
	return r;
}

/*
 * chown(path, -1, -1), a change of nothing, takes set-id bits away all the same. A change of
 * nothing is also what the kernel sends before a write by someone who may not keep them, owner or
 * not: what it takes away then the write takes away by itself, so others than the owner change
 * nothing of a file that has such bits. And it is what follows when a file that is about to be written has lost its
 * capabilities; root, who may keep set-id bits, keeps them then. 1 if it counts as a change, which
 * sets the change time at least.
 */
static int attr_check_nothing(struct core *core, const struct core_call *call, struct node *node)
{
	struct statx st;

	node_lock(core, node);
	bool was_stripped = node_has(node, NODE_STRIPPED);

	node_clear(node, NODE_STRIPPED);
	node_unlock(core, node);
	if (was_stripped && call->uid == 0)
		return 0;
	int r = attr_read(core, node, &st);

	if (r < 0)
		return r;
	owner_present(core, node, &st);
	return call->uid == 0 || call->uid == st.stx_uid || node_is_dir(node) ||
	       !(st.stx_mode & (S_ISUID | S_ISGID));
}

static int attr_set(struct core *core, const struct core_call *call, struct node *node,
		    const struct core_setattr *set)
{
	const unsigned int meta = CORE_SET_MODE | CORE_SET_UID | CORE_SET_GID | CORE_SET_ATIME |
				  CORE_SET_MTIME;
	struct place place;
	int r = attr_check_set(node, set);

	if (r == 0 && set->mask & CORE_SET_SIZE)
		r = attr_set_size(core, call, node, set);
	if (r < 0 || (set->mask && !(set->mask & meta)))
		return r;
	if (!set->mask)
		r = attr_check_nothing(core, call, node);
	if (r < 0 || (!set->mask && r == 0))
		return r;
	r = copyup_node(core, call, node, COPYUP_META);
	if (r == 0)
		r = place_hold(core, node, PLACE_META, &place);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = place_open_path(&place);

	place_release(core, &place);
	if (fd < 0)
		return fd;
	if (!node_is_dir(node) && call->uid != 0 && attr_is_chown(set))
		r = attr_kill_suidgid(core, call, fd);
	if (r == 0)
		r = attr_apply(core, node, fd, set);
	if (node_is_dir(node)) /* a failure may have left half of it */
		quiet_changed(core, node);
	return r;
}

int core_setattr(struct core *core, const struct core_call *call, uint64_t id,
		 const struct core_setattr *set, struct statx *attr)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	int r = core_refuses_changes(core) ? -EROFS : attr_set(core, call, node, set);

	if (r == 0)
		r = attr_get(core, node, attr);
	node_unref(core, node);
	return r;
}

/* ---- file flags (chattr) ---- */

/* A descriptor that takes ioctls, of a regular file or directory. */
static int attr_open_ioctl(struct core *core, struct node *node)
{
	struct place place;

	if (!S_ISREG(node->type) && !node_is_dir(node))
		return -ENOTTY;
	int r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r;
	int fd = place_open(&place, O_RDONLY | O_NONBLOCK | (node_is_dir(node) ? O_DIRECTORY : 0));

	place_release(core, &place);
	return fd;
}

static int attr_get_fsflags(struct core *core, struct node *node, unsigned int *flags)
{
	_cleanup_close_ int fd = attr_open_ioctl(core, node);
	int r = fd < 0 ? fd : sys_get_fsflags(fd, flags);

	if (r < 0)
		return r;
	if (node_has(node, NODE_IMMUTABLE))
		*flags |= FS_IMMUTABLE_FL;
	if (node_has(node, NODE_APPEND))
		*flags |= FS_APPEND_FL;
	return 0;
}

int core_get_fsflags(struct core *core, uint64_t id, unsigned int *flags)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	int r = attr_get_fsflags(core, node, flags);

	node_unref(core, node);
	return r;
}

/* Append-only and immutable would lock ourselves out of the upper: an attribute beside it. */
static int attr_set_protattr(struct core *core, struct node *node, int fd, unsigned int flags)
{
	unsigned int prot = (flags & FS_APPEND_FL ? PROTATTR_APPEND : 0) |
			    (flags & FS_IMMUTABLE_FL ? PROTATTR_IMMUTABLE : 0);
	char letters[PROTATTR_SIZE_MAX];
	size_t size = protattr_encode(prot, letters);
	int r = size ? mark_set(core, fd, XATTR_PROTATTR, letters, size) :
		       mark_remove(core, fd, XATTR_PROTATTR);

	if (r < 0 && !(size == 0 && r == -ENODATA))
		return r;
	node_clear(node, NODE_APPEND | NODE_IMMUTABLE);
	node_set(node, (prot & PROTATTR_APPEND ? NODE_APPEND : 0) |
			       (prot & PROTATTR_IMMUTABLE ? NODE_IMMUTABLE : 0));
	return 0;
}

static int attr_set_fsflags(struct core *core, const struct core_call *call, struct node *node,
			    unsigned int flags)
{
	const unsigned int kept = FS_APPEND_FL | FS_IMMUTABLE_FL;
	unsigned int real;
	int r = core_refuses_changes(core) ? -EROFS : copyup_node(core, call, node, COPYUP_META);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = attr_open_ioctl(core, node);

	if (fd < 0)
		return fd;
	r = sys_get_fsflags(fd, &real);
	if (r == 0 && (flags & ~kept) != (real & ~kept))
		r = upper_set_fsflags(fd, flags & ~kept);
	if (r == 0)
		r = attr_set_protattr(core, node, fd, flags);
	if (node_is_dir(node))
		quiet_changed(core, node);
	return r;
}

int core_set_fsflags(struct core *core, const struct core_call *call, uint64_t id,
		     unsigned int flags)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	int r = attr_set_fsflags(core, call, node, flags);

	node_unref(core, node);
	return r;
}
