/* SPDX-License-Identifier: MIT */
#include "tools/run_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "sys/namespace.h"
#include "sys/xattr.h"
#include "tools/locate.h"
#include "tools/run_remove.h"

#define RUN_LOCK_NAME "lock"
#define RUN_PID_MAX 32
/* Of a name that is made up: the command's part of it. */
#define RUN_NAME_MAX 24
#define RUN_NAME_TRIES 100

/* Appends the sentence and returns the errno it explains. */
#define run_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* ---- names ---- */

/* Every directory of an absolute path that is not there yet. */
static int run_make_parents(const char *path, struct strbuf *why)
{
	_cleanup_free_ char *copy = strdup(path);
	int r = copy ? 0 : -ENOMEM;

	for (char *slash = copy ? strchr(copy + 1, '/') : NULL; r == 0 && slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = sys_mkdir(AT_FDCWD, copy, 0755);
		if (r == -EEXIST)
			r = 0;
		if (r < 0)
			r = run_fail(why, r, "%s: %s", copy, strerror(-r));
		*slash = '/';
	}
	return r;
}

/* What a layer without a name is called: after the command, and the time. */
static void run_make_name(const struct run_options *options, unsigned int attempt, char *name,
			  size_t size)
{
	const char *slash = strrchr(options->command[0], '/');
	const char *word = slash ? slash + 1 : options->command[0];
	time_t now = time(NULL);
	struct tm tm = { 0 };
	char when[RUN_NAME_MAX], what[RUN_NAME_MAX];
	size_t length = 0;

	for (; *word && length < sizeof(what) - 1; word++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
			   *word) ||
		    (length > 0 && strchr("-.+", *word)))
			what[length++] = *word;
	what[length] = '\0';
	localtime_r(&now, &tm);
	strftime(when, sizeof(when), "%m%d-%H%M%S", &tm);
	snprintf(name, size, attempt ? "%s-%s-%u" : "%s-%s", length ? what : "run", when, attempt);
}

static int run_check_name(const char *name, struct strbuf *why)
{
	if (*name && *name != '.' && !strchr(name, '/') && strlen(name) < NAME_MAX)
		return 0;
	return run_fail(why, -EINVAL,
			"--name %s: a name has no slash and does not begin with a point (a "
			"directory is named with --keep)",
			name);
}

/* A new directory of its own in the state directory. */
static int run_layer_make_temporary(const struct run_options *options, const char *state,
				    struct run_layer *layer, struct strbuf *why)
{
	int r = -EEXIST;

	for (unsigned int i = 0; r == -EEXIST && i < RUN_NAME_TRIES; i++) {
		_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
		char name[3 * RUN_NAME_MAX];

		run_make_name(options, i, name, sizeof(name));
		strbuf_append_format(&path, "%s/%s", state, name);
		r = path.failed ? -ENOMEM : sys_mkdir(AT_FDCWD, path.data, 0700);
		if (r < 0 && r != -EEXIST)
			r = run_fail(why, r, "%s: %s (--keep DIR names a place for the layer)",
				     path.data, strerror(-r));
		if (r == 0) {
			layer->directory = strbuf_take(&path);
			layer->name = strdup(name);
			layer->is_temporary = true;
		}
	}
	return r < 0 ? r : layer->directory && layer->name ? 0 : -ENOMEM;
}

/* A directory that the user has named, made if it is not there. */
static int run_layer_make_named(const char *path, const char *name, struct run_layer *layer,
				struct strbuf *why)
{
	int r = sys_mkdir(AT_FDCWD, path, 0700);

	if (r < 0 && r != -EEXIST)
		return run_fail(why, r, "%s: %s", path, strerror(-r));
	layer->directory = realpath(path, NULL);
	if (!layer->directory) {
		r = -errno;
		return run_fail(why, r, "%s: %s", path, strerror(-r));
	}
	layer->name = strdup(name ? name : layer->directory);
	return layer->name ? 0 : -ENOMEM;
}

static int run_layer_place(const struct run_options *options, struct run_layer *layer,
			   struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	int r;

	if (options->keep)
		return run_layer_make_named(options->keep, NULL, layer, why);
	r = options->name ? run_check_name(options->name, why) : 0;
	if (r < 0)
		return r;
	r = locate_state(&path);
	if (r == -ENOENT)
		return run_fail(why, r, "HOME is not set: --keep DIR names a place for the layer");
	strbuf_append_string(&path, "/");
	if (r == 0)
		r = path.failed ? -ENOMEM : run_make_parents(path.data, why);
	if (r < 0)
		return r;
	path.data[--path.length] = '\0';
	if (!options->name)
		return run_layer_make_temporary(options, path.data, layer, why);
	strbuf_append_format(&path, "/%s", options->name);
	return path.failed ? -ENOMEM : run_layer_make_named(path.data, options->name, layer, why);
}

