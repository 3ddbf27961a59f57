/* SPDX-License-Identifier: MIT */
/* The index: hard links of a lower that stay hard links. */
#include "core/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/cleanup.h"
#include "core/copyup.h"
#include "core/datafd.h"
#include "core/mark.h"
#include "core/origin.h"
#include "core/origintable.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "core/workdir.h"
#include "format/nlink.h"
#include "format/origin.h"
#include "format/whiteout.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

/* ---- the number of names ---- */

/* How many names the union shows of the object, by its attribute; @lower: the lower's count, or
 * 0 if it is not known. -ENODATA: it does not say. */
static int64_t index_read_nlink(struct core *core, int dirfd, const char *name,
				const struct statx *st, uint32_t lower)
{
	char value[NLINK_SIZE_MAX];
	struct nlink nlink;
	ssize_t size =
		sys_getxattr_at(dirfd, name, core_key(core, XATTR_NLINK), value, sizeof(value));

	if (size < 0)
		return size;
	int r = nlink_decode(value, size, &nlink);

	if (r < 0)
		return r;
	if (!nlink.of_upper && !lower)
		return -ENODATA;
	return (nlink.of_upper ? st->stx_nlink : lower) + (int64_t)nlink.delta;
}

/* Says that the union shows @count names, relative to @real links of the upper or lower. */
static int index_write_nlink(struct core *core, int fd, bool of_upper, int64_t count, uint32_t real)
{
	const struct nlink nlink = { .of_upper = of_upper, .delta = (int)(count - real) };
	char value[NLINK_SIZE_MAX];
	size_t size = nlink_encode(&nlink, value);
	int r = mark_set(core, fd, XATTR_NLINK, value, size);

	/* user.* attributes do not exist on symbolic links and special files. */
	return r == -EPERM || r == -EOPNOTSUPP ? 0 : r;
}

/* An O_PATH descriptor of the node's index entry. */
static int index_open_entry(struct core *core, struct node *node)
{
	return sys_open(core->index->slot.fd, node->file->index_name->text, O_PATH | O_NOFOLLOW, 0);
}

static int index_write_upper_nlink(struct core *core, struct node *node)
{
	struct statx st;
	_cleanup_close_ int fd = index_open_entry(core, node);
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	return r < 0 ? r : index_write_nlink(core, fd, true, node->file->nlink, st.stx_nlink);
}

/* ---- finding ---- */

static int found_set_index(struct found *found, const struct origin *origin)
{
	char name[ORIGIN_INDEX_NAME_MAX + 1];
	size_t length = origin_index_name(origin, name);

	/* A name that is too long for a directory entry has no place in the index. */
	if (!length || length > NAME_MAX)
		return 0;
	found->index_name = name_new(name, length);
	return found->index_name ? 1 : -ENOMEM;
}

/* A file that is only in a lower: maybe another name of it was copied up. */
static int index_find_lower(struct core *core, struct found *found)
{
	struct layer *layer = found->top.dir->layer;
	struct origin origin;
	struct statx st;
	int fd = ldir_pin(&core->fds, found->top.dir);

	if (fd < 0)
		return fd;
	bool has = origin_of(layer, fd, found->top.name, &origin);

	ldir_unpin(found->top.dir);
	int r = has ? found_set_index(found, &origin) : 0;

	if (r <= 0)
		return r;
	found->nlink = found->top.st.stx_nlink;
	r = sys_stat(core->index->slot.fd, found->index_name->text, &st);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if ((st.stx_mode ^ found->top.st.stx_mode) & S_IFMT)
		return -EIO; /* an entry that cannot be this file's copy */
	found->upper.dir = ldir_ref(core->index);
	strcpy(found->upper.name, found->index_name->text);
	found->upper.st = st;
	int64_t nlink = index_read_nlink(core, core->index->slot.fd, found->index_name->text, &st,
					 found->top.st.stx_nlink);

	if (nlink > 0)
		found->nlink = nlink;
	return probe_index_metacopy(core, found);
}

/*
 * How many names the union shows of a file of the upper that is an index entry's. One of them
 * leads here, and no name may take the file for another one than the others do: so there is
 * always an answer.
 */
static int64_t index_count_names(struct core *core, struct node *parent, const struct found *found,
				 const struct origin *origin)
{
	const struct statx *st = &found->upper.st;
	struct statx lower;
	int64_t nlink =
		index_read_nlink(core, core->index->slot.fd, found->index_name->text, st, 0);

	/* Relative to the lower: an interrupted index_alias(). */
	if (nlink == -ENODATA && origin_stat(core, parent, origin, found->upper.name, &lower))
		nlink = index_read_nlink(core, core->index->slot.fd, found->index_name->text, st,
					 lower.stx_nlink);
	return nlink > 0 ? nlink : st->stx_nlink - 1;
}

