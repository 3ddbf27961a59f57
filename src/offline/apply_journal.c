/* SPDX-License-Identifier: MIT */
/*
 * The journal: `work/incompat/veneer-commit` in the work directory.
 *
 * Whoever knows the format looks there before mounting, the kernel too, and
 * refuses a feature it does not know. In it are the plan and, as empty files,
 * the stages of the run that are complete:
 *
 *	plan		strings, each with a NUL: first what and which version it is;
 *			it appears in one step, and nothing is changed before
 *	staged		all that moves lies under its staging name
 *	merged		nothing is needed any more of what lies under staging names
 *	applied		the destination is complete; what is left is to empty the upper
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "offline/apply_internal.h"
#include "offline/mutate.h"
#include "sys/dir.h"
#include "sys/file.h"

#define JOURNAL_MAGIC "veneer-commit"
#define JOURNAL_VERSION "2"
#define JOURNAL_PLAN "plan"
#define JOURNAL_NEW "plan.new"
#define JOURNAL_END "end"

/* ---- places ---- */

int apply_open_work(int dirfd, const char *name, bool make)
{
	int fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	/* As root gave it to `work`, or another user of the same namespace. */
	if (fd == -EACCES) {
		_cleanup_close_ int path = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);

		if (path >= 0 && mutate_chmod(path, 0700) == 0)
			fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd != -ENOENT || !make)
		return fd;
	int r = mutate_mkdir(dirfd, name, 0700);

	return r < 0 ? r : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
}

static int apply_journal_is_not_empty(const struct sys_dirent *entry, void *context)
{
	return 1;
}

/* A run that ended left the directory empty, and its time is that of the end. */
static int apply_journal_note_last(struct apply *apply, int incompat)
{
	int r = sys_dir_for_each(incompat, apply_journal_is_not_empty, NULL);
	struct statx st;

	if (r == 0)
		r = sys_stat(incompat, "", &st);
	else
		return r < 0 ? r : -ENOENT;
	if (r == 0 && (st.stx_mtime.tv_sec > apply->begun.tv_sec ||
		       (st.stx_mtime.tv_sec == apply->begun.tv_sec &&
			st.stx_mtime.tv_nsec > apply->begun.tv_nsec))) {
		apply->begun.tv_sec = st.stx_mtime.tv_sec;
		apply->begun.tv_nsec = st.stx_mtime.tv_nsec;
	}
	return r < 0 ? r : -ENOENT;
}

/* -ENOENT: it is not there. */
static int apply_journal_open(struct apply *apply, bool make)
{
	_cleanup_close_ int work = apply_open_work(apply->work_fd, "work", make);

	if (work < 0)
		return work;
	_cleanup_close_ int incompat = apply_open_work(work, "incompat", make);

	if (incompat < 0)
		return incompat;
	apply->journal_fd = apply_open_work(incompat, JOURNAL_MAGIC, make);
	return apply->journal_fd != -ENOENT ? MIN(apply->journal_fd, 0) :
					      apply_journal_note_last(apply, incompat);
}

static int apply_journal_has(const struct apply *apply, const char *name, bool *has)
{
	struct statx st;
	int r = sys_stat(apply->journal_fd, name, &st);

	*has = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* ---- writing ---- */

/* NULL is written as one string less, which a digit before it tells. */
static void apply_journal_put(struct strbuf *buf, const char *text)
{
	strbuf_append(buf, text ? "1" : "0", 2);
	if (text)
		strbuf_append(buf, text, strlen(text) + 1);
}

static void apply_journal_put_number(struct strbuf *buf, uint64_t number)
{
	char text[24];

	strbuf_append(buf, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, number) + 1);
}

/* Which layers they are that the result depends on. */
static int apply_journal_put_lowers(struct apply *apply, struct strbuf *buf)
{
	const struct lowerdir_list *lowers = &apply->config->target->lowers;
	size_t count = apply->stays_layer ? lowers->count : 0;

	apply_journal_put_number(buf, count);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *identity = NULL;
		int r = apply_identify_path(lowers->items[i].path, &identity);

		if (r < 0)
			return apply_fail_path(apply, r, "look at", lowers->items[i].path);
		apply_journal_put(buf, lowers->items[i].path);
		apply_journal_put(buf, identity);
	}
	return 0;
}

