/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side of a file system: messages in, replies out.  Knows nothing
 * of layers, and is the only header of this room that others include.
 *
 * A transport (the device, or the loop of the tests) reads messages; the
 * session decodes and checks them and calls the handler of the opcode with a
 * request.  A request is complete in itself: its handler may answer it at
 * once, or keep it and have any thread answer it later, exactly once.
 *
 * Whatever bytes a message holds, the worst that happens is an error reply.
 */
#ifndef VENEER_FUSE_FUSE_H
#define VENEER_FUSE_FUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/list.h"
#include "fuse/abi.h"

struct fuse_session;
struct fuse_transport;

/* ---- requests ---- */

/* The fixed part of a message, by opcode; zero where an older kernel's is shorter. */
union fuse_in {
	struct fuse_forget_in forget;
	struct fuse_batch_forget_in batch_forget;
	struct fuse_getattr_in getattr;
	struct fuse_statx_in statx;
	struct fuse_setattr_in setattr;
	struct fuse_mknod_in mknod;
	struct fuse_mkdir_in mkdir;
	struct fuse_rename_in rename;
	struct fuse_rename2_in rename2;
	struct fuse_link_in link;
	struct fuse_open_in open;
	struct fuse_create_in create; /* also of TMPFILE */
	struct fuse_read_in read; /* also of READDIR, READDIRPLUS */
	struct fuse_write_in write;
	struct fuse_release_in release;
	struct fuse_fsync_in fsync;
	struct fuse_flush_in flush;
	struct fuse_setxattr_in setxattr;
	struct fuse_getxattr_in getxattr; /* also of LISTXATTR */
	struct fuse_init_in init;
	struct fuse_access_in access;
	struct fuse_interrupt_in interrupt;
	struct fuse_bmap_in bmap;
	struct fuse_ioctl_in ioctl;
	struct fuse_poll_in poll;
	struct fuse_fallocate_in fallocate;
	struct fuse_lseek_in lseek;
	struct fuse_copy_file_range_in copy_file_range;
	struct fuse_syncfs_in syncfs;
	struct fuse_lk_in lk;
	struct fuse_notify_retrieve_in retrieve;
};

/* A checked message: names are NUL-terminated, @data holds as many bytes as @in promises. */
struct fuse_args {
	union fuse_in in;
	const char *name; /* one path component; the attribute's key for xattrs */
	const char *name2; /* the new name (RENAME), the target (SYMLINK) */
	const void *data; /* WRITE, SETXATTR, IOCTL, BATCH_FORGET */
	size_t data_size;
};

struct fuse_request {
	struct fuse_session *session;
	uint64_t unique;
	uint64_t node;
	uint32_t opcode;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	struct fuse_args args;

	struct list kept; /* of whoever keeps it to be handled later; free for use */

	/* Of src/fuse alone from here on. */
	struct fuse_transport *transport;
	const void *message; /* owned by the transport, as is the scratch memory */
	size_t message_size;
	void *scratch;
	size_t scratch_size;
	uint64_t started_ns; /* when the message came, of stats_now_ns() */
	size_t moved; /* bytes of data read or written */
	struct list inflight; /* in its stripe of the session's table, while a handler has it */
	atomic_bool interrupted;
};

/* True once the caller was hit by a signal and would like an -EINTR; may be polled from any
 * thread that works on the request. Has the type of core_call.is_interrupted. */
bool fuse_request_is_interrupted(void *request);

/* Handles a request that handlers->enter kept; in any thread that has called thread_start(). */
void fuse_request_handle(struct fuse_request *request);

/* Memory for the reply, valid until the request is answered; NULL if @size is more than any
 * reply may have. Always the same memory. */
void *fuse_request_scratch(struct fuse_request *request, size_t size);

/*
 * Handles one request. Returns 0 if it answered (or took it to be answered later), or -errno,
 * which the session then answers.
 */
typedef int fuse_handler(void *context, struct fuse_request *request);

struct fuse_handlers {
	/*
	 * Before each handler: a number for leave(), at least 0, or -1: not now, the request was
	 * kept for fuse_request_handle(). Its answer may be sent before this returns.
	 */
	int (*enter)(void *context, struct fuse_request *request); /* may be NULL, so may leave */
	void (*leave)(void *context, int entered);
	/* Missing ones are answered -ENOSYS, after which the kernel does without. */
	fuse_handler *by_opcode[ABI_OPCODE_COUNT];
	/* Takes back @count lookup references. */
	void (*forget)(void *context, uint64_t node, uint64_t count);
};

