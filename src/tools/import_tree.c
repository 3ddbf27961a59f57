/* SPDX-License-Identifier: MIT */
#include "tools/import_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "format/whiteout.h"
#include "sys/creds.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"
#include "tools/import_path.h"

#define IMPORT_TREE_IMPLIED_MODE 0755

static int import_tree_probe(const struct import_tree *tree)
{
	const char *key = xattr_private_name(tree->ns, XATTR_OPAQUE);
	/* A value that means nothing. */
	int r = sys_setxattr(tree->root, key, "0", 1, 0);

	return r < 0 ? r : sys_removexattr(tree->root, key);
}

int import_tree_init(struct import_tree *tree, int root, bool use_user_xattrs, struct strbuf *why)
{
	int r = -EPERM;

	*tree = (struct import_tree){
		.root = root,
		.keeps_owners = sys_creds_has_cap(CAP_CHOWN),
		.parent = -1,
	};
	if (!use_user_xattrs) {
		tree->ns = XATTR_TRUSTED;
		r = import_tree_probe(tree);
	}
	if (r == -EPERM) {
		tree->ns = XATTR_USER;
		r = import_tree_probe(tree);
	}
	if (r < 0)
		strbuf_append_format(why,
				     "the file system cannot have %s.* extended attributes, which "
				     "a layer needs: %s",
				     tree->ns == XATTR_USER ? "user" : "trusted", strerror(-r));
	return r;
}

static void import_tree_forget_parent(struct import_tree *tree)
{
	cleanup_close(&tree->parent);
	tree->parent = -1;
	free(tree->parent_place);
	tree->parent_place = NULL;
}

void import_tree_deinit(struct import_tree *tree)
{
	import_tree_forget_parent(tree);
	import_dirs_deinit(&tree->dirs);
}

/* ---- places ---- */

/* What is to be made on a way where directories are missing. */
struct import_tree_maker {
	struct import_tree *tree;
	const struct timespec *mtime;
};

