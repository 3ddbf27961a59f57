/* SPDX-License-Identifier: MIT */
/* INIT: versions, sizes and flags. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/session.h"
#include "fuse/transport.h"

/* Requests the kernel has under way for nobody in particular (read-ahead, asynchronous direct
 * I/O); it starts to hold writers back at three quarters. */
#define INIT_MAX_BACKGROUND 64

/* Linux 6.18: READDIR asks for as much as the caller has room for. (Since 6.16, whose minor is not
 * its own.) */
#define INIT_MINOR_LARGE_LISTINGS 45

enum init_when {
	INIT_ALWAYS,
	INIT_IF_DATA_MAY_CHANGE,
	INIT_UNLESS_DATA_MAY_CHANGE,
	INIT_IF_URING,
	INIT_IF_PASSTHROUGH,
	INIT_IF_LISTINGS_ARE_SMALL,
};

struct init_want {
	uint64_t flag;
	enum init_when when;
	const char *name;
};

/*
 * What is wanted. Left out on purpose:
 *  POSIX_LOCKS, FLOCK_LOCKS: locks stay in the kernel; they follow the node, whose id is for life.
 *  ATOMIC_O_TRUNC: truncation comes as SETATTR, which copies no data that it drops.
 *  WRITEBACK_CACHE: errors of a write belong to the writer; times stay the upper's.
 *  EXPLICIT_INVAL_DATA: a size that others changed would come with pages of the old content.
 *  HANDLE_KILLPRIV: superseded by _V2.
 *  SPLICE_*: copying was never slower where it was measured.
 *  SUBMOUNTS, MAP_ALIGNMENT, HAS_INODE_DAX: of virtual machines.
 *  SECURITY_CTX, CREATE_SUPP_GROUP: labels and groups are set with the daemon's rights.
 *  ALLOW_IDMAP: requests that create nothing would come without ids.
 */
static const struct init_want init_wants[] = {
	/* Nodes that were forgotten are looked up by id: file handles last. */
	{ FUSE_EXPORT_SUPPORT, INIT_ALWAYS, "EXPORT_SUPPORT" },
	/* Several reads of one file at once. */
	{ FUSE_ASYNC_READ, INIT_ALWAYS, "ASYNC_READ" },
	/* Writes of more than a page. */
	{ FUSE_BIG_WRITES, INIT_ALWAYS, "BIG_WRITES" },
	/* A default ACL replaces the umask, which only the layer knows. */
	{ FUSE_DONT_MASK, INIT_ALWAYS, "DONT_MASK" },
	/* GETFLAGS and SETFLAGS of directories. */
	{ FUSE_HAS_IOCTL_DIR, INIT_ALWAYS, "HAS_IOCTL_DIR" },
	/* Names and attributes in one round trip; which listings have them is ours to choose. */
	{ FUSE_DO_READDIRPLUS, INIT_ALWAYS, "DO_READDIRPLUS" },
	/* Asked with a page at a time, names alone would take four times the requests. */
	{ FUSE_READDIRPLUS_AUTO, INIT_IF_LISTINGS_ARE_SMALL, "READDIRPLUS_AUTO" },
	/* Direct I/O in parallel pieces. */
	{ FUSE_ASYNC_DIO, INIT_ALWAYS, "ASYNC_DIO" },
	/* Lookups and listings of one directory do not wait for each other. */
	{ FUSE_PARALLEL_DIROPS, INIT_ALWAYS, "PARALLEL_DIROPS" },
	/* The kernel checks access by ACLs; they are never masked away by chmod. */
	{ FUSE_POSIX_ACL, INIT_ALWAYS, "POSIX_ACL" },
	/* An abort is told apart from an unmount. */
	{ FUSE_ABORT_ERROR, INIT_ALWAYS, "ABORT_ERROR" },
	/* Requests of 1 MiB. */
	{ FUSE_MAX_PAGES, INIT_ALWAYS, "MAX_PAGES" },
	/* A symbolic link is read once; no other operation changes its target. */
	{ FUSE_CACHE_SYMLINKS, INIT_UNLESS_DATA_MAY_CHANGE, "CACHE_SYMLINKS" },
	/* Pages are dropped when size or mtime changed behind the kernel's back. */
	{ FUSE_AUTO_INVAL_DATA, INIT_IF_DATA_MAY_CHANGE, "AUTO_INVAL_DATA" },
	/* Set-id bits and capabilities go with the write itself: no GETXATTR before each. */
	{ FUSE_HANDLE_KILLPRIV_V2, INIT_ALWAYS, "HANDLE_KILLPRIV_V2" },
	/* SETXATTR says when an ACL shall clear the set-gid bit. */
	{ FUSE_SETXATTR_EXT, INIT_ALWAYS, "SETXATTR_EXT" },
	/* Requests come and go through rings that processors do not share. */
	{ FUSE_OVER_IO_URING, INIT_IF_URING, "OVER_IO_URING" },
	/* Open files of the upper need no server. */
	{ FUSE_PASSTHROUGH, INIT_IF_PASSTHROUGH, "PASSTHROUGH" },
	/* Flags above bit 31. */
	{ FUSE_INIT_EXT, INIT_ALWAYS, "INIT_EXT" },
};

