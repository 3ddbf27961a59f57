/* SPDX-License-Identifier: MIT */
/*
 * A unix socket is found by its inode, and that of the union's file is another
 * than that of the file below: so nobody is reached through the union.  Sockets
 * that somebody listens at are bound into it.
 */
#include "tools/run_space.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

/* Each costs a mount. */
#define RUN_SOCKETS_MAX 64
#define RUN_SOCKETS_TABLE "/proc/net/unix"
/* __SO_ACCEPTCON of that table. */
#define RUN_SOCKET_LISTENS 0x10000u

/* Appends the sentence and returns the errno it explains. */
#define run_fail(why, error, ...) (strbuf_append_format(why, __VA_ARGS__), (error))

/* What is the machine's and not the tree's, and always real. */
static char *const run_real_items[] = { "/proc", "/sys", "/dev", "/run" };
static const struct run_paths run_real = { (char **)run_real_items, ARRAY_SIZE(run_real_items) };

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

/* @path as it is in the union at @point. */
static int run_space_path(const char *point, const char *path, struct strbuf *inside)
{
	strbuf_append_format(inside, "%s%s", point, path);
	return inside->failed ? -ENOMEM : 0;
}

/* ---- sockets ---- */

/* "Num RefCount Protocol Flags Type St Inode Path"; false: not one that can be connected to by path. */
static bool run_socket_parse(char *line, char **path)
{
	unsigned int flags;
	char *at = strchr(line, '/');

	line[strcspn(line, "\n")] = '\0';
	if (!at || at == line || at[-1] != ' ' || sscanf(line, "%*[^:]: %*x %*x %x", &flags) != 1 ||
	    !(flags & RUN_SOCKET_LISTENS))
		return false;
	*path = at;
	return true;
}

static bool run_socket_is_wanted(const struct run_options *options, const char *path)
{
	_cleanup_free_ char *resolved = realpath(path, NULL);
	struct statx st;

	return resolved && !strcmp(resolved, path) && !run_paths_have(&run_real, path) &&
	       !run_paths_have(&options->real, path) && !run_paths_have(&options->hidden, path) &&
	       sys_stat(AT_FDCWD, path, &st) == 0 && S_ISSOCK(st.stx_mode);
}

int run_space_find_sockets(const struct run_options *options, struct run_paths *sockets)
{
	_cleanup_fclose_ FILE *file = fopen(RUN_SOCKETS_TABLE, "re");
	_cleanup_free_ char *line = NULL;
	size_t capacity = 0;
	int r = 0;

	/* Without the table there are no sockets, which is no reason not to run. */
	while (file && r == 0 && sockets->count < RUN_SOCKETS_MAX &&
	       getline(&line, &capacity, file) >= 0) {
		char *path;

		if (run_socket_parse(line, &path) && !run_paths_have(sockets, path) &&
		    run_socket_is_wanted(options, path))
			r = run_paths_add(sockets, path);
	}
	return r;
}

/* ---- mounts ---- */

static int run_space_bind(const char *point, const char *path, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(point, path, &inside);

	if (r == 0)
		r = sys_mount_bind(path, inside.data, true);
	return r < 0 ? run_fail(why, r, "%s: cannot be made real: %s", path, strerror(-r)) : 0;
}

/* A directory is an empty one, of a file system of its own; anything else is empty to read. */
static int run_space_hide(const char *point, const char *path, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	struct statx st;
	int r = run_space_path(point, path, &inside);

	if (r == 0)
		r = sys_stat(AT_FDCWD, inside.data, &st);
	if (r == 0 && S_ISDIR(st.stx_mode))
		r = sys_mount("tmpfs", inside.data, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			      "mode=0755,size=64k");
	else if (r == 0)
		r = sys_mount_bind("/dev/null", inside.data, false);
	return r < 0 ? run_fail(why, r, "%s: cannot be hidden: %s", path, strerror(-r)) : 0;
}

