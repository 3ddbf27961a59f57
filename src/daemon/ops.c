/* SPDX-License-Identifier: MIT */
#include "daemon/ops.h"

#include "sys/creds.h"
#include "sys/signals.h"

/*
 * A node, its names, its record, and what lies around it that can go back with it: a thousand are
 * worth giving memory back.
 */
#define OPS_NODE_WEIGHT 1024

/* A request tells the primary group only. Its thread waits for the answer, so it is there. */
static bool ops_has_group(void *context, gid_t gid)
{
	const struct fuse_request *request = context;

	return request->pid > 0 && sys_creds_thread_has_group(request->pid, gid);
}

/*
 * The kernel tells of any signal, SIGCHLD and timers too, and once only.  What is stopped by one
 * begins anew when the caller tries again, so a large copy would never end under a timer: only
 * signals that ask to stop count, and those are looked for again each time.
 */
bool ops_has_given_up(struct fuse_request *request)
{
	return fuse_request_is_interrupted(request) &&
	       (request->pid == 0 || sys_signals_want_stop((pid_t)request->pid));
}

static bool ops_is_interrupted(void *context)
{
	return ops_has_given_up(context);
}

struct core_call ops_call(struct fuse_request *request, mode_t umask)
{
	return (struct core_call){
		.uid = request->uid,
		.gid = request->gid,
		.umask = umask,
		.is_interrupted = ops_is_interrupted,
		.has_group = ops_has_group,
		.context = request,
	};
}

static int ops_enter(void *context, struct fuse_request *request)
{
	const struct ops *ops = context;

	return gate_enter_or_keep(ops->gate, request);
}

static void ops_leave(void *context, int entered)
{
	const struct ops *ops = context;

	gate_leave(ops->gate, entered);
}

/* Never waits for the gate: it only gives references back. */
static void ops_forget(void *context, uint64_t node, uint64_t count)
{
	struct ops *ops = context;

	core_forget(ops->core, node, count);
	idle_note(ops->idle, OPS_NODE_WEIGHT);
}

/*
 * Not here, so answered ENOSYS once and never asked again: ACCESS (the kernel checks
 * permissions), FLUSH (nothing is held back at close), BMAP, POLL, the locks (the kernel's own),
 * SYNCFS (sent to virtual machines only).
 */
const struct fuse_handlers ops_handlers = {
	.by_opcode = {
		[FUSE_LOOKUP] = ops_name_lookup,
		[FUSE_GETATTR] = ops_attr_get,
		[FUSE_SETATTR] = ops_attr_set,
		[FUSE_READLINK] = ops_attr_readlink,
		[FUSE_SYMLINK] = ops_name_symlink,
		[FUSE_MKNOD] = ops_name_mknod,
		[FUSE_MKDIR] = ops_name_mkdir,
		[FUSE_UNLINK] = ops_name_unlink,
		[FUSE_RMDIR] = ops_name_rmdir,
		[FUSE_RENAME] = ops_name_rename,
		[FUSE_LINK] = ops_name_link,
		[FUSE_OPEN] = ops_file_open,
		[FUSE_READ] = ops_file_read,
		[FUSE_WRITE] = ops_file_write,
		[FUSE_STATFS] = ops_attr_statfs,
		[FUSE_RELEASE] = ops_file_release,
		[FUSE_FSYNC] = ops_file_fsync,
		[FUSE_SETXATTR] = ops_xattr_set,
		[FUSE_GETXATTR] = ops_xattr_get,
		[FUSE_LISTXATTR] = ops_xattr_list,
		[FUSE_REMOVEXATTR] = ops_xattr_remove,
		[FUSE_OPENDIR] = ops_dir_open,
		[FUSE_READDIR] = ops_dir_read,
		[FUSE_RELEASEDIR] = ops_dir_release,
		[FUSE_FSYNCDIR] = ops_dir_fsync,
		[FUSE_CREATE] = ops_file_create,
		[FUSE_IOCTL] = ops_ioctl,
		[FUSE_FALLOCATE] = ops_file_fallocate,
		[FUSE_READDIRPLUS] = ops_dir_read,
		[FUSE_RENAME2] = ops_name_rename2,
		[FUSE_LSEEK] = ops_file_seek,
		[FUSE_COPY_FILE_RANGE] = ops_file_copy,
		[FUSE_TMPFILE] = ops_file_tmpfile,
		[ABI_STATX] = ops_attr_statx,
		[ABI_COPY_FILE_RANGE_64] = ops_file_copy,
	},
	.enter = ops_enter,
	.leave = ops_leave,
	.forget = ops_forget,
};
