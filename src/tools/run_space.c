/* SPDX-License-Identifier: MIT */
#include "tools/run_space.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/namespace.h"

/* What is hidden needs no more. */
#define RUN_SPACE_TMPFS "mode=0755,size=64k"
#define RUN_SPACE_TMPFS_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define RUN_SPACE_EMPTY "empty"

/* Appends the sentence and returns the errno it explains. */
#define run_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* What is the machine's and not the tree's, and always real. */
static char *const run_real_items[] = { "/proc", "/sys", "/dev", "/run" };
static const struct run_paths run_real = { (char **)run_real_items, ARRAY_SIZE(run_real_items) };

bool run_space_is_real(const char *path)
{
	return run_paths_have(&run_real, path);
}

struct run_space {
	const struct run_plan *plan;
	const char *point; /* the union */
	int empty_fd; /* an empty file; -1: nobody needs one */
	int inner_fd; /* what the state directory is; -1: as the union has it */
	struct strbuf *why;
};

/* ---- paths ---- */

int run_paths_add(struct run_paths *paths, const char *path)
{
	char **more = reallocarray(paths->items, paths->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	paths->items = more;
	more[paths->count] = strdup(path);
	return more[paths->count] ? (paths->count++, 0) : -ENOMEM;
}

void run_paths_deinit(struct run_paths *paths)
{
	for (size_t i = 0; i < paths->count; i++)
		free(paths->items[i]);
	free(paths->items);
	*paths = (struct run_paths){ 0 };
}

static int run_paths_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void run_paths_sort(struct run_paths *paths)
{
	if (paths->count > 1)
		qsort(paths->items, paths->count, sizeof(*paths->items), run_paths_compare);
}

bool run_paths_have(const struct run_paths *paths, const char *path)
{
	for (size_t i = 0; i < paths->count; i++) {
		size_t length = strlen(paths->items[i]);

		if (strncmp(paths->items[i], path, length) == 0 &&
		    (path[length] == '/' || path[length] == '\0'))
			return true;
	}
	return false;
}

/* @path as it is in the union. */
static int run_space_path(const struct run_space *space, const char *path, struct strbuf *inside)
{
	strbuf_append_format(inside, "%s%s", space->point, path);
	return inside->failed ? -ENOMEM : 0;
}

/* ---- what is dead ---- */

/* The union would fail there, and what fails cannot be mounted over. */
int run_space_bury(const struct run_plan *plan, struct strbuf *why)
{
	const struct run_paths *hidden = &plan->options->hidden;
	struct statx st;

	for (size_t i = 0; i < hidden->count; i++) {
		const char *path = hidden->items[i];

		if (sys_stat(AT_FDCWD, path, &st) != -ENOTCONN)
			continue;
		int r = sys_mount(RUN_SPACE_HIDDEN, path, "tmpfs", RUN_SPACE_TMPFS_FLAGS,
				  RUN_SPACE_TMPFS);

		if (r < 0)
			return run_fail(why, r, "%s: cannot be hidden: %s", path, strerror(-r));
	}
	return 0;
}

/* ---- mounts ---- */

static int run_space_bind(const struct run_space *space, const char *path)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(space, path, &inside);

	if (r == 0)
		r = sys_mount_bind(path, inside.data, true);
	return r < 0 ? run_fail(space->why, r, "%s: cannot be made real: %s", path, strerror(-r)) :
		       0;
}

/* One can be connected to also where it is read-only, and not be given to others. */
static void run_space_bind_socket(const struct run_space *space, const char *path)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;

	/* One that is gone again by now is no loss. */
	if (run_space_path(space, path, &inside) == 0 &&
	    sys_mount_bind(path, inside.data, false) == 0)
		sys_mount_read_only(inside.data);
}

