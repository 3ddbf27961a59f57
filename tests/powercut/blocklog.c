/* SPDX-License-Identifier: MIT */
/*
 * A disk with a memory: blocklog IMAGE LOG FILE
 *
 * Shows IMAGE as FILE, an existing file that a file system of one file is
 * mounted on, and appends to LOG what a power cut could have kept: each write
 * with its data, and each flush of the disk's cache.  A loop device over FILE
 * turns its flushes into fsync(2), so what a file system on it asks of a disk
 * arrives here in that order.  A write is in LOG before it is acknowledged.
 *
 * Ends with the unmount of FILE, or with the process that started it: a test
 * that dies leaves no mount behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/fuse.h"
#include "sys/file.h"
#include "sys/mount.h"

enum blocklog_kind {
	BLOCKLOG_WRITE = 1, /* followed by as many bytes as it says */
	BLOCKLOG_FLUSH = 2,
};

/* Of a record in LOG; disk.py reads it. */
struct blocklog_record {
	uint64_t offset;
	uint32_t size;
	uint32_t kind;
};
_Static_assert(sizeof(struct blocklog_record) == 16, "disk.py knows this size");

struct blocklog {
	pthread_mutex_t lock; /* the order of LOG is the order in which IMAGE changes */
	int image;
	int log;
	uint64_t log_size;
	bool ended; /* guarded by lock */
	pthread_cond_t has_ended;
};

static int blocklog_append(struct blocklog *blocklog, const void *data, size_t size)
{
	ssize_t done = sys_pwrite(blocklog->log, data, size, (off_t)blocklog->log_size);

	if (done != (ssize_t)size)
		return done < 0 ? (int)done : -EIO;
	blocklog->log_size += size;
	return 0;
}

static int blocklog_record(struct blocklog *blocklog, const struct blocklog_record *record,
			   const void *data)
{
	int r = blocklog_append(blocklog, record, sizeof(*record));

	return r == 0 && record->size > 0 ? blocklog_append(blocklog, data, record->size) : r;
}

/* ---- requests; there is one node, the root, which is the file ---- */

static int blocklog_getattr(void *context, struct fuse_request *request)
{
	struct blocklog *blocklog = context;
	struct statx st;
	int r = sys_stat(blocklog->image, "", &st);

	if (r < 0)
		return r;
	fuse_reply_attr(request, &st);
	return 0;
}

/* Past the page cache: what the loop device writes comes here at once. */
static int blocklog_open(void *context, struct fuse_request *request)
{
	const struct fuse_opened opened = { .flags = FOPEN_DIRECT_IO };

	(void)context;
	fuse_reply_open(request, &opened);
	return 0;
}

static int blocklog_read(void *context, struct fuse_request *request)
{
	struct blocklog *blocklog = context;
	const struct fuse_read_in *in = &request->args.in.read;
	void *data = fuse_request_scratch(request, in->size);

	if (!data)
		return -EINVAL;
	ssize_t size = sys_pread(blocklog->image, data, in->size, (off_t)in->offset);

	if (size < 0)
		return (int)size;
	fuse_reply_data(request, data, (size_t)size);
	return 0;
}

static int blocklog_write(void *context, struct fuse_request *request)
{
	struct blocklog *blocklog = context;
	const struct fuse_args *args = &request->args;
	const struct blocklog_record record = {
		.offset = args->in.write.offset,
		.size = (uint32_t)args->data_size,
		.kind = BLOCKLOG_WRITE,
	};

	pthread_mutex_lock(&blocklog->lock);
	int r = blocklog_record(blocklog, &record, args->data);

	if (r == 0)
		r = (int)sys_pwrite(blocklog->image, args->data, record.size, (off_t)record.offset);
	pthread_mutex_unlock(&blocklog->lock);
	if (r < 0)
		return r;
	fuse_reply_written(request, (size_t)r);
	return 0;
}

static int blocklog_fsync(void *context, struct fuse_request *request)
{
	struct blocklog *blocklog = context;
	const struct blocklog_record record = { .kind = BLOCKLOG_FLUSH };

	pthread_mutex_lock(&blocklog->lock);
	int r = blocklog_record(blocklog, &record, NULL);

	pthread_mutex_unlock(&blocklog->lock);
	fuse_reply_error(request, r);
	return 0;
}

static int blocklog_release(void *context, struct fuse_request *request)
{
	(void)context;
	fuse_reply_error(request, 0);
	return 0;
}

static void blocklog_forget(void *context, uint64_t node, uint64_t count)
{
	(void)context;
	(void)node;
	(void)count;
}

/* Without the others, fallocate above all, the loop device writes zeroes and never discards. */
static const struct fuse_handlers blocklog_handlers = {
	.by_opcode = {
		[FUSE_GETATTR] = blocklog_getattr,
		[FUSE_OPEN] = blocklog_open,
		[FUSE_READ] = blocklog_read,
		[FUSE_WRITE] = blocklog_write,
		[FUSE_FSYNC] = blocklog_fsync,
		[FUSE_RELEASE] = blocklog_release,
	},
	.forget = blocklog_forget,
};

/* ---- the mount ---- */

static void blocklog_end(void *context, int error)
{
	struct blocklog *blocklog = context;

	(void)error;
	pthread_mutex_lock(&blocklog->lock);
	blocklog->ended = true;
	pthread_cond_signal(&blocklog->has_ended);
	pthread_mutex_unlock(&blocklog->lock);
}

static int blocklog_open_files(struct blocklog *blocklog, char *argv[])
{
	blocklog->image = open(argv[1], O_RDWR | O_CLOEXEC);
	blocklog->log = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return blocklog->image < 0 || blocklog->log < 0 ? -errno : 0;
}

static int blocklog_mount(const char *target)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=0,group_id=0", fd, S_IFREG);
	int r = sys_mount("blocklog", target, "fuse.blocklog", 0, options);

	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int blocklog_serve(struct blocklog *blocklog, int fd)
{
	const struct fuse_session_config config = {
		.handlers = &blocklog_handlers,
		.valid = FUSE_VALID_FOREVER,
		.context = blocklog,
	};
	struct fuse_session *session = fuse_session_new(&config);
	const struct fuse_dev_config dev = {
		.fd = fd,
		.ended = blocklog_end,
		.context = blocklog,
	};
	struct fuse_transport *transport = NULL;
	int r = session ? fuse_dev_new(session, &dev, &transport) : -ENOMEM;

	if (r == 0)
		r = fuse_transport_start(transport);
	pthread_mutex_lock(&blocklog->lock);
	while (r == 0 && !blocklog->ended)
		pthread_cond_wait(&blocklog->has_ended, &blocklog->lock);
	pthread_mutex_unlock(&blocklog->lock);
	if (transport) {
		fuse_transport_stop(transport);
		fuse_transport_free(transport);
	}
	fuse_session_free(session);
	return r;
}

int main(int argc, char *argv[])
{
	struct blocklog blocklog = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.has_ended = PTHREAD_COND_INITIALIZER,
	};

	if (argc != 4) {
		fprintf(stderr, "usage: blocklog IMAGE LOG FILE\n");
		return 2;
	}
	/* The connection ends with this process, and the mount answers errors from then on. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int r = blocklog_open_files(&blocklog, argv);

	if (r == 0)
		r = blocklog_mount(argv[3]);
	if (r >= 0)
		r = blocklog_serve(&blocklog, r);
	if (r < 0)
		fprintf(stderr, "blocklog: %s: %s\n", argv[3], strerror(-r));
	return r < 0 ? 1 : 0;
}