/* A file of the upper with several names: maybe it is an index entry's. */
static int index_find_upper(struct core *core, struct node *parent, struct found *found)
{
	struct origin origin;
	struct statx st;

	if (!origin_read(core, found->upper.dir, found->upper.name, found->upper.st.stx_mode,
			 &origin))
		return 0;
	int r = found_set_index(found, &origin);

	if (r <= 0)
		return r;
	r = sys_stat(core->index->slot.fd, found->index_name->text, &st);
	if (r == 0 && st.stx_ino == found->upper.st.stx_ino) {
		found->nlink = index_count_names(core, parent, found, &origin);
		return 0;
	}
	found->index_name = name_unref(found->index_name);
	return r == -ENOENT ? 0 : r;
}

int index_find(struct core *core, struct node *parent, struct found *found)
{
	if (!core->index || found->is_dir)
		return 0;
	if (found->upper.dir)
		return found->upper.st.stx_nlink > 1 ? index_find_upper(core, parent, found) : 0;
	if (found->top.dir && found->top.st.stx_nlink > 1)
		return index_find_lower(core, found);
	return 0;
}

/* ---- changing ---- */

int index_prepare(struct core *core, struct node *node, int fd)
{
	return index_write_nlink(core, fd, false, node->file->nlink, node->file->lower_nlink);
}

int index_publish(struct core *core, struct node *node, const char *temp)
{
	return upper_rename(core->work.fd, temp, core->index->slot.fd, node->file->index_name->text,
			    RENAME_NOREPLACE);
}

/* Links the entry to the name; the union does not change, so neither do the directory's times. */
static int index_link_alias(struct core *core, struct node *node, const struct target *target)
{
	struct quiet quiet;
	int r = quiet_begin(core, target->dir, target->fd, &quiet);

	if (r < 0)
		return r;
	r = copyup_mark_impure(core, target->dir);
	if (r == 0)
		r = upper_link(core->index->slot.fd, node->file->index_name->text, target->fd,
			       target->name);
	int e = quiet_end(core, &quiet, r == 0);

	return r < 0 ? r : e;
}

/*
 * The lower's count, which a node does not have that was found by a name in the upper. The index
 * lock is held. @target is a name that the lower gives the file.
 */
static void index_take_lower_nlink(struct core *core, struct node *node,
				   const struct target *target)
{
	struct node_file *file = node->file;
	struct origin origin;
	struct statx lower;

	if (!file->lower_nlink &&
	    origin_read(core, core->index, file->index_name->text, node->type, &origin) &&
	    origin_stat(core, target->dir, &origin, target->name, &lower))
		file->lower_nlink = lower.stx_nlink;
}

int index_alias(struct core *core, struct node *node, const struct target *target)
{
	struct node_file *file = node->file;
	struct statx st;
	int r = sys_stat(target->fd, target->name, &st);

	if (r != -ENOENT)
		return r; /* it has the name already */
	lock_mutex_lock(&core->index_lock);
	_cleanup_close_ int fd = index_open_entry(core, node);

	/*
	 * The new link is no new name of the union: counted relative to the lower meanwhile, so
	 * that a crash before the second count does not make it one.
	 */
	r = fd < 0 ? fd : 0;
	index_take_lower_nlink(core, node, target);
	if (r == 0 && file->lower_nlink)
		r = index_write_nlink(core, fd, false, file->nlink, file->lower_nlink);
	if (r == 0)
		r = index_link_alias(core, node, target);
	if (r == 0)
		r = index_write_upper_nlink(core, node);
	lock_mutex_unlock(&core->index_lock);
	return r;
}

/* The directory of the node's first name, with its lock held for writing; NULL: it has none. */
static struct link *index_lock_name(struct core *core, struct node *node, struct target *target)
{
	for (;;) {
		target->dir = node_get_parent(core, node);
		if (!target->dir)
			return NULL;
		lock_rw_write(&target->dir->dir->lock);
		node_lock(core, node);
		struct link *link = node->links;
		bool same = link && link->parent == target->dir;

		node_unlock(core, node);
		if (same)
			return link;
		lock_rw_write_unlock(&target->dir->dir->lock);
		node_unref(core, target->dir);
	}
}

int index_link_up(struct core *core, struct node *node)
{
	struct target target = { 0 };
	struct link *link = index_lock_name(core, node, &target);

	if (!link)
		return 0;
	struct ldir *upper = target.dir->dir->upper;

	target.name = link->name;
	target.fd = upper ? ldir_pin(&core->fds, upper) : -ESTALE;
	int r = target.fd < 0 ? target.fd : index_alias(core, node, &target);

	if (target.fd >= 0)
		ldir_unpin(upper);
	lock_rw_write_unlock(&target.dir->dir->lock);
	node_unref(core, target.dir);
	return r;
}

int index_begin(struct core *core, struct node *node)
{
	if (!node_has(node, NODE_INDEXED))
		return 0;
	lock_mutex_lock(&core->index_lock);
	int r = index_write_upper_nlink(core, node);

	if (r < 0)
		lock_mutex_unlock(&core->index_lock);
	return r;
}