/* True if one of the hidden paths is not a directory. */
static bool run_space_hides_files(const struct run_space *space)
{
	const struct run_paths *hidden = &space->plan->options->hidden;
	struct statx st;

	for (size_t i = 0; i < hidden->count; i++)
		if (sys_stat(AT_FDCWD, hidden->items[i], &st) == 0 && !S_ISDIR(st.stx_mode))
			return true;
	return false;
}

/* An empty file to be bound over others, in a file system of its own: /dev will come to lie over it. */
static int run_space_make_empty(struct run_space *space)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(space, "/dev", &inside);

	if (r == 0)
		r = sys_mount(RUN_SPACE_HIDDEN, inside.data, "tmpfs", RUN_SPACE_TMPFS_FLAGS,
			      RUN_SPACE_TMPFS);
	_cleanup_close_ int dirfd =
		r < 0 ? r : sys_open_path(inside.data, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (r == 0)
		r = dirfd < 0 ? dirfd : sys_mknod(dirfd, RUN_SPACE_EMPTY, S_IFREG | 0444, 0);
	if (r == 0)
		r = sys_open(dirfd, RUN_SPACE_EMPTY, O_PATH, 0);
	if (r >= 0) {
		space->empty_fd = r;
		r = sys_chmod(r, 0444); /* whatever the umask */
	}
	return r < 0 ? run_fail(space->why, r, "no file can be hidden: %s", strerror(-r)) : 0;
}

/* A directory is an empty one, of a file system of its own; anything else is an empty file. */
static int run_space_hide(const struct run_space *space, const char *path)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	char empty[SYS_FD_PATH_MAX];
	struct statx st;
	int r = run_space_path(space, path, &inside);

	if (r == 0)
		r = sys_stat(AT_FDCWD, inside.data, &st);
	if (r == 0 && S_ISDIR(st.stx_mode))
		r = sys_mount(strcmp(path, space->plan->layer.directory) != 0 ? RUN_SPACE_HIDDEN :
										RUN_SPACE_LAYER,
			      inside.data, "tmpfs", RUN_SPACE_TMPFS_FLAGS, RUN_SPACE_TMPFS);
	else if (r == 0)
		r = sys_mount_bind(sys_fd_path(space->empty_fd, empty), inside.data, false);
	return r < 0 ? run_fail(space->why, r, "%s: cannot be hidden: %s", path, strerror(-r)) : 0;
}

/* Where something real is to appear in what is hidden. Its parents; the last is a file if @path is one. */
static int run_space_make_point(const struct run_space *space, const char *path)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	struct statx st;
	int r = run_space_path(space, path, &inside);

	if (r == 0)
		r = sys_stat(AT_FDCWD, path, &st);
	for (char *slash = r < 0 ? NULL : strchr(inside.data + strlen(space->point) + 1, '/');
	     slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		sys_mkdir(AT_FDCWD, inside.data, 0755); /* or it is there */
		*slash = '/';
	}
	if (r == 0 && S_ISDIR(st.stx_mode)) {
		r = sys_mkdir(AT_FDCWD, inside.data, 0755);
	} else if (r == 0) {
		r = sys_mknod(AT_FDCWD, inside.data, S_IFREG | 0644, 0);
	}
	return r == 0 || r == -EEXIST ? 0 : run_fail(space->why, r, "%s: %s", path, strerror(-r));
}

static int run_space_seal(const struct run_space *space, const char *path)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(space, path, &inside);

	if (r == 0)
		r = sys_mount_read_only(inside.data);
	return r < 0 ? run_fail(space->why, r, "%s: cannot be hidden: %s", path, strerror(-r)) : 0;
}

static int run_space_make_real(const struct run_space *space, const char *path)
{
	int r = run_paths_have(&space->plan->options->hidden, path) ?
			run_space_make_point(space, path) :
			0;

	return r < 0 ? r : run_space_bind(space, path);
}

