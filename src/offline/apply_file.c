/* SPDX-License-Identifier: MIT */
/*
 * Bringing a file of the upper to its place in the destination. Each way is
 * done again without harm: what is there already is found, or made anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "offline/apply_internal.h"
#include "offline/mutate.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/xattr.h"

static bool apply_is_same(const struct statx *a, const struct statx *b)
{
	return a->stx_ino == b->stx_ino && sys_stat_dev(a) == sys_stat_dev(b);
}

/*
 * Opens the file @fd (O_PATH) for its data. One that its owner has kept himself out of lets him in for
 * the moment; a run that is killed in between leaves it with that.
 */
static int apply_open_data(int fd, int flags)
{
	int data = sys_reopen(fd, flags);
	struct statx st;

	if (data != -EACCES)
		return data;
	int r = sys_stat(fd, "", &st);

	if (r == 0)
		r = mutate_chmod(fd, (st.stx_mode & 07777) | 0600);
	if (r < 0)
		return data;
	data = sys_reopen(fd, flags);
	r = mutate_chmod(fd, st.stx_mode & 07777);
	if (r < 0 && data >= 0)
		close(data);
	return r < 0 ? r : data;
}

/* ---- copying ---- */

static void apply_count_data(void *context, uint64_t done)
{
	struct apply *apply = context;

	/* Told from the start of each file. */
	if (apply->config->progress && done > apply->copied)
		apply->config->progress(apply->config->context, done - apply->copied);
	apply->copied = done;
}

static int apply_copy_data(const struct apply_job *job, int data, int to)
{
	const struct sys_copy copy = {
		.from = data,
		.to = to,
		.size = job->up.st.stx_size,
		.progress = apply_count_data,
		.context = job->apply,
	};

	job->apply->copied = 0;
	return mutate_copy_data(&copy);
}

static int apply_make_symlink(const struct apply_job *job)
{
	char target[PATH_MAX];
	ssize_t size = sys_readlink(job->fd, "", target, sizeof(target) - 1);

	if (size < 0)
		return (int)size;
	target[size] = '\0';
	return mutate_symlink(target, job->dirfd, job->apply->temp);
}

