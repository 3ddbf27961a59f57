/* SPDX-License-Identifier: MIT */
/*
 * One table says what each message is made of.  Nothing is read beyond the
 * bytes that were received, and the fixed part is copied out, so a short form
 * of an older kernel reads as zeros where it ends.
 */
#include "fuse/decode.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* How many names follow the fixed part, and what they are. */
enum decode_names {
	DECODE_NONE,
	DECODE_COMPONENT, /* a name in a directory */
	DECODE_COMPONENT_OR_DOTS, /* or "." or "..": the node itself, its directory */
	DECODE_TEXT, /* any string */
	DECODE_TWO_COMPONENTS,
	DECODE_COMPONENT_AND_TEXT,
};

struct decode_form {
	const char *name;
	uint8_t size; /* of the fixed part */
	uint8_t old_size; /* a shorter form that is also taken; 0: none */
	enum decode_names names;
	/* How many bytes of data must follow; NULL: none. */
	uint64_t (*data_size)(const union fuse_in *in);
};

static uint64_t decode_write_size(const union fuse_in *in)
{
	return in->write.size;
}

static uint64_t decode_setxattr_size(const union fuse_in *in)
{
	return in->setxattr.size;
}

static uint64_t decode_ioctl_size(const union fuse_in *in)
{
	return in->ioctl.in_size;
}

static uint64_t decode_forget_size(const union fuse_in *in)
{
	return (uint64_t)in->batch_forget.count * sizeof(struct fuse_forget_one);
}

static uint64_t decode_retrieve_size(const union fuse_in *in)
{
	return in->retrieve.size;
}

#define FIXED(type) .size = sizeof(struct fuse_##type##_in)

static const struct decode_form decode_forms[ABI_OPCODE_COUNT] = {
	[FUSE_LOOKUP] = { "LOOKUP", .names = DECODE_COMPONENT_OR_DOTS },
	[FUSE_FORGET] = { "FORGET", FIXED(forget) },
	[FUSE_GETATTR] = { "GETATTR", FIXED(getattr) },
	[FUSE_SETATTR] = { "SETATTR", FIXED(setattr) },
	[FUSE_READLINK] = { "READLINK" },
	[FUSE_SYMLINK] = { "SYMLINK", .names = DECODE_COMPONENT_AND_TEXT },
	[FUSE_MKNOD] = { "MKNOD", FIXED(mknod), .names = DECODE_COMPONENT },
	[FUSE_MKDIR] = { "MKDIR", FIXED(mkdir), .names = DECODE_COMPONENT },
	[FUSE_UNLINK] = { "UNLINK", .names = DECODE_COMPONENT },
	[FUSE_RMDIR] = { "RMDIR", .names = DECODE_COMPONENT },
	[FUSE_RENAME] = { "RENAME", FIXED(rename), .names = DECODE_TWO_COMPONENTS },
	[FUSE_LINK] = { "LINK", FIXED(link), .names = DECODE_COMPONENT },
	[FUSE_OPEN] = { "OPEN", FIXED(open) },
	[FUSE_READ] = { "READ", FIXED(read) },
	[FUSE_WRITE] = { "WRITE", FIXED(write), .data_size = decode_write_size },
	[FUSE_STATFS] = { "STATFS" },
	[FUSE_RELEASE] = { "RELEASE", FIXED(release) },
	[FUSE_FSYNC] = { "FSYNC", FIXED(fsync) },
	[FUSE_SETXATTR] = { "SETXATTR", FIXED(setxattr), .old_size = FUSE_COMPAT_SETXATTR_IN_SIZE,
			    .names = DECODE_TEXT, .data_size = decode_setxattr_size },
	[FUSE_GETXATTR] = { "GETXATTR", FIXED(getxattr), .names = DECODE_TEXT },
	[FUSE_LISTXATTR] = { "LISTXATTR", FIXED(getxattr) },
	[FUSE_REMOVEXATTR] = { "REMOVEXATTR", .names = DECODE_TEXT },
	[FUSE_FLUSH] = { "FLUSH", FIXED(flush) },
	/* Before 7.36 it ended with `flags`. */
	[FUSE_INIT] = { "INIT", FIXED(init), .old_size = offsetof(struct fuse_init_in, flags2) },
	[FUSE_OPENDIR] = { "OPENDIR", FIXED(open) },
	[FUSE_READDIR] = { "READDIR", FIXED(read) },
	[FUSE_RELEASEDIR] = { "RELEASEDIR", FIXED(release) },
	[FUSE_FSYNCDIR] = { "FSYNCDIR", FIXED(fsync) },
	[FUSE_GETLK] = { "GETLK", FIXED(lk) },
	[FUSE_SETLK] = { "SETLK", FIXED(lk) },
	[FUSE_SETLKW] = { "SETLKW", FIXED(lk) },
	[FUSE_ACCESS] = { "ACCESS", FIXED(access) },
	[FUSE_CREATE] = { "CREATE", FIXED(create), .names = DECODE_COMPONENT },
	[FUSE_INTERRUPT] = { "INTERRUPT", FIXED(interrupt) },
	[FUSE_BMAP] = { "BMAP", FIXED(bmap) },
	[FUSE_DESTROY] = { "DESTROY" },
	[FUSE_IOCTL] = { "IOCTL", FIXED(ioctl), .data_size = decode_ioctl_size },
	[FUSE_POLL] = { "POLL", FIXED(poll) },
	[FUSE_NOTIFY_REPLY] = { "NOTIFY_REPLY", FIXED(notify_retrieve),
				.data_size = decode_retrieve_size },
	[FUSE_BATCH_FORGET] = { "BATCH_FORGET", FIXED(batch_forget),
				.data_size = decode_forget_size },
	[FUSE_FALLOCATE] = { "FALLOCATE", FIXED(fallocate) },
	[FUSE_READDIRPLUS] = { "READDIRPLUS", FIXED(read) },
	[FUSE_RENAME2] = { "RENAME2", FIXED(rename2), .names = DECODE_TWO_COMPONENTS },
	[FUSE_LSEEK] = { "LSEEK", FIXED(lseek) },
	[FUSE_COPY_FILE_RANGE] = { "COPY_FILE_RANGE", FIXED(copy_file_range) },
	[FUSE_SYNCFS] = { "SYNCFS", FIXED(syncfs) },
	/* Its name is "/": the kernel's word for an unnamed child. */
	[FUSE_TMPFILE] = { "TMPFILE", FIXED(create), .names = DECODE_TEXT },
	[ABI_STATX] = { "STATX", FIXED(statx) },
	[ABI_COPY_FILE_RANGE_64] = { "COPY_FILE_RANGE_64", FIXED(copy_file_range) },
};

