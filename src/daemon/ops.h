/* SPDX-License-Identifier: MIT */
/*
 * Requests of the kernel as calls of the core, and results as replies.  No
 * policy beyond that: what a failing call answers is the core's decision.
 */
#ifndef VENEER_DAEMON_OPS_H
#define VENEER_DAEMON_OPS_H

#include "core/core.h"
#include "daemon/gate.h"
#include "daemon/idle.h"
#include "daemon/readers.h"
#include "fuse/fuse.h"

struct ops {
	struct core *core; /* borrowed */
	struct idle *idle; /* borrowed */
	struct gate *gate; /* borrowed; every handler runs within it */
	struct readers readers;
	uint32_t open_flags; /* FOPEN_* of every open file */
	bool caches_dirs; /* the kernel may keep listings */
	bool is_openless; /* files are not opened: the kernel is told so when it first asks */
};

/* The handlers; their context is a struct ops. */
extern const struct fuse_handlers ops_handlers;

/* True if who asked has had enough: a signal that wants it to end. */
bool ops_has_given_up(struct fuse_request *request);
/* Who asks, for the core. @umask is 0 for calls that create nothing. */
struct core_call ops_call(struct fuse_request *request, mode_t umask);

fuse_handler ops_name_lookup, ops_name_mknod, ops_name_mkdir, ops_name_symlink, ops_name_link,
	ops_name_unlink, ops_name_rmdir, ops_name_rename, ops_name_rename2;
fuse_handler ops_attr_get, ops_attr_statx, ops_attr_set, ops_attr_readlink, ops_attr_statfs;
fuse_handler ops_file_open, ops_file_create, ops_file_tmpfile, ops_file_release, ops_file_read,
	ops_file_write, ops_file_fsync, ops_file_fallocate, ops_file_seek, ops_file_copy;
fuse_handler ops_dir_open, ops_dir_read, ops_dir_release, ops_dir_fsync;
fuse_handler ops_xattr_get, ops_xattr_list, ops_xattr_set, ops_xattr_remove;
fuse_handler ops_ioctl;

#endif
