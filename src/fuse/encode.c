/* SPDX-License-Identifier: MIT */
#include "fuse/encode.h"

#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/util.h"

/* The kernel takes no error below this (and would drop the whole reply). */
#define ENCODE_ERROR_MIN (-511)

int encode_error(int error)
{
	if (error > 0 || error < ENCODE_ERROR_MIN)
		return -EIO;
	return error;
}

uint32_t encode_dev(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffU) << 12);
}

dev_t fuse_decode_dev(uint32_t dev)
{
	return makedev((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00));
}

void encode_attr(const struct statx *st, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.rdev = encode_dev(st->stx_rdev_major, st->stx_rdev_minor),
		.blksize = st->stx_blksize,
	};
}

void encode_attr_out(const struct statx *st, struct timespec valid, struct fuse_attr_out *out)
{
	*out = (struct fuse_attr_out){
		.attr_valid = (uint64_t)valid.tv_sec,
		.attr_valid_nsec = (uint32_t)valid.tv_nsec,
	};
	encode_attr(st, &out->attr);
}

static struct fuse_sx_time encode_time(struct statx_timestamp time)
{
	return (struct fuse_sx_time){ .tv_sec = time.tv_sec, .tv_nsec = time.tv_nsec };
}

void encode_statx_out(const struct statx *st, struct timespec valid, struct fuse_statx_out *out)
{
	*out = (struct fuse_statx_out){
		.attr_valid = (uint64_t)valid.tv_sec,
		.attr_valid_nsec = (uint32_t)valid.tv_nsec,
		.stat = {
			.mask = st->stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
			.blksize = st->stx_blksize,
			.attributes = st->stx_attributes,
			.attributes_mask = st->stx_attributes_mask,
			.nlink = st->stx_nlink,
			.uid = st->stx_uid,
			.gid = st->stx_gid,
			.mode = st->stx_mode,
			.ino = st->stx_ino,
			.size = st->stx_size,
			.blocks = st->stx_blocks,
			.atime = encode_time(st->stx_atime),
			.btime = encode_time(st->stx_btime),
			.ctime = encode_time(st->stx_ctime),
			.mtime = encode_time(st->stx_mtime),
			.rdev_major = st->stx_rdev_major,
			.rdev_minor = st->stx_rdev_minor,
		},
	};
}

void encode_entry_out(uint64_t node, const struct statx *st, struct timespec valid,
		      uint32_t generation, struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){
		.nodeid = node,
		.generation = node == FUSE_ROOT_ID ? 0 : generation,
		.entry_valid = (uint64_t)valid.tv_sec,
		.entry_valid_nsec = (uint32_t)valid.tv_nsec,
	};
	if (!node)
		return;
	out->attr_valid = (uint64_t)valid.tv_sec;
	out->attr_valid_nsec = (uint32_t)valid.tv_nsec;
	encode_attr(st, &out->attr);
}

void encode_statfs_out(const struct statvfs *st, struct fuse_statfs_out *out)
{
	*out = (struct fuse_statfs_out){
		.st = {
			.blocks = st->f_blocks,
			.bfree = st->f_bfree,
			.bavail = st->f_bavail,
			.files = st->f_files,
			.ffree = st->f_ffree,
			.bsize = (uint32_t)st->f_bsize,
			.namelen = (uint32_t)st->f_namemax,
			.frsize = (uint32_t)st->f_frsize,
		},
	};
}

/* @head is the fixed part, the name and its padding follow. */
static size_t encode_packed(const struct fuse_dirbuf_entry *entry, const void *head,
			    size_t head_size, void *buf, size_t room)
{
	size_t used = head_size + entry->name_length;
	size_t size = FUSE_REC_ALIGN(used);

	if (size > room)
		return size;
	memcpy(buf, head, head_size);
	memcpy((char *)buf + head_size, entry->name, entry->name_length);
	memset((char *)buf + used, 0, size - used);
	return size;
}

static void encode_dirent_head(const struct fuse_dirbuf_entry *entry, struct fuse_dirent *head)
{
	head->ino = entry->ino;
	head->off = entry->offset;
	head->namelen = (uint32_t)entry->name_length;
	head->type = entry->type;
}

size_t encode_dirent(const struct fuse_dirbuf_entry *entry, void *buf, size_t room)
{
	struct fuse_dirent head;

	encode_dirent_head(entry, &head);
	return encode_packed(entry, &head, FUSE_NAME_OFFSET, buf, room);
}

size_t encode_direntplus(const struct fuse_dirbuf_entry *entry, struct timespec valid,
			 uint32_t generation, void *buf, size_t room)
{
	struct fuse_direntplus head;

	memset(&head, 0, sizeof(head));
	if (entry->node)
		encode_entry_out(entry->node, entry->attr, valid, generation, &head.entry_out);
	encode_dirent_head(entry, &head.dirent);
	return encode_packed(entry, &head, FUSE_NAME_OFFSET_DIRENTPLUS, buf, room);
}

void encode_direntplus_nodes(const void *buf, size_t size,
			     void (*visit)(void *context, uint64_t node, uint64_t count),
			     void *context)
{
	size_t at = 0;

	while (size - at >= FUSE_NAME_OFFSET_DIRENTPLUS) {
		const struct fuse_direntplus *entry =
			(const struct fuse_direntplus *)((const char *)buf + at);

		if (entry->entry_out.nodeid)
			visit(context, entry->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(entry);
		if (at > size)
			return;
	}
}