static int import_tree_imply(const struct import_tree_maker *maker, int dirfd, const char *name,
			     const char *place, size_t length)
{
	_cleanup_import_dir_ struct import_dir dir = {
		.place = strndup(place, length),
		.is_implied = true,
		.mode = IMPORT_TREE_IMPLIED_MODE,
		.uid = geteuid(),
		.gid = getegid(),
		.mtime = *maker->mtime,
	};
	int r;

	if (!dir.place)
		return -ENOMEM;
	/* A whiteout that the archive brought stays what it says: lowers do not show through. */
	bool was_hidden = import_tree_is_whiteout(maker->tree, dirfd, name);

	if (was_hidden)
		sys_unlink(dirfd, name);
	r = sys_mkdir(dirfd, name, 0700);
	if (r == 0)
		r = import_dirs_set(&maker->tree->dirs, &dir);
	if (r < 0)
		return r;
	maker->tree->counts.implied++;
	int fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

	if (fd >= 0 && was_hidden)
		r = import_tree_set_opaque(maker->tree, fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* Opens the directory that the first @length bytes of @place name. */
static int import_tree_walk(int root, const char *place, size_t length,
			    const struct import_tree_maker *maker)
{
	int fd = sys_dup(root);

	for (size_t at = 0; fd >= 0 && at < length;) {
		_cleanup_close_ int dirfd = fd;
		size_t size = strcspn(place + at, "/");
		char name[NAME_MAX + 1];

		memcpy(name, place + at, size);
		name[size] = '\0';
		fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);
		if (maker && (fd == -ENOENT || (fd == -ENOTDIR &&
						import_tree_is_whiteout(maker->tree, dirfd, name))))
			fd = import_tree_imply(maker, dirfd, name, place, at + size);
		at += size + 1;
	}
	return fd;
}

/* How much of @place names the directory that it is in. */
static size_t import_tree_parent_length(const char *place)
{
	const char *name = import_path_name(place);

	return name == place ? 0 : (size_t)(name - place) - 1;
}

int import_tree_open_parent(const struct import_tree *tree, const char *place)
{
	return import_tree_walk(tree->root, place, import_tree_parent_length(place), NULL);
}

int import_tree_open(const struct import_tree *tree, const char *place)
{
	return import_tree_walk(tree->root, place, strlen(place), NULL);
}

int import_tree_parent(struct import_tree *tree, const char *place, const struct timespec *mtime)
{
	const struct import_tree_maker maker = { .tree = tree, .mtime = mtime };
	size_t length = import_tree_parent_length(place);
	const char *last = tree->parent_place;

	if (last && strlen(last) == length && memcmp(last, place, length) == 0)
		return tree->parent;
	import_tree_forget_parent(tree);
	tree->parent_place = strndup(place, length);
	if (!tree->parent_place)
		return -ENOMEM;
	int fd = import_tree_walk(tree->root, place, length, &maker);

	if (fd < 0) {
		import_tree_forget_parent(tree);
		return fd;
	}
	tree->parent = fd;
	return fd;
}

/* ---- whiteouts ---- */

bool import_tree_is_whiteout(const struct import_tree *tree, int dirfd, const char *name)
{
	const char *key = xattr_private_name(tree->ns, XATTR_WHITEOUT);
	struct statx st;

	if (sys_stat(dirfd, name, &st) < 0)
		return false;
	if (whiteout_is_device(st.stx_mode, sys_stat_rdev(&st)))
		return true;
	return whiteout_may_be_xattr(st.stx_mode, st.stx_size) &&
	       sys_getxattr_at(dirfd, name, key, NULL, 0) >= 0;
}

static int import_tree_make_attribute_whiteout(struct import_tree *tree, int dirfd,
					       const char *name)
{
	const char *key = xattr_private_name(tree->ns, XATTR_WHITEOUT);
	_cleanup_close_ int fd = sys_open(dirfd, name, O_CREAT | O_EXCL | O_WRONLY, 0600);
	int r = fd < 0 ? fd : sys_setxattr(fd, key, "", 0, 0);

	return r < 0 ? r : import_tree_mark_whiteouts(tree, dirfd);
}

int import_tree_make_whiteout(struct import_tree *tree, int dirfd, const char *name)
{
	if (tree->attribute_whiteouts)
		return import_tree_make_attribute_whiteout(tree, dirfd, name);
	return sys_mknod(dirfd, name, S_IFCHR, 0);
}

int import_tree_mark_whiteouts(const struct import_tree *tree, int fd)
{
	const char *key = xattr_private_name(tree->ns, XATTR_OPAQUE);
	int r;

	if (!tree->attribute_whiteouts)
		return 0;
	/* The root's mark makes readers look for the others. */
	r = sys_setxattr(tree->root, key, "x", 1, XATTR_CREATE);
	if (r == 0 || r == -EEXIST)
		r = sys_setxattr(fd, key, "x", 1, XATTR_CREATE);
	return r == -EEXIST ? 0 : r;
}

bool import_tree_is_opaque(const struct import_tree *tree, int fd)
{
	char value[2];
	ssize_t size =
		sys_getxattr(fd, xattr_private_name(tree->ns, XATTR_OPAQUE), value, sizeof(value));

	return size > 0 && opaque_parse(value, (size_t)size) == OPAQUE_YES;
}

int import_tree_set_opaque(const struct import_tree *tree, int fd)
{
	return sys_setxattr(fd, xattr_private_name(tree->ns, XATTR_OPAQUE), "y", 1, 0);
}

struct import_tree_drop {
	const struct import_tree *tree;
	int dirfd;
};

static int import_tree_drop_whiteout(const struct sys_dirent *entry, void *context)
{
	const struct import_tree_drop *drop = context;

	if (!import_tree_is_whiteout(drop->tree, drop->dirfd, entry->name))
		return 0;
	return sys_unlink(drop->dirfd, entry->name);
}

int import_tree_drop_whiteouts(const struct import_tree *tree, int fd)
{
	_cleanup_close_ int dirfd = sys_reopen(fd, O_RDONLY | O_DIRECTORY);
	struct import_tree_drop drop = { .tree = tree, .dirfd = dirfd };

	return dirfd < 0 ? dirfd : sys_dir_for_each(dirfd, import_tree_drop_whiteout, &drop);
}

/* ---- attributes ---- */

int import_tree_chown(struct import_tree *tree, int fd, uid_t uid, gid_t gid)
{
	if (tree->keeps_owners)
		return sys_chown(fd, uid, gid);
	if (uid != geteuid())
		tree->counts.foreign++;
	return 0;
}

int import_tree_chmod(const struct import_tree *tree, int fd, mode_t mode, uid_t uid)
{
	/* Nobody asked that the file run as us. */
	if (!tree->keeps_owners && uid != geteuid())
		mode &= (mode_t) ~(S_ISUID | S_ISGID);
	return S_ISLNK(mode) ? 0 : sys_chmod(fd, mode & ALLPERMS);
}

int import_tree_touch(int fd, const struct timespec *mtime)
{
	/* The archive has no access times; the same everywhere is better than now. */
	const struct timespec times[2] = { *mtime, *mtime };

	return sys_utimens(fd, times);
}

int import_tree_setxattr(struct import_tree *tree, int fd, const char *key, const void *value,
			 size_t size)
{
	char buf[XATTR_KEY_MAX + 1];
	const char *real_key = xattr_name_escape(tree->ns, key, buf);
	int r = real_key ? sys_setxattr(fd, real_key, value, size, 0) : -EOPNOTSUPP;

	if ((r == -EPERM || r == -EOPNOTSUPP) && !tree->keeps_owners) {
		tree->counts.xattrs_dropped++;
		return 0;
	}
	return r;
}

int import_tree_dress(struct import_tree *tree, int fd, const struct import_dir *dir)
{
	struct import_dir_xattr xattr;
	size_t position = 0;
	int r = import_tree_chown(tree, fd, dir->uid, dir->gid);

	while (r == 0 && import_dir_next_xattr(dir, &position, &xattr))
		r = import_tree_setxattr(tree, fd, xattr.key, xattr.value, xattr.size);
	if (r == 0)
		r = import_tree_chmod(tree, fd, dir->mode, dir->uid);
	return r < 0 ? r : import_tree_touch(fd, &dir->mtime);
}

struct import_tree_settling {
	struct import_tree *tree;
	struct strbuf *why;
};

static int import_tree_settle_dir(const struct import_dir *dir, void *context)
{
	const struct import_tree_settling *settling = context;
	_cleanup_close_ int fd = import_tree_open(settling->tree, dir->place);

	/* A later entry of the archive took its place. */
	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	int r = fd < 0 ? fd : import_tree_dress(settling->tree, fd, dir);

	if (r < 0)
		strbuf_append_format(settling->why, "%s: its attributes cannot be set: %s",
				     *dir->place ? dir->place : ".", strerror(-r));
	return r;
}

int import_tree_settle(struct import_tree *tree, struct strbuf *why)
{
	struct import_tree_settling settling = { .tree = tree, .why = why };

	return import_dirs_for_each(&tree->dirs, import_tree_settle_dir, &settling);
}
