/* SPDX-License-Identifier: MIT */
/*
 * Regular files' data.  Every call goes to the node's current data file; the
 * first change copies it up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/attr.h"
#include "core/copyup.h"
#include "core/datafd.h"
#include "core/place.h"
#include "core/upper.h"
#include "sys/file.h"

/* Finds the regular file @id. */
static int node_find_file(struct core *core, uint64_t id, struct node **nodep)
{
	struct node *node = node_find(core, id);

	if (!node)
		return -ESTALE;
	if (!S_ISREG(node->type)) {
		int r = node_is_dir(node) ? -EISDIR : -EINVAL;

		node_unref(core, node);
		return r;
	}
	*nodep = node;
	return 0;
}

static int file_check_open(struct core *core, const struct node *node, int flags)
{
	if ((flags & O_ACCMODE) == O_RDONLY)
		return 0;
	if (core_refuses_changes(core))
		return -EROFS;
	if (node_has(node, NODE_IMMUTABLE))
		return -EPERM;
	if (node_has(node, NODE_APPEND) && (!(flags & O_APPEND) || flags & O_TRUNC))
		return -EPERM;
	return 0;
}

int core_open(struct core *core, const struct core_call *call, uint64_t id, int flags, int *backing)
{
	struct node *node;
	int r = node_find_file(core, id, &node);

	(void)call;
	*backing = 0;
	if (r < 0)
		return r;
	r = file_check_open(core, node, flags);
	if (r == 0)
		r = datafd_open(core, node, (flags & O_ACCMODE) != O_RDONLY, backing);
	node_unref(core, node);
	return r;
}

static void file_release(struct core *core, uint64_t id, bool write)
{
	struct node *node;

	if (node_find_file(core, id, &node) < 0)
		return;
	datafd_close(core, node, write);
	node_unref(core, node);
}

void core_release(struct core *core, uint64_t id)
{
	file_release(core, id, false);
}

void core_release_writer(struct core *core, uint64_t id)
{
	file_release(core, id, true);
}

/* The data file's descriptor is everybody's: who leaves no trace reads through one of his own. */
static ssize_t file_read_keeping_atime(int fd, void *buf, size_t size, uint64_t offset)
{
	_cleanup_close_ int own = sys_reopen(fd, O_RDONLY | O_NOATIME | O_CLOEXEC);

	return sys_pread(own < 0 ? fd : own, buf, size, offset);
}

ssize_t core_read(struct core *core, uint64_t id, void *buf, size_t size, uint64_t offset,
		  bool keep_atime)
{
	struct node *node;
	struct datafd *data;
	ssize_t r = node_find_file(core, id, &node);

	if (r < 0)
		return r;
	int fd = datafd_acquire(core, node, false, &data);

	if (fd >= 0) {
		keep_atime = keep_atime && data->is_upper && !core->noatime;
		r = keep_atime ? file_read_keeping_atime(fd, buf, size, offset) :
				 sys_pread(fd, buf, size, offset);
		datafd_release(core, data);
	}
	node_unref(core, node);
	return fd < 0 ? fd : r;
}

/* The data file, in the upper, open for writing. */
static int file_begin_change(struct core *core, const struct core_call *call, uint64_t id,
			     struct node **nodep, struct datafd **datap)
{
	struct node *node;
	int r = node_find_file(core, id, &node);

	if (r < 0)
		return r;
	r = core_refuses_changes(core) ? -EROFS : node_has(node, NODE_IMMUTABLE) ? -EPERM : 0;
	if (r == 0)
		r = copyup_node(core, call, node, COPYUP_DATA);
	if (r == 0)
		r = datafd_acquire(core, node, true, datap);
	if (r < 0)
		node_unref(core, node);
	else
		*nodep = node;
	return r;
}

static void file_end_change(struct core *core, struct node *node, struct datafd *data)
{
	datafd_release(core, data);
	node_unref(core, node);
}

/* What nobody opened was not checked to be open for appending. */
static int file_check_append(struct core *core, const struct node *node, int fd, uint64_t offset)
{
	struct statx st;

	if (!core->no_open || !node_has(node, NODE_APPEND))
		return 0;
	int r = sys_stat(fd, "", &st);

	return r == 0 && offset < st.stx_size ? -EPERM : r;
}

/*
 * Whoever appends to a file that became another one under him goes by the old one's size for as long as
 * nobody asks for its attributes.
 */
static int file_find_end(const struct node *node, int fd, uint64_t *offset)
{
	struct statx st;

	if (!node_has(node, NODE_RENEWED))
		return 0;
	int r = sys_stat(fd, "", &st);

	if (r == 0)
		*offset = st.stx_size;
	return r;
}