/* A regular file with the data of @data (open for reading), or without any if that is -1. */
static int apply_make_regular(const struct apply_job *job, int data)
{
	int fd = mutate_create(job->dirfd, job->apply->temp, O_RDWR, 0600);

	if (fd < 0)
		return fd;
	int r = data < 0 ? mutate_truncate(fd, job->up.st.stx_size) :
			   apply_copy_data(job, data, fd);

	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int apply_make(const struct apply_job *job, int data)
{
	const struct statx *st = &job->up.st;
	int r;

	if (S_ISREG(st->stx_mode))
		return apply_make_regular(job, data);
	if (S_ISLNK(st->stx_mode))
		r = apply_make_symlink(job);
	else
		r = mutate_mknod(job->dirfd, job->apply->temp, (st->stx_mode & S_IFMT) | 0600,
				 sys_stat_rdev(st));
	return r < 0 ? r : sys_open(job->dirfd, job->apply->temp, O_PATH, 0);
}

static int apply_dress(const struct apply_job *job, int fd)
{
	const struct apply_attr attr = {
		.apply = job->apply, .from = job->fd, .to = fd, .st = &job->up.st, .is_final = true
	};

	return apply_attr_copy(&attr);
}

/* The marks of a file that stays without data, in a layer with more below. */
static int apply_mark_deep(const struct apply_job *job, const struct apply_meta *meta, int fd)
{
	const char *key = xattr_private_name(job->apply->ns, XATTR_METACOPY);
	_cleanup_free_ char *value = NULL;
	ssize_t size = sys_getxattr_alloc(job->fd, key, &value);
	int r = size < 0 ? (int)size : mutate_setxattr(fd, key, value, (size_t)size);

	if (r < 0 || !meta->redirect)
		return r;
	return mutate_setxattr(fd, xattr_private_name(job->apply->ns, XATTR_REDIRECT),
			       meta->redirect, strlen(meta->redirect));
}

/* A new file with the attributes of the upper's, and the data of @data. */
static int apply_copy_file(const struct apply_job *job, int data, const struct apply_meta *deep)
{
	_cleanup_close_ int fd = apply_make(job, data);
	int r = fd < 0 ? fd : apply_dress(job, fd);

	if (r == 0 && deep)
		r = apply_mark_deep(job, deep, fd);
	if (r == 0)
		r = apply_attr_times(fd, &job->up.st);
	/* On the disk before it takes the place of the old one. */
	if (r == 0 && S_ISREG(job->up.st.stx_mode))
		r = mutate_fsync(fd);
	return r < 0 ? r :
		       apply_publish(job->apply, job->dirfd, job->apply->temp, job->dirfd,
				     job->name);
}

static int apply_copy_own(const struct apply_job *job)
{
	_cleanup_close_ int data = -1;

	if (S_ISREG(job->up.st.stx_mode)) {
		data = apply_open_data(job->fd, O_RDONLY);
		if (data < 0)
			return data;
	}
	return apply_copy_file(job, data, NULL);
}

/* ---- linking: the upper's own file becomes the destination's ---- */

/* Errors by which a file system, or the way to it, says that it has no such links. */
static bool apply_is_no_link(int r)
{
	return r == -EXDEV || r == -EPERM || r == -EMLINK || r == -EOPNOTSUPP || r == -ENOSYS;
}

static int apply_link_own(const struct apply_job *job)
{
	struct statx st;
	int r = sys_stat(job->dirfd, job->name, &st);

	if (r == 0 && apply_is_same(&st, &job->up.st))
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	r = apply_attr_strip(job->apply, job->fd);
	return r < 0 ? r :
		       apply_publish_link(job->apply, job->fromfd, job->from, job->dirfd,
					  job->name);
}

/* 1: it can be, as far as attributes go. */
static int apply_can_link(const struct apply_job *job)
{
	struct statx st;
	int r = sys_stat(job->dirfd, "", &st);

	if (r < 0 || sys_stat_dev(&st) != job->apply->upper_dev)
		return r;
	/* Protecting flags are the last that a file gets; until then it has to say so. */
	if (apply_attr_protection(job->apply, job->fd) || job->up.owner.marks)
		return 0;
	if (job->apply->stays_layer)
		return 1;
	r = apply_attr_is_escaped(job->apply, job->fd);
	return r < 0 ? r : !r;
}

static int apply_bring_own(const struct apply_job *job)
{
	int r = apply_can_link(job);

	if (r > 0) {
		r = apply_link_own(job);
		if (!apply_is_no_link(r))
			return r;
		r = 0;
	}
	return r < 0 ? r : apply_copy_own(job);
}

/* ---- files whose data is below ---- */

/* Makes the file @fd, which has the data, what the upper says it is. */
static int apply_dress_data(const struct apply_job *job, int fd)
{
	struct statx st;
	int r;

	apply_attr_unprotect(fd);
	r = sys_stat(fd, "", &st);
	if (r == 0 && st.stx_size != job->up.st.stx_size) {
		_cleanup_close_ int open = apply_open_data(fd, O_WRONLY);

		r = open < 0 ? open : mutate_truncate(open, job->up.st.stx_size);
	}
	if (r == 0)
		r = apply_dress(job, fd);
	return r < 0 ? r : apply_attr_times(fd, &job->up.st);
}

/* The data is where it belongs. */
static int apply_meta_here(const struct apply_job *job)
{
	_cleanup_close_ int fd = sys_open(job->dirfd, job->name, O_PATH, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r < 0)
		return r;
	/* Other names of it are other files to the union, and stay as they are. */
	if (st.stx_nlink == 1 || apply_is_indexed(job->apply, &job->up.st))
		return apply_dress_data(job, fd);
	_cleanup_close_ int data = apply_open_data(fd, O_RDONLY);

	return data < 0 ? data : apply_copy_file(job, data, NULL);
}

/* The file has been brought already: proven, or known of a copy, which is another file. */
static int apply_meta_has_come(const struct apply_job *job, const struct apply_move *move)
{
	struct apply *apply = job->apply;

	if (move->is_copied && apply->is_merged)
		return apply_meta_here(job);
	int r = apply_prove_moved(apply, move, job->dirfd, job->name);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = sys_open(job->dirfd, job->name, O_PATH, 0);

	return fd < 0 ? fd : apply_dress_data(job, fd);
}

static int apply_meta_moved(const struct apply_job *job, const struct apply_move *move)
{
	const char *stage_name;
	_cleanup_close_ int stage_dir =
		apply_open_parent(job->apply->dest_fd, move->stage, &stage_name);
	_cleanup_close_ int fd = stage_dir < 0 ? stage_dir :
						 sys_open(stage_dir, stage_name, O_PATH, 0);
	struct statx st;
	int r = fd < 0 ? fd : sys_stat(fd, "", &st);

	if (r == -ENOENT)
		return apply_meta_has_come(job, move);
	if (r < 0)
		return r;
	if (!apply_is_moved(move, &st)) {
		/* What the file was exchanged for, if that is there. */
		r = apply_prove_moved(job->apply, move, job->dirfd, job->name);
		if (r == 0)
			r = apply_remove_tree(job->apply, stage_dir, stage_name);
		return r < 0 ? r : apply_meta_has_come(job, move);
	}
	if (move->is_copied) {
		_cleanup_close_ int data = apply_open_data(fd, O_RDONLY);

		return data < 0 ? data : apply_copy_file(job, data, NULL);
	}
	struct apply_job moved = *job;

	entry_inherit_owner(&moved.up, &st);
	r = apply_dress_data(&moved, fd);
	return r < 0 ? r : apply_publish(job->apply, stage_dir, stage_name, job->dirfd, job->name);
}

static int apply_bring_meta(const struct apply_job *job)
{
	const struct apply_meta *meta = apply_find_meta(job->apply, job->path);

	if (!meta) /* a name that only the index knows */
		return apply_meta_here(job);
	if (meta->kind == APPLY_META_DEEP)
		return apply_copy_file(job, -1, meta);
	return meta->kind == APPLY_META_HERE ?
		       apply_meta_here(job) :
		       apply_meta_moved(job, &job->apply->moves[meta->move]);
}

/* ---- all ---- */

/* One more name of a file that is in its place already. */
static int apply_bring_name(const struct apply_job *job, const char *first)
{
	const char *name;
	_cleanup_close_ int dirfd = apply_open_parent(job->apply->dest_fd, first, &name);
	struct statx is, want;
	int r = dirfd < 0 ? dirfd : sys_stat(dirfd, name, &want);

	if (r < 0)
		return r;
	r = sys_stat(job->dirfd, job->name, &is);
	if (r == 0 && apply_is_same(&is, &want))
		return 0;
	if (r < 0 && r != -ENOENT)
		return r;
	r = apply_publish_link(job->apply, dirfd, name, job->dirfd, job->name);
	return r;
}

/* Append-only and immutable come last, when nothing is to be changed any more. */
static int apply_note_protection(const struct apply_job *job)
{
	struct apply *apply = job->apply;
	unsigned int flags = apply_attr_protection(apply, job->fd);
	char *path = flags ? strdup(job->path) : NULL;

	if (!flags)
		return 0;
	if (!path || apply_grow(apply->protected, apply->protected_count) < 0) {
		free(path);
		return -ENOMEM;
	}
	apply->protected[apply->protected_count++] =
		(struct apply_protected){ .path = path, .flags = flags };
	return 0;
}

/* Ids that an ordinary user's layer could not give a copy: they are those of what is below. */
static int apply_inherit_owner(struct apply_job *job)
{
	struct statx low;

	if (!job->up.owner.marks)
		return 0;
	int r = sys_stat(job->dirfd, job->name, &low);

	if (r == 0)
		entry_inherit_owner(&job->up, &low);
	return r == -ENOENT ? 0 : r;
}

static int apply_get_group(const struct apply_job *job, struct apply_group_key *key)
{
	struct statx to;
	unsigned long long mount;
	int r = sys_stat(job->dirfd, "", &to);

	if (r == 0)
		r = sys_mount_id(job->dirfd, &mount);
	if (r == 0)
		*key = (struct apply_group_key){
			.dev = sys_stat_dev(&job->up.st),
			.ino = job->up.st.stx_ino,
			.to_mount = mount,
			.to_dev = sys_stat_dev(&to),
		};
	return r;
}

/* The object itself, for the first of its names here. */
static int apply_bring(struct apply_job *job)
{
	int r = apply_note_protection(job);

	return r < 0 ? r : job->up.is_metacopy ? apply_bring_meta(job) : apply_bring_own(job);
}

/* A file with several names: as one more of them, if that can be. */
static int apply_bring_one_of(struct apply_job *job)
{
	struct apply_groups *groups = &job->apply->groups;
	struct apply_group_key key;
	int r = apply_get_group(job, &key);
	const char *first = r < 0 ? NULL : apply_group_find(groups, &key);

	if (first) {
		r = apply_bring_name(job, first);
		/* A file system without links, or with no more of them for this file. */
		if (!apply_is_no_link(r))
			return r;
		r = 0;
	}
	if (r == 0)
		r = apply_bring(job);
	return r < 0 ? r : apply_group_set(groups, &key, job->path);
}

int apply_file(struct apply *apply, const struct apply_job *where)
{
	struct apply_job job = *where;
	_cleanup_close_ int fd = sys_open(job.fromfd, job.from, O_PATH, 0);

	if (fd < 0)
		return fd;
	job.apply = apply;
	job.fd = fd;
	int r = apply_inherit_owner(&job);

	if (r < 0)
		return r;
	return job.up.st.stx_nlink > 1 ? apply_bring_one_of(&job) : apply_bring(&job);
}