/* The last name is gone: descriptors that are open keep the object, the entry goes. */
static void index_drop(struct core *core, struct node *node)
{
	const char *name = node->file->index_name->text;
	struct origintable_entry origin;

	origintable_note(core, node->type, core->index->slot.fd, name, &origin);
	int r = datafd_keep_orphan(core, node, core->index->slot.fd, name);

	node_set(node, NODE_ORPHAN);
	if (r == 0)
		r = upper_unlink(core->index->slot.fd, name);
	if (r == 0)
		origintable_drop(core, &origin);
	/* What stays is found by its count at the next mount. */
	if (r < 0)
		log_warning_limited("index entry %s stays: %s", name, strerror(-r));
}

void index_end(struct core *core, struct node *node, int change, int result)
{
	if (!node_has(node, NODE_INDEXED))
		return;
	if (result == 0) {
		node->file->nlink += change;
		if (node->file->nlink <= 0)
			index_drop(core, node);
	}
	lock_mutex_unlock(&core->index_lock);
}

/* ---- at mount ---- */

/* Removes what an interrupted copy left, and entries that no name leads to. */
static int index_clean_entry(const struct sys_dirent *entry, void *context)
{
	struct core *core = context;
	int dirfd = core->index->slot.fd;
	struct origin origin;
	struct statx st;

	if (entry->name[0] == '#') {
		cleanup_remove_tree(core, dirfd, entry->name);
		return 0;
	}
	if (!origin_from_index_name(entry->name, &origin) ||
	    sys_stat(dirfd, entry->name, &st) < 0 || S_ISDIR(st.stx_mode) || st.stx_nlink != 1 ||
	    whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)))
		return 0;
	/* A count that cannot be read says nothing, and the entry may be all there is of the file. */
	if (index_read_nlink(core, dirfd, entry->name, &st, 0) == 0)
		upper_unlink(dirfd, entry->name);
	return 0;
}

static int index_clean(struct core *core)
{
	_cleanup_close_ int fd = sys_reopen(core->index->slot.fd, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : sys_dir_for_each(fd, index_clean_entry, core);
}

/* True (1) if the attribute holds @origin; set if it is absent. 0: it holds another. */
static int index_verify(struct core *core, int fd, enum xattr_private which,
			const struct origin *origin)
{
	uint8_t have[ORIGIN_SIZE_MAX], want[ORIGIN_SIZE_MAX];
	size_t want_size = origin_encode(origin, want);
	ssize_t size = sys_getxattr(fd, core_key(core, which), have, sizeof(have));

	if (size == -ENODATA) {
		int r = upper_setxattr(fd, core_key(core, which), want, want_size, 0);

		return r < 0 ? r : 1;
	}
	if (size < 0)
		return size;
	return (size_t)size == want_size && memcmp(have, want, want_size) == 0;
}

/* The index belongs to this upper and this topmost lower. */
static int index_verify_layers(struct core *core, int fd)
{
	const struct layer *upper = &core->layers[0], *lower = &core->layers[1];
	struct origin origin;

	if (!upper->has_handles || !lower->has_handles || lower->is_data)
		return -EOPNOTSUPP;
	if (!origin_of(lower, lower->fd, "", &origin))
		return -EOPNOTSUPP;
	int r = index_verify(core, upper->fd, XATTR_ORIGIN, &origin);

	if (r > 0 && origin_of(upper, upper->fd, "", &origin)) {
		origin.is_upper = true;
		r = index_verify(core, fd, XATTR_UPPER, &origin);
	}
	return r == 0 ? -ESTALE : r < 0 ? r : 0;
}

static int index_open(struct core *core)
{
	int r = upper_mkdir(core->work.base_fd, INDEX_DIR, 0700);

	if (r < 0 && r != -EEXIST)
		return r;
	_cleanup_close_ int fd = sys_open(core->work.base_fd, INDEX_DIR, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	r = upper_chmod(fd, workdir_mode(core));
	if (r == 0)
		r = index_verify_layers(core, fd);
	if (r < 0)
		return r;
	core->index = ldir_new_root(&core->fds, &core->layers[0], fd);
	if (!core->index)
		return -ENOMEM;
	fd_take(&fd);
	return index_clean(core);
}

int index_init(struct core *core, bool required, struct strbuf *why)
{
	if (core->read_only)
		return 0;
	int r = index_open(core);

	if (r == 0)
		return 0;
	index_deinit(core);
	if (!required) {
		log_info("no index: %s; changed files with several names come apart", strerror(-r));
		return 0;
	}
	strbuf_append_format(why,
			     r == -ESTALE ?
				     "the index in the work directory belongs to other layers; "
				     "mount with the lower it was made with, or without index=on" :
				     "index=on: the index directory cannot be used: %s",
			     strerror(-r));
	return r;
}

void index_deinit(struct core *core)
{
	core->index = ldir_unref(&core->fds, core->index);
}
