/* SPDX-License-Identifier: MIT */
/* The work directory: the lock, its features, probes, whiteouts. Emptying it is cleanup.c's. */
#include "core/workdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/cleanup.h"
#include "core/internal.h"
#include "core/origintable.h"
#include "core/upper.h"
#include "format/acl.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/xattr.h"

#define WORKDIR_NAME "work"
#define WORKDIR_INCOMPAT "incompat"
#define WORKDIR_VOLATILE "volatile"
#define WORKDIR_COMMIT "veneer-commit" /* the journal of offline/apply_journal.c */
#define WORKDIR_PLAN "plan"
#define WORKDIR_DIRTY "dirty"

/* Appends the sentence and returns the errno it explains. */
#define workdir_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the lock ---- */

/* Opens @pathfd anew and locks it; the lock lives as long as the descriptor. */
static int workdir_lock(const struct core *core, int pathfd, const char *what, const char *path,
			struct strbuf *why)
{
	_cleanup_close_ int fd = sys_reopen(pathfd, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return workdir_fail(why, fd, "cannot open the %s: %s", what, strerror(-fd));
	int r = core->unlocked ? 0 : sys_flock_exclusive(fd);

	if (r == -EWOULDBLOCK)
		return workdir_fail(why, -EBUSY,
				    "the %s of workdir=%s is in use by another veneer; unmount it, "
				    "or give each mount an upper and a work directory of its own",
				    what, path);
	if (r < 0) /* a network file system may have no such lock */
		log_warning("cannot lock the %s of workdir=%s: %s", what, path, strerror(-r));
	return fd_take(&fd);
}

static int workdir_lock_both(struct core *core, int basefd, int upperfd, const char *path,
			     struct strbuf *why)
{
	struct workdir *work = &core->work;