/* ---- replies: each answers and ends the request ---- */

/*
 * They return 0, or -errno if the kernel did not take the reply. References on nodes that it
 * should have carried have then been given to handlers->forget; an open that it should have
 * carried is the caller's to release.
 */

/* @error: 0 or -errno. -ENOSYS would turn the opcode off for good, so it becomes -EOPNOTSUPP. */
int fuse_reply_error(struct fuse_request *request, int error);
/* Turns the opcode off: -ENOSYS. */
int fuse_reply_unsupported(struct fuse_request *request);
int fuse_reply_data(struct fuse_request *request, const void *data, size_t size);
/* A name's node; 0: there is no such name, which the kernel may remember. */
int fuse_reply_entry(struct fuse_request *request, uint64_t node, const struct statx *attr);
int fuse_reply_attr(struct fuse_request *request, const struct statx *attr);
int fuse_reply_statx(struct fuse_request *request, const struct statx *attr);
/* How something is open. */
struct fuse_opened {
	uint64_t handle;
	uint32_t flags; /* FOPEN_*; without a meaning for the page cache if there is a backing */
	int backing; /* of fuse_backing_open(), or 0 */
};
int fuse_reply_open(struct fuse_request *request, const struct fuse_opened *opened);
int fuse_reply_create(struct fuse_request *request, uint64_t node, const struct statx *attr,
		      const struct fuse_opened *opened);
/* Bytes written (WRITE, COPY_FILE_RANGE). */
int fuse_reply_written(struct fuse_request *request, size_t size);
/* Bytes copied (COPY_FILE_RANGE_64). */
int fuse_reply_copied(struct fuse_request *request, uint64_t size);
/* Size that a value or list of attributes would need. */
int fuse_reply_xattr_size(struct fuse_request *request, size_t size);
int fuse_reply_offset(struct fuse_request *request, uint64_t offset);
int fuse_reply_statfs(struct fuse_request *request, const struct statvfs *st);
/* Success of an ioctl(2), with what it writes into the caller's memory. */
int fuse_reply_ioctl(struct fuse_request *request, const void *data, size_t size);

/* A directory's entries, packed for READDIR or READDIRPLUS. */
struct fuse_dirbuf {
	struct fuse_request *request;
	char *data;
	size_t size, used;
	bool plus;
};

struct fuse_dirbuf_entry {
	const char *name;
	size_t name_length;
	uint64_t ino, offset;
	unsigned char type; /* DT_* */
	/* READDIRPLUS; node 0: no attributes, no reference. */
	uint64_t node;
	const struct statx *attr;
};

/* @request is a READDIR or READDIRPLUS. 0 or -EINVAL if it asks for more than any may. */
int fuse_dirbuf_init(struct fuse_dirbuf *buf, struct fuse_request *request);
/* False if there is no room for it. */
bool fuse_dirbuf_add(struct fuse_dirbuf *buf, const struct fuse_dirbuf_entry *entry);
int fuse_reply_dirbuf(struct fuse_dirbuf *buf);

/* The device number that MKNOD carries. */
dev_t fuse_decode_dev(uint32_t dev);

/* ---- sessions ---- */

/* 136 years. */
#define FUSE_VALID_FOREVER ((struct timespec){ .tv_sec = UINT32_MAX })

struct fuse_session_config {
	const struct fuse_handlers *handlers;
	struct timespec valid; /* how long the kernel may remember names and attributes */
	bool data_may_change; /* not only through this mount */
	/* 0: no passthrough; 1: to files of ordinary file systems; 2: also of file systems that lie
	 * on others. Nothing can be stacked on the mount that brings it above 2. */
	unsigned int passthrough_depth;
	bool only_owner; /* besides root: others get -EACCES (allow_root) */
	uid_t owner;
	void (*thread_start)(
		void *context); /* in each thread that will run handlers; may be NULL */
	void (*ready)(void *context,
		      int error); /* INIT was answered, or could not be; may be NULL */
	void *context; /* of all callbacks, and of the handlers */
};

/* NULL when out of memory. */
struct fuse_session *fuse_session_new(const struct fuse_session_config *config);
/* No request may be in flight; returns NULL. */
struct fuse_session *fuse_session_free(struct fuse_session *session);
/* Requests whose replies have not been sent yet. */
unsigned int fuse_session_inflight(struct fuse_session *session);
/* The negotiated version of the protocol is 7.this; 0: not yet. */
unsigned int fuse_session_minor(const struct fuse_session *session);