static void apply_journal_put_plan(const struct apply *apply, struct strbuf *buf)
{
	apply_journal_put_number(buf, apply->dir_count);
	for (size_t i = 0; i < apply->dir_count; i++) {
		const struct apply_dir *dir = &apply->dirs[i];

		apply_journal_put(buf, dir->path);
		apply_journal_put(buf, dir->place.source);
		apply_journal_put(buf, dir->place.below);
		apply_journal_put_number(buf, dir->parent);
		apply_journal_put_number(buf, dir->move);
		apply_journal_put(buf, dir->identity);
	}
	apply_journal_put_number(buf, apply->move_count);
	for (size_t i = 0; i < apply->move_count; i++) {
		const struct apply_move *move = &apply->moves[i];

		apply_journal_put(buf, move->source);
		apply_journal_put(buf, move->stage);
		apply_journal_put_number(buf, move->ino);
		apply_journal_put_number(buf, move->is_dir);
		apply_journal_put_number(buf, move->is_copied);
		apply_journal_put_number(buf, move->is_linked);
	}
	apply_journal_put_number(buf, apply->meta_count);
	for (size_t i = 0; i < apply->meta_count; i++) {
		const struct apply_meta *meta = &apply->metas[i];

		apply_journal_put(buf, meta->path);
		apply_journal_put_number(buf, meta->kind);
		apply_journal_put_number(buf, meta->move);
		apply_journal_put(buf, meta->redirect);
	}
	apply_journal_put_number(buf, apply->extra_count);
	for (size_t i = 0; i < apply->extra_count; i++) {
		const struct apply_extra *extra = &apply->extras[i];

		apply_journal_put(buf, extra->path);
		apply_journal_put(buf, extra->index_name);
		apply_journal_put_number(buf, (uint64_t)extra->parent_mtime.tv_sec);
		apply_journal_put_number(buf, (uint64_t)extra->parent_mtime.tv_nsec);
	}
}

static int apply_journal_write_file(int dirfd, const struct strbuf *buf)
{
	int r = mutate_unlink(dirfd, JOURNAL_NEW);
	_cleanup_close_ int fd = -1;

	if (r < 0 && r != -ENOENT)
		return r;
	fd = mutate_create(dirfd, JOURNAL_NEW, O_WRONLY, 0600);
	if (fd < 0)
		return fd;
	ssize_t written = mutate_write(fd, buf->data, buf->length, 0);

	if (written < 0 || (size_t)written < buf->length)
		return written < 0 ? (int)written : -ENOSPC;
	r = mutate_fsync(fd);
	if (r == 0)
		r = mutate_rename(dirfd, JOURNAL_NEW, dirfd, JOURNAL_PLAN, 0);
	/* With the directories that lead here. */
	return r < 0 ? r : mutate_syncfs(fd);
}

int apply_journal_write(struct apply *apply)
{
	_cleanup_strbuf_ struct strbuf buf = STRBUF_INIT;
	_cleanup_free_ char *identity = NULL;
	int r = apply->journal_fd >= 0 ? 0 : apply_journal_open(apply, true);

	if (r == 0)
		r = apply_identify(apply->dest_fd, &identity);
	apply_journal_put(&buf, JOURNAL_MAGIC);
	apply_journal_put(&buf, JOURNAL_VERSION);
	apply_journal_put(&buf, apply->id);
	apply_journal_put_number(&buf, (uint64_t)apply->planned.tv_sec);
	apply_journal_put_number(&buf, (uint64_t)apply->planned.tv_nsec);
	apply_journal_put(&buf, apply->dest_real);
	apply_journal_put(&buf, identity);
	apply_journal_put_number(&buf, apply->stays_layer);
	if (r == 0)
		r = apply_journal_put_lowers(apply, &buf);
	apply_journal_put_plan(apply, &buf);
	apply_journal_put(&buf, JOURNAL_END);
	if (r == 0)
		r = buf.failed ? -ENOMEM : apply_journal_write_file(apply->journal_fd, &buf);
	return r < 0 ? apply_fail_path(apply, r, "write the journal in",
				       apply->config->target->work) :
		       0;
}

