/* SPDX-License-Identifier: MIT */
#include "tools/run_remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/dir.h"
#include "sys/file.h"

/* Trees may be of any depth, and descriptors and the stack are not: what lies deeper is moved up. */
#define RUN_REMOVE_DEPTH_MAX 64
#define RUN_REMOVE_NAME_MAX 32

struct run_remove {
	int top; /* where directories that lie too deep are moved */
	unsigned long moved;
	unsigned int depth;
	int fd; /* the directory at hand */
};

static int run_remove_visit(const struct sys_dirent *entry, void *context);

/* Another process may be doing the same. */
static int run_remove_gone(int error)
{
	return error == -ENOENT ? 0 : error;
}

/* Opens the directory @name, though its mode may not let us. */
static int run_remove_open(int dirfd, const char *name)
{
	int fd = sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd != -EACCES)
		return fd;
	_cleanup_close_ int path = sys_open(dirfd, name, O_PATH | O_DIRECTORY, 0);
	int r = path < 0 ? path : sys_chmod(path, 0700);

	return r < 0 ? r : sys_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
}

/* All that is in the directory @fd, which may have to be made writable. */
static int run_remove_entries(struct run_remove *remove, int fd)
{
	int outer = remove->fd, r;

	remove->fd = fd;
	remove->depth++;
	r = sys_dir_for_each(fd, run_remove_visit, remove);
	if (r == -EACCES) {
		r = sys_chmod(fd, 0700);
		if (r == 0)
			r = sys_dir_for_each(fd, run_remove_visit, remove);
	}
	remove->depth--;
	remove->fd = outer;
	return r;
}

static int run_remove_dir(struct run_remove *remove, const char *name)
{
	char moved[RUN_REMOVE_NAME_MAX];

	if (remove->depth < RUN_REMOVE_DEPTH_MAX) {
		_cleanup_close_ int fd = run_remove_open(remove->fd, name);
		int r = fd < 0 ? fd : run_remove_entries(remove, fd);

		return r < 0 ? r : run_remove_gone(sys_rmdir(remove->fd, name));
	}
	snprintf(moved, sizeof(moved), ".removed-%lu", remove->moved++);
	return sys_rename(remove->fd, name, remove->top, moved, 0);
}

static int run_remove_visit(const struct sys_dirent *entry, void *context)
{
	struct run_remove *remove = context;
	int r = entry->type == DT_DIR ? -EISDIR : sys_unlink(remove->fd, entry->name);

	return run_remove_gone(r == -EISDIR ? run_remove_dir(remove, entry->name) : r);
}

int run_remove_tree(const char *path)
{
	_cleanup_close_ int top = sys_open_path(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct run_remove remove = { .top = top };
	unsigned long moved;
	int r = top < 0 ? top : 0;

	do {
		moved = remove.moved;
		if (r == 0)
			r = run_remove_entries(&remove, top);
	} while (r == 0 && moved != remove.moved);
	return r < 0 ? r : run_remove_gone(sys_rmdir(AT_FDCWD, path));
}