ssize_t core_write(struct core *core, const struct core_call *call, uint64_t id, const void *buf,
		   size_t size, uint64_t offset, unsigned int flags)
{
	struct node *node;
	struct datafd *data;
	int fd = file_begin_change(core, call, id, &node, &data);

	if (fd < 0)
		return fd;
	ssize_t r = flags & CORE_WRITE_APPEND ? file_find_end(node, fd, &offset) : 0;

	if (r == 0)
		r = file_check_append(core, node, fd, offset);
	if (r == 0 && flags & CORE_WRITE_KILL_SUIDGID)
		r = attr_kill_suidgid_before(core, call, fd, offset + 1);
	if (r == 0)
		r = upper_write(fd, buf, size, offset);
	file_end_change(core, node, data);
	return r;
}

/* Of the ways to change data whose messages do not say whether the caller may keep set-id bits. */
static int file_kill_suidgid(struct core *core, const struct core_call *call, int fd, uint64_t end)
{
	if (call->uid == 0 && !core->in_userns)
		return 0;
	return attr_kill_suidgid_before(core, call, fd, end);
}

int core_fallocate(struct core *core, const struct core_call *call, uint64_t id, int mode,
		   uint64_t offset, uint64_t length)
{
	struct node *node;
	struct datafd *data;
	int fd = file_begin_change(core, call, id, &node, &data);

	if (fd < 0)
		return fd;
	int r = mode & ~FALLOC_FL_KEEP_SIZE ? file_check_append(core, node, fd, offset) : 0;

	if (r == 0)
		r = file_kill_suidgid(core, call, fd, offset + length);
	if (r == 0)
		r = upper_fallocate(fd, mode, offset, length);

	file_end_change(core, node, data);
	return r;
}

off_t core_seek(struct core *core, uint64_t id, off_t offset, int whence)
{
	struct node *node;
	struct datafd *data;
	off_t r = node_find_file(core, id, &node);

	if (r < 0)
		return r;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		r = -EINVAL;
	int fd = r < 0 ? (int)r : datafd_acquire(core, node, false, &data);

	if (fd >= 0) {
		r = sys_seek(fd, offset, whence);
		datafd_release(core, data);
	}
	node_unref(core, node);
	return fd < 0 ? fd : r;
}

ssize_t core_copy_range(struct core *core, const struct core_call *call, uint64_t from,
			uint64_t from_offset, uint64_t to, uint64_t to_offset, size_t size)
{
	struct node *source, *node;
	struct datafd *source_data, *data;
	ssize_t r = node_find_file(core, from, &source);

	if (r < 0)
		return r;
	int to_fd = file_begin_change(core, call, to, &node, &data);

	/* After the copy-up: source and target may be one file. */
	int from_fd = to_fd < 0 ? to_fd : datafd_acquire(core, source, false, &source_data);

	r = from_fd < 0 ? from_fd : file_check_append(core, node, to_fd, to_offset);
	if (from_fd >= 0) {
		if (r == 0)
			r = file_kill_suidgid(core, call, to_fd, to_offset + 1);
		if (r == 0)
			r = upper_copy_range(from_fd, from_offset, to_fd, to_offset, size);
		datafd_release(core, source_data);
	}
	if (to_fd >= 0)
		file_end_change(core, node, data);
	node_unref(core, source);
	return r;
}

/* The upper file that holds the metadata of one whose data is still in a lower. */
static int file_sync_metadata(struct core *core, struct node *node)
{
	struct place place;
	int r = place_hold(core, node, PLACE_META, &place);

	if (r < 0)
		return r;
	_cleanup_close_ int fd = place_open(&place, O_RDONLY | O_NONBLOCK);

	place_release(core, &place);
	return fd < 0 ? fd : upper_fsync(fd, false);
}

static int file_sync(struct core *core, struct node *node, bool data_only)
{
	struct datafd *data;

	if (!node_has(node, NODE_UPPER))
		return 0;
	if (node_has(node, NODE_METACOPY))
		return data_only ? 0 : file_sync_metadata(core, node);
	int fd = datafd_acquire(core, node, false, &data);

	if (fd < 0)
		return fd;
	/*
	 * Its copy-up may have ended with a rename or the removal of an attribute. The caller knows
	 * nothing of these, and an fdatasync(2) in the upper need not care for them: the first is
	 * a full one.
	 */
	if (!atomic_load(&data->is_synced))
		data_only = false;
	int r = upper_fsync(fd, data_only);

	if (r == 0 && !data_only)
		atomic_store(&data->is_synced, true);
	datafd_release(core, data);
	return r;
}

int core_fsync(struct core *core, uint64_t id, bool data_only)
{
	struct node *node;
	int r = node_find_file(core, id, &node);

	if (r < 0)
		return r;
	if (core->fsync != CORE_FSYNC_VOLATILE)
		r = file_sync(core, node, data_only);
	node_unref(core, node);
	return r;
}