static bool init_is_wanted(const struct init_want *want, const struct fuse_session *session)
{
	bool data_may_change = session->config.data_may_change;

	switch (want->when) {
	case INIT_ALWAYS:
		return true;
	case INIT_IF_DATA_MAY_CHANGE:
		return data_may_change;
	case INIT_UNLESS_DATA_MAY_CHANGE:
		return !data_may_change;
	case INIT_IF_URING:
		return session->negotiated;
	case INIT_IF_PASSTHROUGH:
		return session->config.passthrough_depth > 0;
	case INIT_IF_LISTINGS_ARE_SMALL:
		return session->minor < INIT_MINOR_LARGE_LISTINGS;
	}
	return false;
}

static uint64_t init_choose(const struct fuse_session *session, uint64_t offered)
{
	uint64_t chosen = 0;

	for (size_t i = 0; i < ARRAY_SIZE(init_wants); i++) {
		const struct init_want *want = &init_wants[i];

		if (!init_is_wanted(want, session))
			continue;
		if (offered & want->flag)
			chosen |= want->flag;
		else
			log_debug("the kernel does not offer FUSE_%s", want->name);
	}
	return chosen;
}

int init_negotiate(struct fuse_session *session, const struct fuse_init_in *in,
		   struct abi_init_out *out)
{
	uint64_t offered = in->flags;
	long page = sysconf(_SC_PAGESIZE);

	/* A newer major: the kernel asks again in ours, having seen this answer. */
	*out = (struct abi_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = ABI_MINOR_MAX,
	};
	if (in->major > FUSE_KERNEL_VERSION)
		return 0;
	if (in->major < FUSE_KERNEL_VERSION || in->minor < ABI_MINOR_MIN) {
		log_error("the kernel speaks FUSE %u.%u; 7.%d (Linux 4.20) is needed", in->major,
			  in->minor, ABI_MINOR_MIN);
		return -EPROTO;
	}
	if (offered & FUSE_INIT_EXT)
		offered |= (uint64_t)in->flags2 << 32;
	session->minor = MIN(in->minor, (uint32_t)ABI_MINOR_MAX);
	session->flags = init_choose(session, offered);

	out->max_readahead = in->max_readahead;
	out->flags = (uint32_t)session->flags;
	out->flags2 = (uint32_t)(session->flags >> 32);
	out->max_background = INIT_MAX_BACKGROUND;
	out->congestion_threshold = INIT_MAX_BACKGROUND * 3 / 4;
	out->max_write = TRANSPORT_PAYLOAD_MAX;
	out->max_pages = (uint16_t)(TRANSPORT_PAYLOAD_MAX / (page > 0 ? page : 4096));
	out->time_gran = 1;
	if (session->flags & FUSE_PASSTHROUGH)
		out->max_stack_depth = session->config.passthrough_depth;
	log_debug("FUSE 7.%u, flags %#llx of %#llx", session->minor,
		  (unsigned long long)session->flags, (unsigned long long)offered);
	return 0;
}
