/* SPDX-License-Identifier: MIT */
/* Values of this program to the structs the kernel takes. Pure. */
#ifndef VENEER_FUSE_ENCODE_H
#define VENEER_FUSE_ENCODE_H

#include <time.h>

#include "fuse/fuse.h"

/* -errno as the kernel takes it in a reply: -511 to 0, anything else is -EIO. */
int encode_error(int error);

/* The kernel's 32-bit form of a device number. */
uint32_t encode_dev(uint32_t major, uint32_t minor);

void encode_attr(const struct statx *st, struct fuse_attr *attr);
void encode_attr_out(const struct statx *st, struct timespec valid, struct fuse_attr_out *out);
void encode_statx_out(const struct statx *st, struct timespec valid, struct fuse_statx_out *out);
/*
 * @node 0: a name that does not exist; @st is then not looked at. @generation is the session's, so
 * that no file handle of one mount is one of another; the root has none.
 */
void encode_entry_out(uint64_t node, const struct statx *st, struct timespec valid,
		      uint32_t generation, struct fuse_entry_out *out);
void encode_statfs_out(const struct statvfs *st, struct fuse_statfs_out *out);

/* Bytes of the packed entry, which was written to @buf if they are at most @room. */
size_t encode_dirent(const struct fuse_dirbuf_entry *entry, void *buf, size_t room);
size_t encode_direntplus(const struct fuse_dirbuf_entry *entry, struct timespec valid,
			 uint32_t generation, void *buf, size_t room);
/* Calls @visit for each node that a packed READDIRPLUS carries a reference on. */
void encode_direntplus_nodes(const void *buf, size_t size,
			     void (*visit)(void *context, uint64_t node, uint64_t count),
			     void *context);

#endif
