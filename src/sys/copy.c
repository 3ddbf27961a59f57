/* SPDX-License-Identifier: MIT */
/*
 * Three ways, the best first: share the blocks, let the kernel copy, copy by
 * hand.  What reflink did is not copied again; what another way refuses falls
 * to the next one, at the place where it stopped.
 */
#include "sys/copy.h"

#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "sys/call.h"
#include "sys/file.h"

#define SYS_COPY_STEP (1024 * 1024)
#define SYS_COPY_BUFFER_SIZE (128 * 1024)

struct sys_copy_state {
	const struct sys_copy *copy;
	void *buf; /* of SYS_COPY_BUFFER_SIZE once copying by hand; owned */
	bool by_hand; /* copy_file_range does not work between these two */
	bool at_end; /* the source ended before the size asked for */
};

/* Shares whole blocks from offset 0; returns how many bytes are done. */
static uint64_t sys_copy_reflink(const struct sys_copy *copy, uint64_t source_size,
				 uint64_t block_size)
{
	struct file_clone_range range = { .src_fd = copy->from };

	if (source_size == copy->size && sys_retry(ioctl(copy->to, FICLONE, copy->from)) == 0)
		return copy->size;
	/* Only a range that ends where the source ends may end within a block. */
	if (source_size > copy->size && block_size > 0)
		range.src_length = copy->size - copy->size % block_size;
	else
		range.src_length = source_size;
	if (range.src_length == 0 || source_size == copy->size)
		return 0;
	return sys_retry(ioctl(copy->to, FICLONERANGE, &range)) == 0 ? range.src_length : 0;
}

/* The errnos by which copy_file_range says "not between these two files". */
static bool sys_copy_is_refusal(long r)
{
	return r == -EXDEV || r == -EINVAL || r == -EOPNOTSUPP || r == -ENOSYS || r == -EBADF ||
	       r == -EPERM || r == -ETXTBSY;
}

static long sys_copy_step_by_hand(struct sys_copy_state *state, off_t from, off_t to, size_t size)
{
	ssize_t got, put;

	if (!state->buf) {
		state->buf = malloc(SYS_COPY_BUFFER_SIZE);
		if (!state->buf)
			return -ENOMEM;
	}
	got = sys_pread(state->copy->from, state->buf, MIN(size, (size_t)SYS_COPY_BUFFER_SIZE),
			from);
	if (got <= 0)
		return got;
	put = sys_pwrite(state->copy->to, state->buf, (size_t)got, to);
	/* A short write is a full disk or a limit that the next write will name. */
	return put == 0 ? -EIO : put;
}

/* Copies up to @size bytes: bytes copied, 0 at the end of the source, or -errno. */
static long sys_copy_step(struct sys_copy_state *state, off_t from, off_t to, size_t size)
{
	const struct sys_copy *copy = state->copy;

	if (!state->by_hand) {
		off_t in = from, out = to;
		long r = sys_retry(copy_file_range(copy->from, &in, copy->to, &out, size, 0));

		/* Some file systems (procfs-like ones, FUSE) answer 0 for a file they call
		 * empty; reading it tells the truth. */
		if (r > 0 || (r < 0 && !sys_copy_is_refusal(r)))
			return r;
		if (r < 0)
			state->by_hand = true;
	}
	return sys_copy_step_by_hand(state, from, to, size);
}

/* Copies the data between @offset and @end. */
static int sys_copy_extent(struct sys_copy_state *state, uint64_t offset, uint64_t end)
{
	const struct sys_copy *copy = state->copy;

	while (offset < end && !state->at_end) {
		long r;

		if (copy->is_interrupted && copy->is_interrupted(copy->context))
			return -EINTR;
		r = sys_copy_step(state, (off_t)offset, (off_t)offset,
				  MIN(end - offset, (uint64_t)SYS_COPY_STEP));
		if (r < 0)
			return (int)r;
		state->at_end = r == 0;
		offset += (uint64_t)r;
		if (copy->progress)
			copy->progress(copy->context, offset);
	}
	return 0;
}

/*
 * The next data at or after @offset into *@start and *@end.  Returns 1, 0 if there is none left,
 * or -errno.  Where the file system does not tell, everything is data.
 */
static int sys_copy_find_data(const struct sys_copy *copy, uint64_t offset, uint64_t *start,
			      uint64_t *end)
{
	off_t data = sys_seek(copy->from, (off_t)offset, SEEK_DATA);
	off_t hole;

	if (data == -ENXIO)
		return 0;
	if (data < 0) {
		*start = offset;
		*end = copy->size;
		return 1;
	}
	hole = sys_seek(copy->from, data, SEEK_HOLE);
	/* -ENXIO: truncated between the two calls; look again. */
	if (hole == -ENXIO)
		return 0;
	*start = (uint64_t)data;
	*end = hole < 0 ? copy->size : MIN((uint64_t)hole, copy->size);
	return *start < copy->size;
}

static int sys_copy_rest(struct sys_copy_state *state, uint64_t offset)
{
	const struct sys_copy *copy = state->copy;

	while (offset < copy->size && !state->at_end) {
		uint64_t start, end;
		int r = sys_copy_find_data(copy, offset, &start, &end);

		if (r <= 0)
			return r;
		r = sys_copy_extent(state, start, end);
		if (r < 0)
			return r;
		offset = end;
	}
	return 0;
}

int sys_copy_data(const struct sys_copy *copy)
{
	_cleanup_free_ void *buf = NULL;
	struct sys_copy_state state = { .copy = copy };
	struct statx from;
	uint64_t done;
	int r;

	r = sys_stat(copy->from, "", &from);
	if (r < 0)
		return r;
	done = copy->size > 0 ? sys_copy_reflink(copy, from.stx_size, from.stx_blksize) : 0;
	r = sys_copy_rest(&state, done);
	buf = state.buf;
	if (r < 0)
		return r;
	/* A hole at the end, and what a source that grew meanwhile added to a whole-file reflink. */
	r = sys_truncate(copy->to, (off_t)copy->size);
	if (r == 0 && copy->progress)
		copy->progress(copy->context, copy->size);
	return r;
}

ssize_t sys_copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, size_t size)
{
	const struct sys_copy copy = { .from = from, .to = to };
	struct sys_copy_state state = { .copy = &copy };
	size_t done = 0;
	long r = 0;

	while (done < size) {
		r = sys_copy_step(&state, (off_t)(from_offset + done), (off_t)(to_offset + done),
				  MIN(size - done, (size_t)SYS_COPY_STEP));
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	free(state.buf);
	return r < 0 && done == 0 ? r : (ssize_t)done;
}
