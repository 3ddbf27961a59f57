/* SPDX-License-Identifier: MIT */
/*
 * The kernel's FUSE protocol: <linux/fuse.h> of the system, and everything of
 * protocol 7.45 (Linux 6.18) that an older header lacks.
 *
 * Debian 12 ships the header of 7.38.  What is declared here is guarded by the
 * header's minor version, so a newer header takes over name by name.  The two
 * replies that gained fields in place of padding have a complete twin here
 * (abi_init_out, abi_open_out), because their layout depends on the header.
 */
#ifndef VENEER_FUSE_ABI_H
#define VENEER_FUSE_ABI_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#if FUSE_KERNEL_VERSION != 7
#error "veneer speaks major version 7 of the FUSE protocol"
#endif
#if FUSE_KERNEL_MINOR_VERSION < 38
#error "<linux/fuse.h> of Linux 6.1 (protocol 7.38) or newer is needed to build"
#endif

/* The newest minor this program knows, and the oldest it accepts (Linux 4.20: RENAME2,
 * PARALLEL_DIROPS, POSIX_ACL, MAX_PAGES, COPY_FILE_RANGE are all there). */
#define ABI_MINOR_MAX 45
#define ABI_MINOR_MIN 28

/* Opcodes above 7.38. Numbers, as enum constants can not be tested for. */
enum abi_opcode {
	ABI_STATX = 52, /* 7.39 */
	ABI_COPY_FILE_RANGE_64 = 53, /* 7.45 */
	ABI_OPCODE_COUNT = 54,
};

/* Notifications above 7.38. */
enum abi_notify {
	ABI_NOTIFY_RESEND = 7, /* 7.40 */
	ABI_NOTIFY_PRUNE = 9, /* 7.45 */
};

/* INIT flags; 32 and above travel in flags2. */
#ifndef FUSE_CREATE_SUPP_GROUP
#define FUSE_CREATE_SUPP_GROUP (1ULL << 34)
#endif
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37)
#endif
#ifndef FUSE_NO_EXPORT_SUPPORT
#define FUSE_NO_EXPORT_SUPPORT (1ULL << 38)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#ifndef FUSE_ALLOW_IDMAP
#define FUSE_ALLOW_IDMAP (1ULL << 40)
#endif
#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (1ULL << 41)
#endif
#ifndef FUSE_REQUEST_TIMEOUT
#define FUSE_REQUEST_TIMEOUT (1ULL << 42)
#endif

#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1 << 7)
#endif
/* Set in `unique` of a request that is sent again. */
#ifndef FUSE_UNIQUE_RESEND
#define FUSE_UNIQUE_RESEND (1ULL << 63)
#endif
/* Owner ids of a request through an idmapped mount that creates nothing. */
#ifndef FUSE_INVALID_UIDGID
#define FUSE_INVALID_UIDGID ((uint32_t)(-1))
#endif

#if FUSE_KERNEL_MINOR_VERSION < 39
struct fuse_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t __reserved;
};

struct fuse_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t __spare0[1];
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct fuse_sx_time atime;
	struct fuse_sx_time btime;
	struct fuse_sx_time ctime;
	struct fuse_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t __spare2[14];
};

struct fuse_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct fuse_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct fuse_statx stat;
};
#endif /* 7.39 */

#if FUSE_KERNEL_MINOR_VERSION < 40
struct fuse_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define FUSE_DEV_IOC_BACKING_OPEN _IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)
#define FUSE_DEV_IOC_BACKING_CLOSE _IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)
#endif /* 7.40 */

#if FUSE_KERNEL_MINOR_VERSION < 42
#define FUSE_URING_IN_OUT_HEADER_SZ 128
#define FUSE_URING_OP_IN_OUT_SZ 128

struct fuse_uring_ent_in_out {
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_sz;
	uint32_t padding;
	uint64_t reserved;
};

struct fuse_uring_req_header {
	char in_out[FUSE_URING_IN_OUT_HEADER_SZ];
	char op_in[FUSE_URING_OP_IN_OUT_SZ];
	struct fuse_uring_ent_in_out ring_ent_in_out;
};

enum fuse_uring_cmd {
	FUSE_IO_URING_CMD_INVALID = 0,
	FUSE_IO_URING_CMD_REGISTER = 1,
	FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2,
};

struct fuse_uring_cmd_req {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
#endif /* 7.42 */

#if FUSE_KERNEL_MINOR_VERSION < 45
struct fuse_copy_file_range_out {
	uint64_t bytes_copied;
};

struct fuse_notify_prune_out {
	uint32_t count;
	uint32_t padding;
	uint64_t spare;
};
#endif /* 7.45 */

#ifndef FUSE_DEV_IOC_SYNC_INIT
#define FUSE_DEV_IOC_SYNC_INIT _IO(FUSE_DEV_IOC_MAGIC, 3)
#endif

/* fuse_init_out of 7.45. */
struct abi_init_out {
	uint32_t major;
	uint32_t minor;
	uint32_t max_readahead;
	uint32_t flags;
	uint16_t max_background;
	uint16_t congestion_threshold;
	uint32_t max_write;
	uint32_t time_gran;
	uint16_t max_pages;
	uint16_t map_alignment;
	uint32_t flags2;
	uint32_t max_stack_depth; /* 7.40, with FUSE_PASSTHROUGH */
	uint16_t request_timeout; /* 7.43, seconds */
	uint16_t unused[11];
};

/* fuse_open_out of 7.40. */
struct abi_open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id; /* with FOPEN_PASSTHROUGH */
};

_Static_assert(sizeof(struct fuse_in_header) == 40, "kernel interface");
_Static_assert(sizeof(struct fuse_out_header) == 16, "kernel interface");
_Static_assert(sizeof(struct fuse_attr) == 88, "kernel interface");
_Static_assert(sizeof(struct fuse_entry_out) == 128, "kernel interface");
_Static_assert(sizeof(struct fuse_statx) == 256, "kernel interface");
_Static_assert(sizeof(struct fuse_statx_in) == 24, "kernel interface");
_Static_assert(sizeof(struct fuse_statx_out) == 288, "kernel interface");
_Static_assert(sizeof(struct fuse_backing_map) == 16, "kernel interface");
_Static_assert(sizeof(struct fuse_uring_req_header) == 288, "kernel interface");
_Static_assert(sizeof(struct fuse_uring_cmd_req) == 24, "kernel interface");
_Static_assert(sizeof(struct fuse_copy_file_range_out) == 8, "kernel interface");
_Static_assert(sizeof(struct fuse_init_in) == 64, "kernel interface");
_Static_assert(sizeof(struct fuse_notify_prune_out) == 16, "kernel interface");
_Static_assert(sizeof(struct abi_init_out) == 64, "kernel interface");
_Static_assert(sizeof(struct abi_init_out) == sizeof(struct fuse_init_out), "kernel interface");
_Static_assert(sizeof(struct abi_open_out) == sizeof(struct fuse_open_out), "kernel interface");

#endif
