/* SPDX-License-Identifier: MIT */
/*
 * `veneer diff -u`: diff(1) is given both versions of each file through
 * descriptors.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "offline/view.h"
#include "sys/file.h"
#include "tools/diff.h"

#define DIFF_PROGRAM "diff"
#define DIFF_CHUNK (128U * 1024)
/* What is larger is not looked into: both versions are in memory. */
#define DIFF_SIZE_MAX (64U << 20)
/* What diff(1) looks at to tell text from other data. */
#define DIFF_PROBE 32768
/* Of diff(1): 0 the same, 1 different, 2 trouble. */
#define DIFF_TROUBLE 2

/* ---- versions ---- */

/* The content of @path in the union @core, in a memory file. The descriptor, or -errno. */
static int diff_extract_node(struct core *core, uint64_t node)
{
	_cleanup_close_ int fd = memfd_create("version", 0);
	_cleanup_free_ char *chunk = malloc(DIFF_CHUNK);
	uint64_t at = 0;
	int backing, r;

	if (fd < 0 || !chunk)
		return fd < 0 ? -errno : -ENOMEM;
	r = core_open(core, &view_call, node, O_RDONLY, &backing);
	if (r < 0)
		return r;
	for (ssize_t size = 1; size > 0 && r == 0; at += (uint64_t)size) {
		size = core_read(core, node, chunk, DIFF_CHUNK, at, true);
		if (size > 0 && sys_pwrite(fd, chunk, (size_t)size, (off_t)at) != size)
			size = -ENOSPC;
		if (size < 0)
			r = (int)size;
	}
	core_release(core, node);
	return r < 0 ? r : fd_take(&fd);
}

/* That of what is there before or now; without one an empty file. */
static int diff_extract(struct core *core, const char *path)
{
	struct core_entry entry = { 0 };
	int r = core && path ? view_lookup(core, path, &entry) : 0;
	int fd;

	if (r < 0)
		return r;
	if (entry.node && S_ISREG(entry.attr.stx_mode) && entry.attr.stx_size > DIFF_SIZE_MAX)
		fd = -EFBIG;
	else if (!entry.node || !S_ISREG(entry.attr.stx_mode))
		fd = memfd_create("nothing", 0);
	else
		fd = diff_extract_node(core, entry.node);
	if (entry.node && entry.node != CORE_ROOT)
		core_forget(core, entry.node, 1);
	return fd;
}

/* ---- the program ---- */

struct diff_pair {
	struct core *lowers, *whole;
	const struct diff_style *style;
	struct strbuf *why;
};

static int diff_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGPIPE ? -EPIPE : -EINTR;
	return WEXITSTATUS(status) < DIFF_TROUBLE ? 0 : -EIO;
}

/* "a/path", or /dev/null: what it is called in the output, control characters as '?'. */
static int diff_label(const struct statx *st, const char *prefix, const char *path,
		      struct strbuf *label)
{
	strbuf_append_string(label, st->stx_mask ? prefix : "/dev/null");
	for (const char *at = st->stx_mask ? path : ""; *at; at++)
		strbuf_append(label, iscntrl((unsigned char)*at) ? "?" : at, 1);
	return label->failed ? -ENOMEM : 0;
}

struct diff_labels {
	struct strbuf before, after;
};

static int diff_spawn(const struct diff_pair *pair, const struct diff_labels *labels, int before,
		      int after)
{
	char old_path[SYS_FD_PATH_MAX], new_path[SYS_FD_PATH_MAX];
	pid_t pid;
	char *argv[] = {
		(char *)DIFF_PROGRAM,
		(char *)"-u",
		(char *)(pair->style->has_colour ? "--color=always" : "--color=never"),
		(char *)"--label",
		labels->before.data,
		(char *)"--label",
		labels->after.data,
		(char *)sys_fd_path(before, old_path),
		(char *)sys_fd_path(after, new_path),
		NULL,
	};

	fflush(stdout);
	int r = -posix_spawnp(&pid, DIFF_PROGRAM, NULL, NULL, argv, environ);

	if (r < 0)
		strbuf_append_format(pair->why,
				     "cannot run " DIFF_PROGRAM "(1), of the package diffutils: %s",
				     strerror(-r));
	return r < 0 ? r : diff_wait(pid);
}

/* True of a version that is no text, or too large to be looked into. */
static bool diff_is_binary(int fd)
{
	_cleanup_free_ char *start = malloc(DIFF_PROBE);
	ssize_t size = fd < 0 || !start ? 0 : sys_pread(fd, start, DIFF_PROBE, 0);

	return fd == -EFBIG || (size > 0 && memchr(start, '\0', (size_t)size));
}

/* One of them is a regular file whose data is not that of the other. */
static bool diff_has_text(const struct change *change)
{
	bool was = change->before.stx_mask && S_ISREG(change->before.stx_mode);
	bool is = change->after.stx_mask && S_ISREG(change->after.stx_mode);

	return (was || is) && (change->what & CHANGE_CONTENT || was != is);
}

static int diff_print_pair(const struct diff_pair *pair, const struct change *change)
{
	const char *from = change->from ?: change->below ?: change->path;
	_cleanup_close_ int before =
		diff_extract(pair->lowers, change->before.stx_mask ? from : NULL);
	_cleanup_close_ int after =
		diff_extract(pair->whole, change->after.stx_mask ? change->path : NULL);
	struct diff_labels labels = { 0 };
	int r = diff_label(&change->before, "a", change->from ?: change->path, &labels.before);

	if (r == 0)
		r = diff_label(&change->after, "b", change->path, &labels.after);
	if (r == 0 && (diff_is_binary(before) || diff_is_binary(after)))
		printf("Binary files %s and %s differ\n", labels.before.data, labels.after.data);
	else if (r == 0)
		r = before < 0 ? before :
		    after < 0  ? after :
				 diff_spawn(pair, &labels, before, after);
	if (r < 0 && pair->why->length == 0)
		strbuf_append_format(pair->why, "%s: %s", change->path, strerror(-r));
	strbuf_deinit(&labels.before);
	strbuf_deinit(&labels.after);
	return r;
}

int diff_print_text(const struct target *target, const struct changes *changes,
		    const struct diff_style *style, struct strbuf *why)
{
	struct diff_pair pair = { .style = style, .why = why };
	size_t failed = 0;
	int r = view_open(target, VIEW_LOWERS, &pair.lowers, why);

	if (r == 0)
		r = view_open(target, VIEW_UNION, &pair.whole, why);
	for (size_t i = 0; r == 0 && i < changes->count; i++) {
		if (!diff_has_text(&changes->items[i])) {
			diff_print_change(style, &changes->items[i]);
			continue;
		}
		r = diff_print_pair(&pair, &changes->items[i]);
		/* Of one file alone. */
		if (r == -EIO || r == -EACCES || r == -ENOENT) {
			log_error("%s", why->failed ? strerror(-r) : why->data);
			strbuf_deinit(why);
			*why = STRBUF_INIT;
			failed++;
			r = 0;
		}
	}
	if (r == 0 && failed > 0) {
		strbuf_append_format(why, "%zu files could not be shown", failed);
		r = -EIO;
	}
	if (pair.lowers)
		core_free(pair.lowers);
	if (pair.whole)
		core_free(pair.whole);
	return r;
}