/* Where something real is to appear in what is hidden. Its parents; the last is a file if @path is one. */
static int run_space_make_point(const char *point, const char *path, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	struct statx st;
	int r = run_space_path(point, path, &inside);

	if (r == 0)
		r = sys_stat(AT_FDCWD, path, &st);
	for (char *slash = r < 0 ? NULL : strchr(inside.data + strlen(point) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		sys_mkdir(AT_FDCWD, inside.data, 0755); /* or it is there */
		*slash = '/';
	}
	if (r == 0 && S_ISDIR(st.stx_mode)) {
		r = sys_mkdir(AT_FDCWD, inside.data, 0755);
	} else if (r == 0) {
		r = sys_mknod(AT_FDCWD, inside.data, S_IFREG | 0644, 0);
	}
	return r == 0 || r == -EEXIST ? 0 : run_fail(why, r, "%s: %s", path, strerror(-r));
}

static int run_space_seal(const char *point, const char *path, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(point, path, &inside);

	if (r == 0)
		r = sys_mount_read_only(inside.data);
	return r < 0 ? run_fail(why, r, "%s: cannot be hidden: %s", path, strerror(-r)) : 0;
}

static int run_space_make_real(const struct run_options *options, const char *point,
			       const char *path, struct strbuf *why)
{
	int r = run_paths_have(&options->hidden, path) ? run_space_make_point(point, path, why) : 0;

	return r < 0 ? r : run_space_bind(point, path, why);
}

/* Outer paths first, so that either can be within the other. */
static int run_space_mount_paths(const struct run_options *options, const char *point,
				 struct strbuf *why)
{
	const struct run_paths *hidden = &options->hidden, *real = &options->real;
	size_t i = 0, j = 0;
	int r = 0;

	while (r == 0 && (i < hidden->count || j < real->count)) {
		if (j == real->count ||
		    (i < hidden->count && strcmp(hidden->items[i], real->items[j]) < 0))
			r = run_space_hide(point, hidden->items[i++], why);
		else
			r = run_space_make_real(options, point, real->items[j++], why);
	}
	return r;
}

static int run_space_mount(const struct run_plan *plan, const char *point, struct strbuf *why)
{
	const struct run_options *options = plan->options;
	int r = run_space_mount_paths(options, point, why);

	/* A socket that is gone again by now is no loss. */
	for (size_t i = 0; r == 0 && i < plan->sockets.count; i++) {
		_cleanup_strbuf_ struct strbuf ignored = STRBUF_INIT;

		run_space_bind(point, plan->sockets.items[i], &ignored);
	}
	/* Last: something real may have needed a place in it. */
	for (size_t i = 0; r == 0 && i < options->hidden.count; i++)
		r = run_space_seal(point, options->hidden.items[i], why);
	return r;
}

/* /proc of the process ids that the command sees. */
static int run_space_mount_proc(const char *point, struct strbuf *why)
{
	_cleanup_strbuf_ struct strbuf inside = STRBUF_INIT;
	int r = run_space_path(point, "/proc", &inside);

	if (r == 0)
		r = sys_mount("proc", inside.data, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	return r < 0 ? run_fail(why, r, "--pid: no /proc can be mounted: %s%s", strerror(-r),
				r == -EPERM ? " (this container hides parts of its own)" : "") :
		       0;
}

static int run_space_mount_machine(const struct run_plan *plan, const char *point,
				   struct strbuf *why)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < run_real.count; i++) {
		struct statx st;

		if (plan->options->own_pids && !strcmp(run_real.items[i], "/proc"))
			r = run_space_mount_proc(point, why);
		else if (sys_stat(AT_FDCWD, run_real.items[i], &st) == 0 && S_ISDIR(st.stx_mode))
			r = run_space_bind(point, run_real.items[i], why);
	}
	return r;
}

/* ---- entering ---- */

static int run_space_go(const struct run_plan *plan, const char *point, struct strbuf *why)
{
	int r = chdir(point) < 0 ? -errno : sys_pivot_root();

	if (r < 0)
		return run_fail(why, r, "the union cannot become the root: %s", strerror(-r));
	if (plan->directory && chdir(plan->directory) == 0)
		return 0;
	return chdir("/") < 0 ? run_fail(why, -errno, "/: %s", strerror(errno)) : 0;
}

int run_space_enter(const struct run_plan *plan, const char *point, struct strbuf *why)
{
	int r = sys_unshare(CLONE_NEWNS | (plan->options->no_network ? CLONE_NEWNET : 0));

	if (r < 0)
		return run_fail(why, r, "no namespaces of its own for the command: %s",
				strerror(-r));
	if (plan->options->no_network)
		sys_loopback_up(); /* as a machine without a network has it; else not even that */
	r = run_space_mount_machine(plan, point, why);
	if (r == 0)
		r = run_space_mount(plan, point, why);
	return r < 0 ? r : run_space_go(plan, point, why);
}