int apply_journal_mark(struct apply *apply, const char *name)
{
	_cleanup_close_ int fd = mutate_create(apply->journal_fd, name, O_WRONLY, 0600);

	if (fd < 0 && fd != -EEXIST)
		return apply_fail_path(apply, fd, "write the journal in",
				       apply->config->target->work);
	return mutate_fsync(apply->journal_fd);
}

static int apply_journal_remove_name(int dirfd, const char *name)
{
	int r = mutate_unlink(dirfd, name);

	return r == -ENOENT ? 0 : r;
}

int apply_journal_remove(struct apply *apply)
{
	int fd = apply->journal_fd;
	_cleanup_close_ int incompat = -1;
	int r;

	if (fd < 0)
		return 0;
	/* Without the plan the rest means nothing, but it still keeps others out. */
	r = apply_journal_remove_name(fd, JOURNAL_PLAN);
	if (r == 0)
		r = mutate_fsync(fd);
	if (r == 0)
		r = apply_journal_remove_name(fd, JOURNAL_NEW);
	if (r == 0)
		r = apply_journal_remove_name(fd, APPLY_MARK_STAGED);
	if (r == 0)
		r = apply_journal_remove_name(fd, APPLY_MARK_MERGED);
	if (r == 0)
		r = apply_journal_remove_name(fd, APPLY_MARK_APPLIED);
	if (r == 0)
		incompat = apply_open_at(apply->work_fd, "work/incompat", O_RDONLY | O_DIRECTORY);
	if (r == 0)
		r = incompat < 0 ? incompat : mutate_rmdir(incompat, JOURNAL_MAGIC);
	if (r == 0)
		r = mutate_fsync(incompat);
	if (r < 0)
		return apply_fail_path(apply, r, "remove the journal in",
				       apply->config->target->work);
	close(apply->journal_fd);
	apply->journal_fd = -1;
	return 0;
}

/* ---- reading ---- */

struct apply_reader {
	const char *at, *end;
	bool failed; /* damaged, or out of memory: nothing more is read */
};

/* The next string, in the buffer. */
static const char *apply_journal_next(struct apply_reader *reader)
{
	const char *text = reader->at;
	const char *nul = reader->failed ? NULL : memchr(text, '\0', (size_t)(reader->end - text));

	if (!nul) {
		reader->failed = true;
		return "";
	}
	reader->at = nul + 1;
	return text;
}

static uint64_t apply_journal_get_number(struct apply_reader *reader)
{
	return strtoull(apply_journal_next(reader), NULL, 10);
}

/* The caller's; may be NULL. */
static char *apply_journal_get(struct apply_reader *reader)
{
	char *text;

	if (apply_journal_next(reader)[0] != '1')
		return NULL;
	text = strdup(apply_journal_next(reader));
	reader->failed |= !text;
	return text;
}

/* Room for what is announced, which is no more than there are bytes. */
static void *apply_journal_get_array(struct apply_reader *reader, size_t size, size_t *count)
{
	uint64_t announced = apply_journal_get_number(reader);
	void *array = NULL;

	if (!reader->failed && announced <= (uint64_t)(reader->end - reader->at))
		array = calloc(announced + 1, size);
	reader->failed |= !array;
	*count = array ? announced : 0;
	return array;
}

