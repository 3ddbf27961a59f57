/* SPDX-License-Identifier: MIT */
/* The copy of an object, made in the work directory, where a crash leaves it to the next mount. */
#include "core/copyup_make.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <time.h>

#include "base/cleanup.h"
#include "core/clone.h"
#include "core/datafd.h"
#include "core/origin.h"
#include "core/place.h"
#include "core/quiet.h"
#include "core/upper.h"
#include "sys/file.h"

bool copyup_call_is_interrupted(const struct core_call *call)
{
	return call && call->is_interrupted && call->is_interrupted(call->context);
}

/* The two of struct sys_copy. */
static bool copyup_is_interrupted(void *context)
{
	return copyup_call_is_interrupted(((struct copyup *)context)->call);
}

static void copyup_progress(void *context, uint64_t done)
{
	progress_set_done(&((struct copyup *)context)->progress, done);
}

/* A truncated copy is published with the size it will have, so also with the time. */
static void copyup_set_time(struct copyup *c)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	c->st.stx_mtime.tv_sec = now.tv_sec;
	c->st.stx_mtime.tv_nsec = (uint32_t)now.tv_nsec;
}

/* What is mounted on a directory of a lower is no part of it: of that only the attributes show. */
static int copyup_take_mount_point(struct copyup *c, struct ldir *ldir)
{
	c->layer = ldir->layer;
	return ldir_stat(&c->core->fds, ldir, &c->st);
}

/* Opens what is copied; for a metacopy file in the upper that is the upper file itself. */
int copyup_open_source(struct copyup *c)
{
	struct place place;
	int r = place_hold(c->core, c->node, PLACE_META, &place);

	if (r == -ENODATA)
		return copyup_take_mount_point(c, c->node->dir->lowers[0]);
	if (r < 0)
		return r;
	r = place_stat(&place, &c->st);
	c->source = r < 0 ? r : place_open_path(&place);
	c->layer = place.ldir && !place.is_upper ? place.ldir->layer : NULL;
	if (c->layer)
		c->st.stx_attributes = layer_file_attributes(c->layer, &c->st);
	/* A directory's place is the directory itself. */
	if (r == 0 && !node_is_dir(c->node) && !place_is_node(c->core, &place, c->node, &c->st))
		r = -ESTALE;
	if (r == 0 && c->limit <= c->st.stx_size)
		copyup_set_time(c);
	place_release(c->core, &place);
	if (r == -ESTALE)
		node_set(c->node, NODE_UNSURE);
	return r < 0 ? r : c->source < 0 ? c->source : 0;
}

/* Copies the data into @fd. */
int copyup_data(struct copyup *c, int fd)
{
	struct datafd *data;
	uint64_t size = c->st.stx_size < c->limit ? c->st.stx_size : c->limit;

	if (size == 0)
		return 0;
	int from = datafd_acquire(c->core, c->node, false, &data);

	if (from < 0)
		return from;
	const struct sys_copy copy = {
		.from = from,
		.to = fd,
		.size = size,
		.is_interrupted = copyup_is_interrupted,
		.progress = copyup_progress,
		.context = c,
	};

	progress_set_size(&c->progress, size);
	int r = upper_copy_data(&copy);

	datafd_release(c->core, data);
	if (r == 0)
		progress_set_finishing(&c->progress);
	return r;
}

static int copyup_make_regular(struct copyup *c)
{
	c->fd = upper_create(c->core->work.fd, c->temp, O_RDWR, 0600);
	if (c->fd < 0)
		return c->fd;
	c->made = true;
	return c->meta_only ? 0 : copyup_data(c, c->fd);
}

static int copyup_make_symlink(struct copyup *c)
{
	char target[PATH_MAX];
	ssize_t size = sys_readlink(c->source, "", target, sizeof(target) - 1);

	if (size < 0)
		return size;
	target[size] = '\0';
	return upper_symlink(target, c->core->work.fd, c->temp);
}

/* Makes the bare object in the work directory. */
int copyup_make(struct copyup *c)
{
	int r;

	workdir_temp_name(c->core, c->temp);
	if (S_ISREG(c->st.stx_mode))
		return copyup_make_regular(c);
	if (S_ISDIR(c->st.stx_mode))
		r = upper_mkdir(c->core->work.fd, c->temp, 0700);
	else if (S_ISLNK(c->st.stx_mode))
		r = copyup_make_symlink(c);
	else
		r = upper_mknod(c->core->work.fd, c->temp, (c->st.stx_mode & S_IFMT) | 0600,
				sys_stat_rdev(&c->st));
	if (r < 0)
		return r;
	c->made = true;
	c->fd = sys_open(c->core->work.fd, c->temp, O_PATH | O_NOFOLLOW, 0);
	return c->fd < 0 ? c->fd : 0;
}

/* Its data is elsewhere, and has this digest, if any. */
static int copyup_set_metacopy(struct copyup *c)
{
	uint8_t value[METACOPY_SIZE_MAX];
	size_t size = metacopy_encode(&c->metacopy, value);

	return upper_setxattr(c->fd, core_key(c->core, XATTR_METACOPY), value, size, 0);
}

/* Everything but the data. */
int copyup_attributes(struct copyup *c)
{
	struct clone_attr clone = {
		.core = c->core,
		.from = c->source,
		.from_upper = !c->layer,
		.to = c->fd,
		.st = &c->st,
	};
	int r = 0;

	/* Before the attributes, as a truncation takes capabilities away. */
	if (c->meta_only)
		r = upper_truncate(c->fd, c->st.stx_size);
	if (r == 0)
		r = clone_attributes(&clone);
	if (r < 0)
		return r;
	if (c->source >= 0 &&
	    (S_ISDIR(c->st.stx_mode) || c->st.stx_nlink == 1 || node_has(c->node, NODE_INDEXED)))
		r = c->replaces ? origin_copy(c->core, c->source, c->fd) :
				  origin_set(c->core, c->layer, c->source, c->st.stx_mode, c->fd);
	if (r == 0 && c->meta_only)
		r = copyup_set_metacopy(c);
	/*
	 * A file without data is born when its data is. An attribute of its own would cost it a
	 * block on many file systems, and it is to cost next to nothing.
	 */
	if (r == 0 && (!c->meta_only || node_has(c->node, NODE_METACOPY)))
		quiet_keep(c->core, c->fd, &c->st);
	return r < 0 ? r : clone_finish(&clone);
}

/* To the disk before it can be seen, so that no crash shows an empty file under the old name. */
int copyup_sync(struct copyup *c)
{
	if (c->core->fsync == CORE_FSYNC_VOLATILE)
		return 0;
	if (S_ISREG(c->st.stx_mode))
		return c->meta_only && c->core->fsync != CORE_FSYNC_STRICT ?
			       0 :
			       upper_fsync(c->fd, false);
	if (c->core->fsync != CORE_FSYNC_STRICT || !S_ISDIR(c->st.stx_mode))
		return 0;
	_cleanup_close_ int fd = sys_reopen(c->fd, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : upper_fsync(fd, false);
}