/* ---- the lock ---- */

pid_t run_layer_user(const char *directory)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;
	char text[RUN_PID_MAX] = "";

	strbuf_append_format(&path, "%s/" RUN_LOCK_NAME, directory);
	_cleanup_close_ int fd = path.failed ? -ENOMEM :
					       sys_open_path(path.data, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || sys_flock_exclusive(fd) != -EWOULDBLOCK ||
	    sys_pread(fd, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	return atoi(text);
}

static int run_layer_lock(struct run_layer *layer, int dirfd, struct strbuf *why)
{
	char text[RUN_PID_MAX];

	layer->lock_fd = sys_open(dirfd, RUN_LOCK_NAME, O_RDWR | O_CREAT, 0600);
	int r = layer->lock_fd < 0 ? layer->lock_fd : sys_flock_exclusive(layer->lock_fd);

	if (r == -EWOULDBLOCK)
		return run_fail(why, -EBUSY,
				"%s: in use by 'veneer run', process %d: wait for its end, or run "
				"on another layer",
				layer->name, (int)run_layer_user(layer->directory));
	int size = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (r == 0)
		r = sys_truncate(layer->lock_fd, 0);
	if (r == 0) {
		ssize_t written = sys_pwrite(layer->lock_fd, text, (size_t)size, 0);

		r = written < 0 ? (int)written : 0;
	}
	return r < 0 ? run_fail(why, r, "%s/" RUN_LOCK_NAME ": %s", layer->directory,
				strerror(-r)) :
		       0;
}

bool run_layer_unlock(struct run_layer *layer)
{
	int fd = fd_take(&layer->lock_fd);

	cleanup_close(&fd);
	return fd >= 0;
}

/* ---- what is in it ---- */

static int run_entry_seen(const struct sys_dirent *entry, void *context)
{
	return strcmp(entry->name, RUN_LOCK_NAME) != 0;
}

/* True if there is something in the directory, other than a lock. */
static bool run_has_entries(const char *directory, const char *name)
{
	_cleanup_strbuf_ struct strbuf path = STRBUF_INIT;

	strbuf_append_format(&path, "%s/%s", directory, name);
	_cleanup_close_ int fd =
		path.failed ? -ENOMEM :
			      sys_open_path(path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || sys_dir_for_each(fd, run_entry_seen, NULL) != 0;
}

bool run_layer_is_empty(const struct run_layer *layer)
{
	return !run_has_entries(layer->directory, LAYERFILE_UPPER);
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
	size_t size = owner_encode(OWNER_FOREIGN_UID | OWNER_FOREIGN_GID, value);

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

static int run_layer_fill(const struct run_plan *plan, int dirfd, struct strbuf *why)
{
	const struct run_layer *layer = &plan->layer;
	int r;

	if (run_has_entries(layer->directory, "."))
		return run_fail(why, -EEXIST,
				"%s: holds files, but is no layer of veneer run: name a new or an "
				"empty directory",
				layer->directory);
	r = sys_mkdir(dirfd, LAYERFILE_UPPER, 0755);
	if (r == 0)
		r = sys_mkdir(dirfd, LAYERFILE_WORK, 0700);
	if (r == 0)
		r = run_layer_dress(plan, dirfd);
	if (r < 0)
		return run_fail(why, r, "%s: %s", layer->directory, strerror(-r));
	/* Last: what has it is complete. */
	return run_layer_describe(plan, why);
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

static int run_layer_take(struct run_plan *plan, struct strbuf *why)
{
	_cleanup_layerfile_ struct layerfile file = LAYERFILE_INIT;
	struct run_layer *layer = &plan->layer;
	_cleanup_close_ int dirfd =
		sys_open_path(layer->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dirfd < 0 ? dirfd : run_layer_lock(layer, dirfd, why);

	if (r < 0)
		return dirfd < 0 ? run_fail(why, r, "%s: %s", layer->directory, strerror(-r)) : r;
	r = layerfile_read(layer->directory, &file, why);
	if (r == -ENOENT)
		return run_layer_fill(plan, dirfd, why);
	return r < 0 ? r : run_layer_check(plan, &file, why);
}

int run_layer_open(struct run_plan *plan, struct strbuf *why)
{
	int r = run_layer_place(plan->options, &plan->layer, why);

	if (r == 0)
		r = run_layer_take(plan, why);
	if (r < 0 && why->length == 0)
		r = run_fail(why, r, "the layer: %s", strerror(-r));
	return r;
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