static void apply_journal_get_plan(struct apply *apply, struct apply_reader *reader)
{
	apply->dirs = apply_journal_get_array(reader, sizeof(*apply->dirs), &apply->dir_count);
	for (size_t i = 0; i < apply->dir_count; i++) {
		struct apply_dir *dir = &apply->dirs[i];

		dir->path = apply_journal_get(reader);
		dir->place.source = apply_journal_get(reader);
		dir->place.below = apply_journal_get(reader);
		dir->parent = apply_journal_get_number(reader);
		dir->move = apply_journal_get_number(reader);
		dir->identity = apply_journal_get(reader);
		reader->failed |= !dir->path || dir->parent > i;
	}
	apply->moves = apply_journal_get_array(reader, sizeof(*apply->moves), &apply->move_count);
	for (size_t i = 0; i < apply->move_count; i++) {
		struct apply_move *move = &apply->moves[i];

		move->source = apply_journal_get(reader);
		move->stage = apply_journal_get(reader);
		move->ino = apply_journal_get_number(reader);
		move->is_dir = apply_journal_get_number(reader) != 0;
		move->is_copied = apply_journal_get_number(reader) != 0;
		move->is_linked = apply_journal_get_number(reader) != 0;
		reader->failed |= !move->source || !move->stage;
	}
	apply->metas = apply_journal_get_array(reader, sizeof(*apply->metas), &apply->meta_count);
	for (size_t i = 0; i < apply->meta_count; i++) {
		struct apply_meta *meta = &apply->metas[i];

		meta->path = apply_journal_get(reader);
		meta->kind = (enum apply_meta_kind)apply_journal_get_number(reader);
		meta->move = apply_journal_get_number(reader);
		meta->redirect = apply_journal_get(reader);
		reader->failed |= !meta->path || meta->kind > APPLY_META_DEEP;
	}
	apply->extras =
		apply_journal_get_array(reader, sizeof(*apply->extras), &apply->extra_count);
	for (size_t i = 0; i < apply->extra_count; i++) {
		struct apply_extra *extra = &apply->extras[i];

		extra->path = apply_journal_get(reader);
		extra->index_name = apply_journal_get(reader);
		extra->parent_mtime.tv_sec = (time_t)apply_journal_get_number(reader);
		extra->parent_mtime.tv_nsec = (long)apply_journal_get_number(reader);
		reader->failed |= !extra->path || !extra->index_name;
	}
}

static bool apply_journal_moves_exist(const struct apply *apply)
{
	for (size_t i = 0; i < apply->dir_count; i++)
		if (apply->dirs[i].move != APPLY_NONE && apply->dirs[i].move >= apply->move_count)
			return false;
	for (size_t i = 0; i < apply->meta_count; i++)
		if ((apply->metas[i].kind == APPLY_META_MOVED) !=
		    (apply->metas[i].move < apply->move_count))
			return false;
	return apply->dir_count > 0;
}

static int apply_journal_damaged(struct apply *apply)
{
	return apply_fail(apply, -EINVAL,
			  "the journal of an unfinished commit, %s/work/incompat/" JOURNAL_MAGIC
			  ", is damaged, or of a newer veneer",
			  apply->config->target->work);
}

/* The same directory: not the empty one that a file system is to be mounted on. */
static int apply_journal_check_dest(struct apply *apply, const char *dest, const char *identity)
{
	_cleanup_free_ char *is = NULL;

	if (strcmp(dest, apply->dest_real) != 0)
		return apply_fail(apply, -EINVAL,
				  "an unfinished commit merges into %s: finish that first, by "
				  "--to %s or the --lower that it was begun with",
				  dest, dest);
	int r = apply_identify(apply->dest_fd, &is);

	if (r < 0 || strcmp(is, identity) == 0)
		return r;
	return apply_fail(apply, -ESTALE,
			  "an unfinished commit merges into %s, which was %s, but is now %s: mount "
			  "the file system that was there",
			  dest, identity, is);
}

/* The lower @index, which was @path and @identity. */
static int apply_journal_check_lower(struct apply *apply, size_t index, const char *path,
				     const char *identity)
{
	const struct lowerdir_list *lowers = &apply->config->target->lowers;
	_cleanup_free_ char *is = NULL;
	int r = index < lowers->count ? apply_identify_path(lowers->items[index].path, &is) : 0;

	if (r < 0)
		return apply_fail_path(apply, r, "look at", lowers->items[index].path);
	if (is && strcmp(is, identity) == 0)
		return 0;
	return apply_fail(apply, -EINVAL,
			  "an unfinished commit was begun with %s (%s) as layer %zu below, and not "
			  "%s (%s): finish it with the --lower that it was begun with",
			  path, identity, index + 1, is ? lowers->items[index].path : "none",
			  is ? is : "nothing");
}