	work->upper_fd = workdir_lock(core, upperfd, "upper directory", path, why);
	if (work->upper_fd < 0)
		return work->upper_fd;
	work->base_fd = workdir_lock(core, basefd, "work directory", path, why);
	return work->base_fd < 0 ? work->base_fd : 0;
}

/* ---- incompatible features ---- */

/* Remembers the first entry's name. */
static int workdir_note_feature(const struct sys_dirent *entry, void *context)
{
	strbuf_append_string(context, entry->name);
	return 1;
}

/* Opens @name in @dirfd for reading; -ENOENT also if it is no directory. */
static int workdir_open_dir(const struct core *core, int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
	int r = sys_reopen(fd, O_RDONLY | O_DIRECTORY);

	/* The mode root gives it keeps an ordinary owner out. */
	if (r == -EACCES && !core->can_override && upper_chmod(fd, 0700) == 0)
		r = sys_reopen(fd, O_RDONLY | O_DIRECTORY);
	return r;
}

/* What a writer left in `work/incompat` says that the layer must not be used as it is. */
static int workdir_check_features(struct core *core, const char *path, struct strbuf *why)
{
	_cleanup_close_ int workfd = workdir_open_dir(core, core->work.base_fd, WORKDIR_NAME);

	if (workfd == -ENOENT)
		return 0;
	if (workfd < 0)
		return workdir_fail(why, workfd, "cannot open %s/" WORKDIR_NAME ": %s", path,
				    strerror(-workfd));
	_cleanup_close_ int fd = workdir_open_dir(core, workfd, WORKDIR_INCOMPAT);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	_cleanup_strbuf_ struct strbuf feature = STRBUF_INIT;
	int r = sys_dir_for_each(fd, workdir_note_feature, &feature);

	if (r <= 0)
		return r;
	if (feature.failed)
		return -ENOMEM;
	if (strcmp(feature.data, WORKDIR_COMMIT) == 0)
		return workdir_fail(why, -EINVAL,
				    "a commit of the layer with workdir=%s was begun and is not "
				    "finished: run veneer commit again",
				    path);
	if (strcmp(feature.data, WORKDIR_VOLATILE) != 0)
		return workdir_fail(why, -EINVAL,
				    "workdir=%s was used with the feature \"%s\", which this "
				    "program does not know",
				    path, feature.data);
	return workdir_fail(
		why, -EINVAL,
		"workdir=%s was used by a volatile mount, whose upper may be damaged if "
		"the machine stopped before it reached the disk; once you are sure that "
		"it is whole, or do not mind, remove %s/" WORKDIR_NAME "/" WORKDIR_INCOMPAT
		"/" WORKDIR_VOLATILE,
		path, path);
}

/* Without a plan nothing was changed yet, or all was done. */
bool workdir_is_half_done(const struct core *core)
{
	struct statx st;

	if (core->work.fd < 0)
		return false;
	int r = sys_stat(core->work.fd, WORKDIR_INCOMPAT "/" WORKDIR_COMMIT "/" WORKDIR_PLAN, &st);

	return r != -ENOENT && r != -ENOTDIR;
}

/* ---- making `work` ---- */

mode_t workdir_mode(const struct core *core)
{
	/* An ordinary user is root only in a namespace, and works on the layer outside of it as well. */
	return core->can_override && !core->owners.are_partial ? 0 : 0700;
}

/* A default ACL of workdir= must not reach what is prepared in `work`. */
static int workdir_drop_acl(int fd, const char *key)
{
	int r = upper_removexattr(fd, key);

	return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r;
}

static int workdir_make(struct core *core)
{
	struct workdir *work = &core->work;
	int r = upper_mkdir(work->base_fd, WORKDIR_NAME, workdir_mode(core));

	if (r < 0)
		return r;
	_cleanup_close_ int fd = sys_open(work->base_fd, WORKDIR_NAME, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	work->dir = ldir_new_root(&core->fds, &core->layers[0], fd);
	if (!work->dir)
		return -ENOMEM;
	work->fd = fd_take(&fd);
	r = workdir_drop_acl(work->fd, ACL_XATTR_DEFAULT);
	if (r == 0)
		r = workdir_drop_acl(work->fd, ACL_XATTR_ACCESS);
	/* The umask or a default ACL had a say in the mode. */
	return r < 0 ? r : upper_chmod(work->fd, workdir_mode(core));
}

struct workdir_remains {
	struct core *core;
	int fd; /* of `work` */
};

/* A copy of which the origin is known already, and that was never seen. */
static int workdir_forget_origin(const struct sys_dirent *entry, void *context)
{
	const struct workdir_remains *remains = context;
	struct origintable_entry origin;

	/* The lowers, which have a say in what files have one, are not open yet. */
	mode_t mode = entry->type == DT_DIR ? S_IFDIR : S_IFLNK;

	origintable_note(remains->core, mode, remains->fd, entry->name, &origin);
	origintable_drop(remains->core, &origin);
	return 0;
}

/* Of what an interrupted mount left in `work`, before that is removed. */
static int workdir_forget_origins(struct core *core)
{
	if (atomic_load(&core->origins_fd) < 0)
		return 0;
	_cleanup_close_ int fd = workdir_open_dir(core, core->work.base_fd, WORKDIR_NAME);
	struct workdir_remains remains = { .core = core, .fd = fd };

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	return sys_dir_for_each(fd, workdir_forget_origin, &remains);
}

static int workdir_recreate(struct core *core, const char *path, struct strbuf *why)
{
	int r = workdir_forget_origins(core);

	if (r == 0)
		r = cleanup_remove_tree(core, core->work.base_fd, WORKDIR_NAME);

	if (r < 0 && r != -ENOENT)
		return workdir_fail(why, r, "cannot empty %s/" WORKDIR_NAME ": %s", path,
				    r == -EBUSY ? "something is mounted in it" : strerror(-r));
	r = workdir_make(core);
	return r < 0 ? workdir_fail(why, r, "cannot make %s/" WORKDIR_NAME ": %s", path,
				    strerror(-r)) :
		       0;
}

/* The mark that nothing of what the upper holds is known to be on the disk. */
static int workdir_mark_volatile(struct core *core, const char *path, struct strbuf *why)
{
	static const char *const dirs[] = { WORKDIR_INCOMPAT, WORKDIR_VOLATILE };
	_cleanup_close_ int at = sys_reopen(core->work.fd, O_PATH | O_DIRECTORY);
	int r = at < 0 ? at : 0;

	for (int i = 0; i < 2 && r == 0; i++) {
		r = upper_mkdir(at, dirs[i], workdir_mode(core));
		int fd = r < 0 ? r : sys_open(at, dirs[i], O_PATH | O_DIRECTORY, 0);

		if (fd < 0)
			return workdir_fail(why, fd,
					    "cannot mark %s/" WORKDIR_NAME " as volatile: %s", path,
					    strerror(-fd));
		cleanup_close(&at);
		at = fd;
	}
	if (r == 0)
		r = upper_mknod(at, WORKDIR_DIRTY, S_IFREG, 0);
	return r < 0 ? workdir_fail(why, r, "cannot mark %s/" WORKDIR_NAME " as volatile: %s", path,
				    strerror(-r)) :
		       0;
}

/* ---- what the file system can do ---- */

/* Sets and removes the opaque attribute in the namespace @ns. */
static int workdir_probe_xattr(struct core *core, enum xattr_namespace ns)
{
	const char *key = xattr_private_name(ns, XATTR_OPAQUE);
	int r = upper_setxattr(core->work.fd, key, "0", 1, 0);

	return r < 0 ? r : upper_removexattr(core->work.fd, key);
}

static int workdir_fail_xattrs(const struct core *core, int error, const char *path,
			       struct strbuf *why)
{
	bool is_user = core->ns == XATTR_USER;

	return workdir_fail(why, error,
			    "cannot set %s.* extended attributes in workdir=%s, which the upper "
			    "needs%s: %s",
			    is_user ? "user" : "trusted", path,
			    error == -EPERM && !is_user ? " (try userxattr)" : "",
			    strerror(-error));
}

static int workdir_choose_xattrs(struct core *core, enum core_xattrs xattrs, const char *path,
				 struct strbuf *why)
{
	int r = -EPERM;

	if (xattrs != CORE_XATTRS_USER) {
		core->ns = XATTR_TRUSTED;
		r = workdir_probe_xattr(core, XATTR_TRUSTED);
	}
	if (r < 0 && xattrs != CORE_XATTRS_TRUSTED) {
		core->ns = XATTR_USER;
		r = workdir_probe_xattr(core, XATTR_USER);
	}
	if (r != -EOPNOTSUPP)
		return r == 0 ? 0 : workdir_fail_xattrs(core, r, path, why);
	/* As the kernel does: what needs none still works, the rest fails when it is asked for. */
	log_warning("the file system of workdir=%s has no extended attributes: directories cannot "
		    "be renamed or replace others, and inode numbers do not last",
		    path);
	if (core->redirect == CORE_REDIRECT_ON)
		core->redirect = CORE_REDIRECT_FOLLOW;
	return 0;
}

/* A new whiteout in the work directory. */
static int workdir_new_whiteout(struct core *core, char name[WORKDIR_TEMP_MAX])
{
	workdir_temp_name(core, name);
	return upper_mknod(core->work.fd, name, S_IFCHR, 0);
}

/*
 * The whiteout that stays is the first one to link.  Whether entries carry their type is not
 * asked: where they do not, a listing asks for each.
 */
static int workdir_probe_whiteout(struct core *core, const char *path, struct strbuf *why)
{
	struct workdir *work = &core->work;
	char dir[WORKDIR_TEMP_MAX];
	int r = workdir_new_whiteout(core, work->whiteout);

	if (r < 0)
		return workdir_fail(why, r == -EPERM ? r : -EINVAL,
				    "the file system of workdir=%s cannot hold whiteouts "
				    "(character devices 0:0): %s",
				    path, strerror(-r));
	work->has_whiteout = true;
	workdir_temp_name(core, dir);
	r = upper_mkdir(work->fd, dir, 0700);
	if (r == 0) {
		r = upper_rename(work->fd, work->whiteout, work->fd, dir, RENAME_EXCHANGE);
		/* Exchanged or not, one of the two names is the directory. */
		upper_rmdir(work->fd, r == 0 ? work->whiteout : dir);
		if (r == 0)
			strcpy(work->whiteout, dir);
	}
	return r < 0 ? workdir_fail(why, -EINVAL,
				    "the file system of workdir=%s cannot exchange two names "
				    "(RENAME_EXCHANGE), which replacing directories needs: %s",
				    path, strerror(-r)) :
		       0;
}

/* ---- life ---- */

int workdir_init(struct core *core, enum core_xattrs xattrs, int basefd, int upperfd,
		 const char *path, struct strbuf *why)
{
	int r = workdir_lock_both(core, basefd, upperfd, path, why);

	if (r == 0) {
		r = origintable_init(core);
		if (r < 0)
			return workdir_fail(why, r, "cannot open %s/origin: %s", path,
					    strerror(-r));
	}
	if (r < 0 || core->read_only)
		return r;
	r = workdir_check_features(core, path, why);
	if (r == 0)
		r = workdir_recreate(core, path, why);
	if (r == 0)
		r = workdir_choose_xattrs(core, xattrs, path, why);
	if (r == 0)
		r = workdir_probe_whiteout(core, path, why);
	if (r == 0 && core->fsync == CORE_FSYNC_VOLATILE)
		r = workdir_mark_volatile(core, path, why);
	return r;
}

/* Everything in `work` but the mark of a volatile layer. */
static int workdir_remove_entry(const struct sys_dirent *entry, void *context)
{
	struct core *core = context;

	if (strcmp(entry->name, WORKDIR_INCOMPAT) != 0)
		cleanup_remove_tree(core, core->work.fd, entry->name);
	return 0;
}

void workdir_deinit(struct core *core)
{
	struct workdir *work = &core->work;

	if (work->fd >= 0) {
		_cleanup_close_ int fd = sys_reopen(work->fd, O_RDONLY | O_DIRECTORY);

		/* What cannot be removed now is removed by the next mount. */
		if (fd >= 0)
			sys_dir_for_each(fd, workdir_remove_entry, core);
	}
	work->dir = ldir_unref(&core->fds, work->dir);
	work->fd = -1;
	cleanup_close(&work->base_fd);
	cleanup_close(&work->upper_fd);
	lock_mutex_deinit(&work->whiteout_lock);
}

void workdir_temp_name(struct core *core, char name[WORKDIR_TEMP_MAX])
{
	unsigned long long number = atomic_fetch_add(&core->work.counter, 1);

	snprintf(name, WORKDIR_TEMP_MAX, "#%llx", number);
}

int workdir_discard(struct core *core, const char *temp)
{
	return cleanup_remove_tree(core, core->work.fd, temp);
}

/* ---- whiteouts ---- */

/* The name of the whiteout to link, made if there is none. */
static int workdir_get_whiteout(struct core *core, char name[WORKDIR_TEMP_MAX])
{
	struct workdir *work = &core->work;
	char made[WORKDIR_TEMP_MAX] = "";

	for (;;) {
		lock_mutex_lock(&work->whiteout_lock);
		if (!work->has_whiteout && made[0]) {
			strcpy(work->whiteout, made);
			work->has_whiteout = true;
			made[0] = '\0';
		}
		bool has = work->has_whiteout;

		if (has)
			strcpy(name, work->whiteout);
		lock_mutex_unlock(&work->whiteout_lock);
		if (has)
			break;
		int r = workdir_new_whiteout(core, made);

		if (r < 0)
			return r;
	}
	if (made[0]) /* another thread was first */
		upper_unlink(work->fd, made);
	return 0;
}

/* The whiteout @name can take no more links, or is gone: the next caller makes a new one. */
static void workdir_retire_whiteout(struct core *core, const char *name)
{
	struct workdir *work = &core->work;

	lock_mutex_lock(&work->whiteout_lock);
	bool current = work->has_whiteout && strcmp(work->whiteout, name) == 0;

	if (current)
		work->has_whiteout = false;
	lock_mutex_unlock(&work->whiteout_lock);
	if (current)
		upper_unlink(work->fd, name);
}

int workdir_make_whiteout(struct core *core, int dirfd, const char *name)
{
	struct workdir *work = &core->work;
	int r = -EMLINK;

	for (int tries = 3; tries && atomic_load(&work->can_link_whiteout); tries--) {
		char shared[WORKDIR_TEMP_MAX];

		r = workdir_get_whiteout(core, shared);
		if (r < 0)
			return r;
		r = upper_link(work->fd, shared, dirfd, name);
		if (r == -EPERM || r == -EOPNOTSUPP)
			atomic_store(&work->can_link_whiteout, false);
		else if (r != -EMLINK && r != -ENOENT)
			return r;
		if (r != 0)
			workdir_retire_whiteout(core, shared);
	}
	return upper_mknod(dirfd, name, S_IFCHR, 0);
}
