/* SPDX-License-Identifier: MIT */
#include "hostile.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "format/xattr_name.h"

static const char *const hostile_layers[] = {
	HOSTILE_LOWER0,
	HOSTILE_LOWER1,
	HOSTILE_UPPER,
	HOSTILE_WORK,
};

static const char *const hostile_folders[] = { "",	 "a/",	  "b/",	    "a/b/",
					       "a/b/c/", "work/", "index/", "work/incompat/" };

#define HOSTILE_LONG "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

static const char *const hostile_names[] = {
	"a",  "b",  "c",	"d",	HOSTILE_LONG, ".wh.a",	  ".wh..wh..opq",  ".wh..wh.x",
	"#0", "#1", "incompat", "work", "index",      "volatile", "\xff\n\\ \x7f", "",
};

static const char *const hostile_targets[] = { "a", "../..", "/", "a/b", HOSTILE_LONG };

static void hostile_path(struct fuzz_input *input, char path[512])
{
	uint8_t where = fuzz_take_u8(input), name = fuzz_take_u8(input);

	snprintf(path, 512, "%s/%s%s", hostile_layers[where % ARRAY_SIZE(hostile_layers)],
		 hostile_folders[where / 4 % ARRAY_SIZE(hostile_folders)],
		 hostile_names[name % ARRAY_SIZE(hostile_names)]);
}

static void hostile_file(const char *path, struct fuzz_input *input)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	uint8_t blocks = fuzz_take_u8(input);

	if (fd < 0)
		return;
	if (blocks && pwrite(fd, "content", 7, (off_t)(blocks & 15) * 4096) != 7)
		fuzz_check(ftruncate(fd, 0) == 0);
	close(fd);
}

static void hostile_xattr(const char *path, struct fuzz_input *input)
{
	enum xattr_namespace ns = geteuid() == 0 ? XATTR_TRUSTED : XATTR_USER;
	uint8_t which = fuzz_take_u8(input);
	size_t size;
	const uint8_t *value = fuzz_take(input, fuzz_take_u8(input), &size);
	const char *key = which < XATTR_PRIVATE_COUNT ? xattr_private_name(ns, which) :
			  which & 1		      ? "system.posix_acl_default" :
							"user.x";

	lsetxattr(path, key, value, size, 0);
}

/* One object or attribute.  What cannot be is left out: the input need not make sense. */
static void hostile_add(struct fuzz_input *input)
{
	uint8_t kind = fuzz_take_u8(input);
	char path[512], other[512];

	hostile_path(input, path);
	switch (kind % 8) {
	case 0:
		mkdir(path, 0755);
		break;
	case 1:
		hostile_file(path, input);
		break;
	case 2:
		if (symlink(hostile_targets[fuzz_take_u8(input) % ARRAY_SIZE(hostile_targets)],
			    path) < 0)
			break;
		break;
	case 3:
		mknod(path, S_IFCHR, makedev(0, 0));
		break;
	case 4:
		mknod(path, (fuzz_take_u8(input) & 1 ? S_IFIFO : S_IFSOCK) | 0644, 0);
		break;
	case 5:
		hostile_path(input, other);
		if (link(other, path) < 0)
			break;
		break;
	default:
		hostile_xattr(path, input);
	}
}

void hostile_build(struct fuzz_input *input)
{
	for (size_t i = 0; i < ARRAY_SIZE(hostile_layers); i++)
		fuzz_check(mkdir(hostile_layers[i], 0755) == 0);
	for (unsigned int count = fuzz_take_u8(input) & 31; count > 0; count--)
		hostile_add(input);
}