static const struct decode_form *decode_find_form(uint32_t opcode)
{
	if (opcode >= ABI_OPCODE_COUNT || !decode_forms[opcode].name)
		return NULL;
	return &decode_forms[opcode];
}

const char *decode_opcode_name(uint32_t opcode)
{
	const struct decode_form *form = decode_find_form(opcode);

	return form ? form->name : "?";
}

bool decode_is_brief(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

/* What is left of a message. */
struct decode_rest {
	const char *data;
	size_t size;
};

static int decode_fixed(const struct decode_form *form, struct decode_rest *rest, bool is_old,
			union fuse_in *in)
{
	size_t size = is_old ? form->old_size : form->size;

	if (rest->size < size)
		return -EIO;
	memcpy(in, rest->data, size);
	rest->data += size;
	rest->size -= size;
	return 0;
}

static int decode_text(struct decode_rest *rest, const char **text)
{
	const char *end = memchr(rest->data, 0, rest->size);

	if (!end || end == rest->data)
		return -EINVAL;
	*text = rest->data;
	rest->size -= (size_t)(end + 1 - rest->data);
	rest->data = end + 1;
	return 0;
}

static int decode_component_or_dots(struct decode_rest *rest, const char **name)
{
	int r = decode_text(rest, name);

	return r == 0 && strchr(*name, '/') ? -EINVAL : r;
}

/* "." and ".." the kernel resolves itself, in paths. */
static int decode_component(struct decode_rest *rest, const char **name)
{
	int r = decode_component_or_dots(rest, name);

	return r == 0 && (!strcmp(*name, ".") || !strcmp(*name, "..")) ? -EINVAL : r;
}

static int decode_all_names(const struct decode_form *form, struct decode_rest *rest,
			    struct fuse_args *args)
{
	int r = 0;

	switch (form->names) {
	case DECODE_NONE:
		return 0;
	case DECODE_TEXT:
		return decode_text(rest, &args->name);
	case DECODE_COMPONENT_OR_DOTS:
		return decode_component_or_dots(rest, &args->name);
	case DECODE_COMPONENT:
		return decode_component(rest, &args->name);
	case DECODE_TWO_COMPONENTS:
		r = decode_component(rest, &args->name);
		return r < 0 ? r : decode_component(rest, &args->name2);
	case DECODE_COMPONENT_AND_TEXT:
		r = decode_component(rest, &args->name);
		return r < 0 ? r : decode_text(rest, &args->name2);
	}
	return -EINVAL;
}

static int decode_data(const struct decode_form *form, const struct decode_rest *rest,
		       struct fuse_args *args)
{
	uint64_t size = form->data_size ? form->data_size(&args->in) : 0;

	if (size > rest->size)
		return -EINVAL;
	args->data = rest->data;
	args->data_size = (size_t)size;
	return 0;
}

int decode_header(const void *message, size_t size, struct fuse_in_header *header)
{
	if (size < sizeof(*header))
		return -EIO;
	memcpy(header, message, sizeof(*header));
	return 0;
}

int decode_args(const struct fuse_in_header *header, const void *message, size_t size,
		bool setxattr_ext, struct fuse_args *args)
{
	const struct decode_form *form = decode_find_form(header->opcode);
	/* Extensions (groups, labels) follow everything else; none was asked for. */
	size_t extensions = (size_t)header->total_extlen * 8;
	struct decode_rest rest;
	bool is_old;
	int r;

	memset(args, 0, sizeof(*args));
	if (header->len != size || size < sizeof(*header) + extensions)
		return -EIO;
	if (!form)
		return -ENOSYS;
	rest.data = (const char *)message + sizeof(*header);
	rest.size = size - sizeof(*header) - extensions;
	is_old = header->opcode == FUSE_SETXATTR ? !setxattr_ext :
						   form->old_size && rest.size < form->size;
	r = decode_fixed(form, &rest, is_old, &args->in);
	if (r < 0)
		return r;
	r = decode_all_names(form, &rest, args);
	if (r < 0)
		return r;
	return decode_data(form, &rest, args);
}