/* Requests of one kind since the mount, with the time from the message to its answer. */
struct fuse_opcode_stats {
	const char *name; /* "LOOKUP" ..., "malformed", "?" */
	uint64_t count;
	uint64_t bytes; /* of data, read or written */
	uint64_t p50_ns, p99_ns; /* latency; exact within a factor of two */
};

/* Calls @visit for each kind of which there were any. Takes no lock. */
void fuse_session_stats(struct fuse_session *session,
			void (*visit)(void *context, const struct fuse_opcode_stats *stats),
			void *context);

/* ---- transports ---- */

struct fuse_dev_config {
	int fd; /* /dev/fuse of a mount; becomes the transport's, also on failure */
	unsigned int max_threads; /* most requests that are worked on at once; 0: 64 */
	unsigned int max_idle; /* threads kept waiting for requests; 0: two per processor */
	/* The connection is gone: 0 unmounted, -ECONNABORTED aborted. Called once, in any thread;
	 * may be NULL. */
	void (*ended)(void *context, int error);
	void *context;
};

/* The device's transport, not yet started. 0 or -ENOMEM. */
int fuse_dev_new(struct fuse_session *session, const struct fuse_dev_config *config,
		 struct fuse_transport **transportp);

/* False in a build without liburing. */
bool fuse_has_uring(void);
/*
 * The same over io_uring, for a kernel that has it switched on; where it is not to be had after
 * all, requests keep coming through the device. -ENOTSUP: !fuse_has_uring().
 */
int fuse_uring_new(struct fuse_session *session, const struct fuse_dev_config *config,
		   struct fuse_transport **transportp);

/* Begins to take messages. 0 or -errno (-EAGAIN: no thread to be had). */
int fuse_transport_start(struct fuse_transport *transport);
/* Takes no more messages and waits until those at work are answered. Without an unmount the
 * kernel still believes in the connection until fuse_transport_free(). */
void fuse_transport_stop(struct fuse_transport *transport);
/* Gives memory of past large messages back to the system. */
void fuse_transport_trim(struct fuse_transport *transport);
/* What it is and how busy. */
struct fuse_transport_state {
	const char *name; /* "dev": /dev/fuse; "io_uring" */
	unsigned int threads, threads_max;
	unsigned int waiting; /* of the threads: for a message */
};

void fuse_transport_get_state(struct fuse_transport *transport, struct fuse_transport_state *state);
/* After stop, or never started; returns NULL. */
struct fuse_transport *fuse_transport_free(struct fuse_transport *transport);

/* ---- passthrough ---- */

/*
 * Makes the open regular file @fd known to the kernel. Returns its number, above 0, or -errno:
 * -EOPNOTSUPP (not negotiated), -EPERM (no CAP_SYS_ADMIN in the initial user namespace), -ELOOP
 * (its file system lies on others), -ENODEV (no device).
 */
int fuse_backing_open(struct fuse_transport *transport, int fd);
/* What is open by it stays so. */
void fuse_backing_close(struct fuse_transport *transport, int backing);

/* ---- notifications: what the kernel shall forget, or know. 0 or -errno ---- */

/*
 * None may be sent by a handler for the directory or file its request is about: the kernel
 * holds a lock there until the reply. -ENOENT: the kernel does not know it, which is as good.
 */
int fuse_notify_entry(struct fuse_transport *transport, uint64_t parent, const char *name);
/*
 * The name is to be asked for again before it is next relied on. What is open or mounted below it
 * stays; kernels before 6.2 know only fuse_notify_entry() and do that.
 */
int fuse_notify_expire(struct fuse_transport *transport, uint64_t parent, const char *name);
/* Attributes, and @length bytes of data from @offset on (0: to the end; offset < 0: no data). */
int fuse_notify_inode(struct fuse_transport *transport, uint64_t node, int64_t offset,
		      int64_t length);
/*
 * Puts @size bytes of data into the kernel's cache at @offset. Waits while a page of it is being
 * read or written: only for a file of which that cannot be. A file that ends before grows.
 */
int fuse_notify_store(struct fuse_transport *transport, uint64_t node, uint64_t offset,
		      const void *data, size_t size);
/* Attributes of the node that @request, still unanswered, is about: no lock is needed for these. */
int fuse_notify_attr(struct fuse_request *request);
/*
 * To be forgotten, if they are not in use: dropped from the kernel's caches as under memory
 * pressure. Waits for nothing. -EINVAL: the kernel is older than 6.18 (protocol 7.45).
 */
int fuse_notify_prune(struct fuse_transport *transport, const uint64_t *nodes, unsigned int count);

#endif
