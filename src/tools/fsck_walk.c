/* SPDX-License-Identifier: MIT */
#include "tools/fsck_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "format/redirect.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "tools/fsck_dir.h"
#include "tools/fsck_file.h"

#define FSCK_PIECE_SIZE (32 * 1024)
/* A record of getdents64(2) with a name of one byte. */
#define FSCK_RECORD_MIN 24

struct fsck_dir *fsck_walk_dir(struct fsck_walk *walk)
{
	return &walk->dirs[walk->count - 1];
}

struct fsck_dir *fsck_walk_parent(struct fsck_walk *walk)
{
	return walk->count > 1 ? &walk->dirs[walk->count - 2] : NULL;
}

/* The name of the @i-th directory on the way. */
static void fsck_walk_append_name(const struct fsck_walk *walk, size_t i, struct strbuf *path)
{
	size_t start = walk->dirs[i].path_length;
	size_t end = i + 1 < walk->count ? walk->dirs[i + 1].path_length : walk->path.length;

	strbuf_append(path, walk->path.data + start, end - start);
}

void fsck_walk_lower_path(const struct fsck_walk *walk, struct strbuf *path)
{
	size_t from = walk->count - 1;

	while (from > 0 &&
	       !(walk->dirs[from].redirect && redirect_is_absolute(walk->dirs[from].redirect)))
		from--;
	for (size_t i = MAX(from, (size_t)1); i < walk->count; i++) {
		const char *redirect = walk->dirs[i].redirect;

		if (!redirect) {
			fsck_walk_append_name(walk, i, path);
			continue;
		}
		if (!redirect_is_absolute(redirect))
			strbuf_append_string(path, "/");
		strbuf_append_string(path, redirect);
	}
}

static void fsck_walk_cut_path(struct fsck_walk *walk, size_t length)
{
	walk->path.length = length;
	walk->path.data[length] = '\0';
}

static int fsck_walk_add_name(struct fsck_walk *walk, const char *name)
{
	strbuf_append_string(&walk->path, "/");
	strbuf_append_string(&walk->path, name);
	return walk->path.failed ? -ENOMEM : 0;
}

/* ---- one piece of a directory ---- */

/* Where the entries of a piece lie in its buffer. */
struct fsck_piece {
	const char *names[FSCK_PIECE_SIZE / FSCK_RECORD_MIN];
	size_t count;
	char *pending; /* grows by the subdirectories' names */
	size_t pending_size;
};

static int fsck_piece_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int fsck_piece_add_dir(struct fsck_piece *piece, const char *name)
{
	size_t size = strlen(name) + 1;
	char *more = realloc(piece->pending, piece->pending_size + size + 1);

	if (!more)
		return -ENOMEM;
	memcpy(more + piece->pending_size, name, size);
	piece->pending = more;
	piece->pending_size += size;
	more[piece->pending_size] = '\0';
	return 0;
}

static int fsck_walk_check_entry(struct fsck_walk *walk, struct fsck_piece *piece, const char *name)
{
	size_t length = walk->path.length;
	struct fsck_object object = { .fsck = walk->fsck, .dirfd = walk->fd, .name = name };
	struct statx st;
	int r = sys_stat(walk->fd, name, &st);

	if (r == 0 && S_ISDIR(st.stx_mode))
		return fsck_piece_add_dir(piece, name);
	if (r == -ENOENT)
		return 0;
	if (fsck_walk_add_name(walk, name) < 0)
		return -ENOMEM;
	object.path = walk->path.data;
	if (r == 0)
		r = fsck_object_read(&object);
	if (r < 0)
		fsck_report_fail(&walk->fsck->report, walk->path.data, r);
	else
		fsck_file_check(walk, &object);
	walk->fsck->report.objects++;
	fsck_object_deinit(&object);
	fsck_walk_cut_path(walk, length);
	return 0;
}

/* Notes where the entries are; the offset behind the last one is where to go on. */
static int fsck_piece_fill(struct fsck_piece *piece, const char *buf, size_t size, uint64_t *offset)
{
	struct sys_dirent entry;
	size_t position = 0;
	int r;

	while ((r = sys_dirent_next(buf, size, &position, &entry)) > 0) {
		*offset = entry.offset;
		if (!strcmp(entry.name, ".") || !strcmp(entry.name, ".."))
			continue;
		if (piece->count == ARRAY_SIZE(piece->names))
			return -EIO;
		piece->names[piece->count++] = entry.name;
	}
	qsort(piece->names, piece->count, sizeof(*piece->names), fsck_piece_compare);
	return r;
}

/* Checks what the next piece has and notes its subdirectories. 1, 0 at the end, or -errno. */
static int fsck_walk_read(struct fsck_walk *walk)
{
	_cleanup_free_ char *buf = malloc(FSCK_PIECE_SIZE);
	_cleanup_free_ struct fsck_piece *piece = calloc(1, sizeof(*piece));
	off_t at = sys_seek(walk->fd, (off_t)fsck_walk_dir(walk)->offset, SEEK_SET);
	int size = !buf || !piece ? -ENOMEM :
		   at < 0	  ? (int)at :
				    sys_getdents(walk->fd, buf, FSCK_PIECE_SIZE);
	int r = size < 0 ? size : 0;

	if (size <= 0)
		return r;
	r = fsck_piece_fill(piece, buf, (size_t)size, &fsck_walk_dir(walk)->offset);
	for (size_t i = 0; r == 0 && i < piece->count; i++)
		r = fsck_walk_check_entry(walk, piece, piece->names[i]);
	fsck_walk_dir(walk)->pending = piece->pending;
	fsck_walk_dir(walk)->next = piece->pending;
	return r < 0 ? r : 1;
}