static int apply_journal_get_lowers(struct apply *apply, struct apply_reader *reader)
{
	uint64_t count = apply_journal_get_number(reader);
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count && !reader->failed; i++) {
		_cleanup_free_ char *path = apply_journal_get(reader);
		_cleanup_free_ char *identity = apply_journal_get(reader);

		if (!path || !identity)
			return apply_journal_damaged(apply);
		r = apply_journal_check_lower(apply, i, path, identity);
	}
	if (r == 0 && count > 0 && count != apply->config->target->lowers.count)
		r = apply_fail(apply, -EINVAL,
			       "an unfinished commit was begun with %zu layers below, and not with "
			       "%zu: finish it with the --lower that it was begun with",
			       (size_t)count, (size_t)apply->config->target->lowers.count);
	if (r == 0 && apply->stays_layer && count < 2)
		r = apply_journal_damaged(apply);
	return r;
}

static int apply_journal_parse(struct apply *apply, struct apply_reader *reader)
{
	_cleanup_free_ char *magic = apply_journal_get(reader);
	_cleanup_free_ char *version = apply_journal_get(reader);
	_cleanup_free_ char *id = apply_journal_get(reader);

	apply->planned.tv_sec = (time_t)apply_journal_get_number(reader);
	apply->planned.tv_nsec = (long)apply_journal_get_number(reader);
	_cleanup_free_ char *dest = apply_journal_get(reader);
	_cleanup_free_ char *identity = apply_journal_get(reader);

	if (!magic || !version || !id || !dest || !identity || strcmp(magic, JOURNAL_MAGIC) != 0 ||
	    strcmp(version, JOURNAL_VERSION) != 0 || strlen(id) != APPLY_ID_MAX)
		return apply_journal_damaged(apply);
	int r = apply_journal_check_dest(apply, dest, identity);

	if (r == 0)
		r = apply_name_run(apply, id);
	apply->stays_layer = apply_journal_get_number(reader) != 0;
	if (r == 0)
		r = apply_journal_get_lowers(apply, reader);
	if (r < 0)
		return r;
	apply_journal_get_plan(apply, reader);
	_cleanup_free_ char *end = apply_journal_get(reader);

	if (reader->failed || !end || strcmp(end, JOURNAL_END) != 0 ||
	    !apply_journal_moves_exist(apply))
		return apply_journal_damaged(apply);
	return 0;
}

static int apply_journal_read(struct apply *apply)
{
	_cleanup_close_ int fd = sys_open(apply->journal_fd, JOURNAL_PLAN, O_RDONLY, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);
	_cleanup_free_ char *text = r < 0 ? NULL : malloc(st.stx_size + 1);

	if (r < 0 || !text)
		return r < 0 ? r : -ENOMEM;
	ssize_t size = sys_pread(fd, text, st.stx_size, 0);

	if (size < 0)
		return (int)size;
	struct apply_reader reader = { .at = text, .end = text + size };

	return apply_journal_parse(apply, &reader);
}

int apply_journal_find(struct apply *apply)
{
	int r = apply_journal_open(apply, false);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = apply_journal_has(apply, JOURNAL_PLAN, &apply->is_unfinished);
	/* Without a plan: one that had changed nothing yet, or had only itself left to remove. */
	if (r < 0 || !apply->is_unfinished)
		return r;
	r = apply_journal_has(apply, APPLY_MARK_STAGED, &apply->is_staged);
	if (r == 0)
		r = apply_journal_has(apply, APPLY_MARK_MERGED, &apply->is_merged);
	if (r == 0)
		r = apply_journal_has(apply, APPLY_MARK_APPLIED, &apply->is_applied);
	if (r == 0)
		r = apply_journal_read(apply);
	return r < 0 ? r : apply_build_tables(apply);
}