/* Outer paths first, so that either can be within the other. */
static int run_space_mount_paths(const struct run_space *space)
{
	const struct run_paths *hidden = &space->plan->options->hidden;
	const struct run_paths *real = &space->plan->options->real;
	size_t i = 0, j = 0;
	int r = 0;

	while (r == 0 && (i < hidden->count || j < real->count)) {
		if (j == real->count ||
		    (i < hidden->count && strcmp(hidden->items[i], real->items[j]) < 0))
			r = run_space_hide(space, hidden->items[i++]);
		else
			r = run_space_make_real(space, real->items[j++]);
	}
	return r;
}

/* Over whatever is there by now. */
static int run_space_mount_state(const struct run_space *space, const char *state)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(space, state, &inside);

	if (r == 0)
		r = sys_mount_move(space->inner_fd, inside.data);
	return r < 0 ? run_fail(space->why, r, "%s: no place for layers of its own: %s", state,
				strerror(-r)) :
		       0;
}

static int run_space_mount(const struct run_space *space)
{
	const struct run_paths *hidden = &space->plan->options->hidden;
	const struct run_paths *sockets = &space->plan->sockets;
	const char *state = space->plan->state;
	int r = run_space_mount_paths(space);

	for (size_t i = 0; r == 0 && i < sockets->count; i++)
		run_space_bind_socket(space, sockets->items[i]);
	if (r == 0 && space->inner_fd >= 0 && run_paths_have(hidden, state))
		r = run_space_make_point(space, state);
	/* Last: something real may have needed a place in it. */
	for (size_t i = 0; r == 0 && i < hidden->count; i++)
		r = run_space_seal(space, hidden->items[i]);
	return r < 0 || space->inner_fd < 0 ? r : run_space_mount_state(space, state);
}

/* /proc of the process ids that the command sees. */
static int run_space_mount_proc(const struct run_space *space)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(space, "/proc", &inside);

	if (r == 0)
		r = sys_mount("proc", inside.data, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	return r < 0 ? run_fail(space->why, r, "--pid: no /proc can be mounted: %s%s", strerror(-r),
				r == -EPERM ? " (this container hides parts of its own)" : "") :
		       0;
}

static int run_space_mount_machine(const struct run_space *space)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < run_real.count; i++) {
		struct statx st;

		if (space->plan->options->own_pids && !strcmp(run_real.items[i], "/proc"))
			r = run_space_mount_proc(space);
		else if (sys_stat(AT_FDCWD, run_real.items[i], &st) == 0 && S_ISDIR(st.stx_mode))
			r = run_space_bind(space, run_real.items[i]);
	}
	return r;
}

/* ---- entering ---- */

static int run_space_go(const struct run_space *space)
{
	const char *directory = space->plan->directory;
	int r = chdir(space->point) < 0 ? -errno : sys_pivot_root();

	if (r < 0)
		return run_fail(space->why, r, "the union cannot become the root: %s",
				strerror(-r));
	/* Elsewhere the command might do to other files what it is to do to those here. */
	if (chdir(directory) < 0) {
		r = -errno;
		return run_fail(space->why, r,
				"%s: the current directory is not there in the run (%s): go to "
				"another one with cd, or hide less",
				directory, strerror(-r));
	}
	return 0;
}

int run_space_enter(const struct run_plan *plan, const char *point, int inner_fd,
		    struct strbuf *why)
{
	struct run_space space = {
		.plan = plan, .point = point, .empty_fd = -1, .inner_fd = inner_fd, .why = why
	};
	int r = sys_unshare(CLONE_NEWNS | (plan->options->no_network ? CLONE_NEWNET : 0));

	if (r < 0)
		return run_fail(why, r, "no namespaces of its own for the command: %s",
				strerror(-r));
	if (plan->options->no_network)
		sys_loopback_up(); /* as a machine without a network has it; else not even that */
	r = run_space_hides_files(&space) ? run_space_make_empty(&space) : 0;
	if (r == 0)
		r = run_space_mount_machine(&space);
	if (r == 0)
		r = run_space_mount(&space);
	cleanup_close(&space.empty_fd);
	return r < 0 ? r : run_space_go(&space);
}