/* ---- in and out ---- */

static void fsck_dir_deinit(struct fsck *fsck, struct fsck_dir *dir)
{
	fsck_below_put(fsck, &dir->below);
	free(dir->pending);
	free(dir->redirect);
}

static int fsck_walk_grow(struct fsck_walk *walk)
{
	size_t size = walk->size ? 2 * walk->size : 64;
	struct fsck_dir *more;

	if (walk->count < walk->size)
		return 0;
	more = reallocarray(walk->dirs, size, sizeof(*more));
	if (!more)
		return -ENOMEM;
	walk->dirs = more;
	walk->size = size;
	return 0;
}

/* The directory open as @fd, which is consumed, becomes the one at hand, its name being in the path. */
static int fsck_walk_push(struct fsck_walk *walk, int fd, const struct statx *st,
			  size_t path_length)
{
	int r = fsck_walk_grow(walk);

	if (r < 0) {
		close(fd);
		return r;
	}
	walk->dirs[walk->count++] = (struct fsck_dir){
		.dev = sys_stat_dev(st),
		.ino = st->stx_ino,
		.path_length = path_length,
		.times = { { st->stx_atime.tv_sec, st->stx_atime.tv_nsec },
			   { st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec } },
	};
	if (walk->fd >= 0)
		close(walk->fd);
	walk->fd = fd;
	walk->fsck->report.objects++;
	return fsck_dir_enter(walk);
}

/* Opens a subdirectory to be read; what is mounted there is not of the layer. */
static int fsck_walk_open(struct fsck_walk *walk, const char *name, struct statx *st)
{
	_cleanup_close_ int fd = sys_open(walk->fd, name, O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : sys_stat(fd, "", st);

	if (r < 0)
		return r;
	if (sys_stat_dev(st) != walk->fsck->dev || sys_stat_is_mount_root(st))
		return -EXDEV;
	sys_keep_atime(fd);
	return fd_take(&fd);
}

static int fsck_walk_enter(struct fsck_walk *walk, const char *name)
{
	size_t length = walk->path.length;
	struct statx st;

	if (fsck_walk_add_name(walk, name) < 0)
		return -ENOMEM;
	int fd = fsck_walk_open(walk, name, &st);

	if (fd >= 0)
		return fsck_walk_push(walk, fd, &st, length);
	if (fd != -ENOENT)
		fsck_report_fail(&walk->fsck->report, walk->path.data, fd);
	fsck_walk_cut_path(walk, length);
	return 0;
}

/* Back to the directory above, if it is still that one. */
static int fsck_walk_go_up(struct fsck_walk *walk)
{
	const struct fsck_dir *up = fsck_walk_parent(walk);
	_cleanup_close_ int fd = sys_open_parent(walk->fd);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	if (st.stx_ino != up->ino || sys_stat_dev(&st) != up->dev)
		return -ESTALE;
	sys_keep_atime(fd);
	close(walk->fd);
	walk->fd = fd_take(&fd);
	return 0;
}

static int fsck_walk_leave(struct fsck_walk *walk)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);
	int r = 0;

	fsck_dir_leave(walk);
	if (dir->is_touched)
		sys_utimens(walk->fd, dir->times);
	if (walk->count > 1)
		r = fsck_walk_go_up(walk);
	fsck_walk_cut_path(walk, dir->path_length);
	fsck_dir_deinit(walk->fsck, dir);
	walk->count--;
	return r;
}

static int fsck_walk_step(struct fsck_walk *walk)
{
	struct fsck_dir *dir = fsck_walk_dir(walk);

	if (dir->next && *dir->next) {
		const char *name = dir->next;

		dir->next += strlen(name) + 1;
		return fsck_walk_enter(walk, name);
	}
	free(dir->pending);
	dir->pending = dir->next = NULL;
	int r = fsck_walk_read(walk);

	return r == 0 ? fsck_walk_leave(walk) : MIN(r, 0);
}

int fsck_walk_upper(struct fsck *fsck)
{
	struct fsck_walk walk = { .fsck = fsck, .fd = -1 };
	int fd = sys_reopen(fsck->upper_fd, O_RDONLY | O_DIRECTORY);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	strbuf_append_string(&walk.path, fsck->target.upper);
	if (walk.path.failed)
		r = -ENOMEM;
	if (r == 0)
		r = fsck_walk_push(&walk, fd, &st, walk.path.length);
	else if (fd >= 0)
		close(fd);
	while (r == 0 && walk.count > 0)
		r = fsck_walk_step(&walk);
	while (walk.count > 0)
		fsck_dir_deinit(fsck, &walk.dirs[--walk.count]);
	if (walk.fd >= 0)
		close(walk.fd);
	free(walk.dirs);
	strbuf_deinit(&walk.path);
	return r;
}
