/* SPDX-License-Identifier: MIT */
#include "tools/run_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "format/owner.h"
#include "format/xattr_name.h"
#include "offline/layerfile.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/namespace.h"
#include "sys/xattr.h"
#include "tools/mounts.h"
#include "tools/run_place.h"
#include "tools/run_remove.h"

#define RUN_PID_MAX 32
/* Who only looks at a lock has it for a moment. */
#define RUN_LOCK_TRIES 10
#define RUN_LOCK_PAUSE_MS 5
/* What says that there is no room, and what can be done. */
#define RUN_NO_ROOM " (make room, or name a directory elsewhere with --keep)"

/* Appends the sentence and returns the errno it explains. */
#define run_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- the lock ---- */

pid_t run_layer_user(const char *directory)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	char text[RUN_PID_MAX] = "";

	strbuf_append_format(&path, "%s/" RUN_LAYER_LOCK, directory);
	_cleanup_close_ int fd = path.failed ? -ENOMEM :
					       sys_open_path(path.data, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || sys_flock_exclusive(fd) != -EWOULDBLOCK ||
	    sys_pread(fd, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	return atoi(text);
}

static int run_lock_wait(int fd)
{
	const struct timespec pause = { .tv_nsec = RUN_LOCK_PAUSE_MS * 1000000L };
	int r = sys_flock_exclusive(fd);

	for (int i = 1; r == -EWOULDBLOCK && i < RUN_LOCK_TRIES; i++) {
		nanosleep(&pause, NULL);
		r = sys_flock_exclusive(fd);
	}
	return r;
}

static const char *run_remedy(int error)
{
	return error == -ENOSPC || error == -EDQUOT ? RUN_NO_ROOM : "";
}

static int run_layer_lock(struct run_layer *layer, int dirfd, struct strbuf *why)
{
	char text[RUN_PID_MAX];
	int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	_cleanup_close_ int fd = sys_open(dirfd, RUN_LAYER_LOCK, O_RDWR | O_CREAT, 0600);
	int r = fd < 0 ? fd : run_lock_wait(fd);

	if (r == -EWOULDBLOCK)
		return run_fail(why, -EBUSY,
				"%s: in use by 'veneer run', process %d: wait for its end, or run "
				"on another layer",
				layer->name, (int)run_layer_user(layer->directory));
	if (r == 0) {
		/* From here on it is ours, whatever comes. */
		layer->lock_fd = fd_take(&fd);
		r = sys_truncate(layer->lock_fd, 0);
	}
	if (r == 0) {
		ssize_t written = sys_pwrite(layer->lock_fd, text, (size_t)size, 0);

		r = written < 0 ? (int)written : 0;
	}
	return r < 0 ? run_fail(why, r, "%s/" RUN_LAYER_LOCK ": %s%s", layer->directory,
				strerror(-r), run_remedy(r)) :
		       0;
}

void run_layer_unlock(struct run_layer *layer)
{
	cleanup_close(&layer->lock_fd);
	layer->lock_fd = -1;
}

/* ---- what is in it ---- */

static int run_entry_seen(const struct sys_dirent *entry, void *context)
{
	return 1;
}

/* True if there is something in the directory, or that cannot be told. */
static bool run_has_entries(int dirfd, const char *name)
{
	_cleanup_close_ int fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	return fd < 0 || sys_dir_for_each(fd, run_entry_seen, NULL) != 0;
}

bool run_layer_is_empty(const struct run_layer *layer)
{
	_cleanup_close_ int dirfd =
		sys_open_path(layer->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	struct statx st;

	return dirfd >= 0 && !run_has_entries(dirfd, LAYERFILE_UPPER) &&
	       (sys_stat(dirfd, RUN_LAYER_INNER, &st) == -ENOENT ||
		!run_has_entries(dirfd, RUN_LAYER_INNER));
}

/* A file of this name may be the user's: ours has a number in it, or nothing yet. */
static bool run_lock_is_ours(int dirfd)
{
	char text[RUN_PID_MAX];
	struct statx st;
	int r = sys_stat(dirfd, RUN_LAYER_LOCK, &st);

	if (r < 0 || !S_ISREG(st.stx_mode))
		return false;
	_cleanup_close_ int fd = sys_open(dirfd, RUN_LAYER_LOCK, O_RDONLY | O_NONBLOCK, 0);
	ssize_t size = fd < 0 ? fd : sys_pread(fd, text, sizeof(text), 0);

	if (size <= 0)
		return size == 0;
	text[size - 1] = '\0';
	return (size_t)size < sizeof(text) && strspn(text, "0123456789") == (size_t)size - 1;
}

/* Non-zero for what a run that was killed while it made a layer cannot have left. */
static int run_entry_is_foreign(const struct sys_dirent *entry, void *context)
{
	int dirfd = *(int *)context;

	if (!strcmp(entry->name, RUN_LAYER_LOCK))
		return !run_lock_is_ours(dirfd);
	if (!strcmp(entry->name, LAYERFILE_UPPER) || !strcmp(entry->name, LAYERFILE_WORK))
		return run_has_entries(dirfd, entry->name);
	return strcmp(entry->name, LAYERFILE_TEMP) != 0;
}

/* Can a layer be made there? Nothing is changed to find out. */
static int run_layer_check_new(const struct run_layer *layer, int dirfd, struct strbuf *why)
{
	_cleanup_close_ int fd = sys_open(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : sys_dir_for_each(fd, run_entry_is_foreign, &dirfd);

	if (r < 0)
		return run_fail(why, r, "%s: %s", layer->directory, strerror(-r));
	return r == 0 ? 0 :
			run_fail(why, -EEXIST,
				 "%s: holds files, but is no layer of veneer run: name a new or "
				 "an empty directory",
				 layer->directory);
}

/* True if the owner has no id in the user namespace that the union will be in. */
static bool run_layer_has_stranger(const struct run_plan *plan, const struct statx *st)
{
	if (plan->makes_userns && geteuid() != 0)
		return st->stx_uid != geteuid();
	return sys_ids_are_partial() && st->stx_uid == sys_overflow_id();
}

static int run_layer_mark_owner(int upper)
{
	char value[OWNER_SIZE_MAX];
	const struct owner owner = { .marks = OWNER_FOREIGN_UID | OWNER_FOREIGN_GID };
	size_t size = owner_encode(&owner, value);

	return sys_setxattr(upper, xattr_private_name(XATTR_USER, XATTR_OWNER), value, size, 0);
}

/* The root of the union has the attributes of the upper's: those of the root it lies over. */
static int run_layer_dress(const struct run_plan *plan, int dirfd)
{
	_cleanup_close_ int upper = sys_open(dirfd, LAYERFILE_UPPER, O_PATH | O_DIRECTORY, 0);
	struct statx st;
	int r = upper < 0 ? upper : sys_stat(AT_FDCWD, "/", &st);

	if (r == 0)
		r = sys_chmod(upper, st.stx_mode & 07777);
	if (r == 0)
		r = run_layer_has_stranger(plan, &st) ? run_layer_mark_owner(upper) :
							sys_chown(upper, st.stx_uid, st.stx_gid);
	const struct timespec times[2] = {
		{ st.stx_atime.tv_sec, st.stx_atime.tv_nsec },
		{ st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec },
	};

	return r < 0 ? r : sys_utimens(upper, times);
}

static int run_layer_describe(const struct run_plan *plan, struct strbuf *why)
{
	struct layerfile file = {
		.cross_mounts = true,
		.userxattr = plan->uses_user_xattrs,
		.command = plan->options->command,
		.is_temporary = plan->layer.is_temporary,
		.is_discarded = plan->layer.is_temporary && plan->options->end == RUN_END_DISCARD,
	};
	int r;

	clock_gettime(CLOCK_REALTIME, &file.created);
	r = lowerdir_list_add(&file.lowers, "/", false);
	if (r == 0)
		r = layerfile_write(plan->layer.directory, &file, why);
	file.command = NULL; /* borrowed */
	layerfile_deinit(&file);
	return r;
}

/* Each may be there: of a run that was killed. */
static int run_layer_fill(const struct run_plan *plan, int dirfd, struct strbuf *why)
{
	const struct run_layer *layer = &plan->layer;
	int r = sys_mkdir(dirfd, LAYERFILE_UPPER, 0755);

	if (r == 0 || r == -EEXIST)
		r = sys_mkdir(dirfd, LAYERFILE_WORK, 0700);
	if (r == 0 || r == -EEXIST)
		r = run_layer_dress(plan, dirfd);
	if (r < 0)
		return run_fail(why, r, "%s: %s%s", layer->directory, strerror(-r), run_remedy(r));
	/* Last: what has it is complete. */
	r = run_layer_describe(plan, why);
	strbuf_append_string(why, run_remedy(r));
	return r;
}

/* A layer that could not be made leaves nothing; what has come to hold something stays. */
static void run_layer_undo(const struct run_layer *layer, int dirfd)
{
	sys_unlink(dirfd, LAYERFILE_TEMP);
	sys_rmdir(dirfd, LAYERFILE_WORK);
	sys_rmdir(dirfd, LAYERFILE_UPPER);
	if (layer->lock_fd >= 0)
		sys_unlink(dirfd, RUN_LAYER_LOCK);
	if (layer->is_new)
		sys_rmdir(AT_FDCWD, layer->directory);
}

/* Can we go on with a layer that was begun earlier? */
static int run_layer_check(const struct run_plan *plan, const struct layerfile *file,
			   struct strbuf *why)
{
	const char *directory = plan->layer.directory;

	if (file->lowers.count != 1 || strcmp(file->lowers.items[0].path, "/") != 0 ||
	    !file->cross_mounts)
		return run_fail(why, -EINVAL,
				"%s: lies over %s, not over the whole tree: mount it with 'veneer "
				"-o lowerdir=...'",
				directory, file->lowers.count ? file->lowers.items[0].path : "?");
	if (file->userxattr != plan->uses_user_xattrs)
		return run_fail(why, -EINVAL,
				"%s: was made %s root, and can be gone on with only like that",
				directory, file->userxattr ? "without being" : "as");
	return 0;
}

/* Who names a layer keeps it, though the run that made it would not have. */
static int run_layer_adopt(const struct run_layer *layer, struct layerfile *file,
			   struct strbuf *why)
{
	if (layer->is_temporary || (!file->is_temporary && !file->is_discarded))
		return 0;
	file->is_temporary = file->is_discarded = false;
	return layerfile_write(layer->directory, file, why);
}

/* -ENOENT: no layer yet, but one can be made. */
static int run_layer_look(const struct run_plan *plan, int dirfd, struct layerfile *file,
			  struct strbuf *why)
{
	int r = layerfile_read(plan->layer.directory, file, why);

	if (r == 0)
		return run_layer_check(plan, file, why);
	if (r == -ENOENT) {
		int allowed = run_layer_check_new(&plan->layer, dirfd, why);

		return allowed < 0 ? allowed : -ENOENT;
	}
	return r;
}

/* @dirfd is the directory. */
static int run_layer_take(struct run_plan *plan, int dirfd, struct strbuf *why)
{
	_cleanup_layerfile_ struct layerfile before = LAYERFILE_INIT, file = LAYERFILE_INIT;
	struct run_layer *layer = &plan->layer;
	/* Before anything of ours comes into what may be a directory of something else. */
	int r = run_layer_look(plan, dirfd, &before, why);
	bool is_made = r == -ENOENT;

	if (r < 0 && !is_made)
		return r;
	r = run_layer_lock(layer, dirfd, why);
	/* Again: another run may have been quicker. */
	if (r == 0)
		r = run_layer_look(plan, dirfd, &file, why);
	if (r == 0)
		return run_layer_adopt(layer, &file, why);
	if (r == -ENOENT)
		r = run_layer_fill(plan, dirfd, why);
	if (r < 0 && r != -EBUSY && is_made)
		run_layer_undo(layer, dirfd);
	return r;
}

/* A union of veneer has no place for the marks of another one's layer. */
static int run_layer_check_place(const struct run_layer *layer, int dirfd, struct strbuf *why)
{
	_cleanup_mounts_ struct mounts mounts = MOUNTS_INIT;
	const struct mounts_entry *entry;
	unsigned long long id;

	if (sys_mount_id(dirfd, &id) < 0 || mounts_read(&mounts) < 0)
		return 0; /* the daemon will say so */
	entry = mounts_find(&mounts, id);
	if (!entry || !mounts_is_veneer(entry))
		return 0;
	if (layer->is_new)
		sys_rmdir(AT_FDCWD, layer->directory);
	return run_fail(why, -EINVAL,
			"%s: lies in a union of veneer, which cannot hold another layer: name a "
			"real place with --keep, in a 'veneer run' one below /run or in a path "
			"that --write made real",
			layer->directory);
}

int run_layer_open(struct run_plan *plan, struct strbuf *why)
{
	struct run_layer *layer = &plan->layer;
	int r = run_place_layer(plan->options, layer, why);
	_cleanup_close_ int dirfd =
		r < 0 ? r : sys_open_path(layer->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (r == 0 && dirfd < 0)
		r = run_fail(why, dirfd, "%s: %s", layer->directory, strerror(-dirfd));
	if (r == 0)
		r = run_layer_check_place(layer, dirfd, why);
	if (r == 0)
		r = run_layer_take(plan, dirfd, why);
	if (r < 0 && why->length == 0)
		r = run_fail(why, r, "the layer: %s", strerror(-r));
	return r;
}

int run_layer_open_inner(const struct run_layer *layer, struct strbuf *why)
{
	_cleanup_close_ int dirfd =
		sys_open_path(layer->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dirfd < 0 ? dirfd : sys_mkdir(dirfd, RUN_LAYER_INNER, 0755);
	_cleanup_close_ int inner =
		r < 0 && r != -EEXIST ? r :
					sys_open(dirfd, RUN_LAYER_INNER, O_PATH | O_DIRECTORY, 0);

	r = inner < 0 ? inner : sys_mount_clone(inner, 0);
	return r < 0 ? run_fail(why, r, "%s/" RUN_LAYER_INNER ": %s%s", layer->directory,
				strerror(-r), run_remedy(r)) :
		       r;
}

void run_layer_close_inner(const struct run_layer *layer)
{
	_cleanup_close_ int dirfd =
		sys_open_path(layer->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dirfd >= 0)
		sys_rmdir(dirfd, RUN_LAYER_INNER);
}

int run_layer_remove(const struct run_layer *layer, struct strbuf *why)
{
	int r = run_remove_tree(layer->directory);

	return r < 0 ? run_fail(why, r, "%s: cannot be removed: %s", layer->directory,
				strerror(-r)) :
		       0;
}

void run_layer_deinit(struct run_layer *layer)
{
	cleanup_close(&layer->lock_fd);
	free(layer->directory);
	free(layer->name);
	*layer = (struct run_layer){ .lock_fd = -1 };
}
