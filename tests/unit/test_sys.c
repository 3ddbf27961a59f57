/* SPDX-License-Identifier: MIT */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "sys/copy.h"
#include "sys/creds.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/mount.h"
#include "sys/xattr.h"

#define with_scratch(test) \
	cmocka_unit_test_setup_teardown(test, unit_scratch_setup, unit_scratch_teardown)

static int scratch_fd(void **state)
{
	return ((struct unit_scratch *)*state)->fd;
}

/* --- files by name -------------------------------------------------------------------- */

static void test_open_stays_beneath(void **state)
{
	int dirfd = scratch_fd(state);
	int fd;

	unit_write(dirfd, "file", "x");
	assert_int_equal(symlinkat("file", dirfd, "link"), 0);
	assert_int_equal(symlinkat("/", dirfd, "out"), 0);
	assert_int_equal(sys_open(dirfd, "link", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sys_open(dirfd, "out", O_RDONLY | O_DIRECTORY, 0), -ENOTDIR);
	assert_int_equal(sys_open(dirfd, "out/etc", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sys_open(dirfd, "..", O_RDONLY, 0), -EXDEV);
	assert_int_equal(sys_open(dirfd, "/etc", O_RDONLY, 0), -EXDEV);
	assert_int_equal(sys_open(dirfd, "none", O_RDONLY, 0), -ENOENT);
	/* A mode without creation is no error, and the descriptor is close-on-exec. */
	fd = sys_open(dirfd, "file", O_RDONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	/* The link itself may be held. */
	fd = sys_open(dirfd, "link", O_PATH, 0);
	assert_true(fd >= 0);
	close(fd);
	fd = sys_open(dirfd, "new", O_RDWR | O_CREAT | O_EXCL, S_IFREG | 0640);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sys_open(dirfd, "new", O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
}

static void test_reopen(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int path = -1, file = -1, dir = -1, dir_path = -1, tmp = -1;
	struct statx a, b;

	unit_write(dirfd, "file", "hello");
	path = sys_open(dirfd, "file", O_PATH, 0);
	/* The name may change meanwhile. */
	assert_int_equal(sys_rename(dirfd, "file", dirfd, "other", 0), 0);
	file = sys_reopen(path, O_RDWR | O_NOFOLLOW);
	assert_true(file >= 0);
	assert_int_equal(sys_pwrite(file, "J", 1, 0), 1);
	assert_int_equal(sys_stat(path, "", &a), 0);
	assert_int_equal(sys_stat(dirfd, "other", &b), 0);
	assert_true(a.stx_ino == b.stx_ino);
	dir_path = sys_open(dirfd, ".", O_PATH | O_DIRECTORY, 0);
	dir = sys_open(dir_path, "", O_RDONLY | O_DIRECTORY, 0);
	assert_true(dir >= 0);
	tmp = sys_open(dir_path, "", O_TMPFILE | O_RDWR, 0600);
	assert_true(tmp >= 0);
	assert_int_equal(sys_link_fd(tmp, dirfd, "linked"), 0);
	assert_int_equal(sys_link_fd(tmp, dirfd, "linked"), -EEXIST);
	assert_int_equal(sys_reopen(file, O_RDONLY | O_DIRECTORY), -ENOTDIR);
	cleanup_close(&tmp);
	tmp = sys_dup(file);
	assert_int_equal(fcntl(tmp, F_GETFD), FD_CLOEXEC);
	assert_int_equal(sys_dup(-1), -EBADF);
}

static void test_names(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int link = -1;
	struct statx st;
	char target[16];

	assert_int_equal(sys_mkdir(dirfd, "dir", 0700), 0);
	assert_int_equal(sys_mkdir(dirfd, "dir", 0700), -EEXIST);
	assert_int_equal(sys_mknod(dirfd, "fifo", S_IFIFO | 0600, 0), 0);
	assert_int_equal(sys_symlink("a target", dirfd, "link"), 0);
	assert_int_equal(sys_readlink(dirfd, "link", target, sizeof(target)), 8);
	assert_memory_equal(target, "a target", 8);
	assert_int_equal(sys_readlink(dirfd, "link", target, 3), 3);
	link = sys_open(dirfd, "link", O_PATH, 0);
	assert_int_equal(sys_readlink(link, "", target, sizeof(target)), 8);
	assert_int_equal(sys_stat(dirfd, "link", &st), 0);
	assert_true(S_ISLNK(st.stx_mode));
	assert_int_equal(sys_link(dirfd, "fifo", dirfd, "dir/fifo2"), 0);
	assert_int_equal(sys_stat(dirfd, "fifo", &st), 0);
	assert_int_equal(st.stx_nlink, 2);
	assert_int_equal(sys_rename(dirfd, "fifo", dirfd, "link", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(sys_rename(dirfd, "fifo", dirfd, "link", RENAME_EXCHANGE), 0);
	assert_int_equal(sys_unlink(dirfd, "dir"), -EISDIR);
	assert_int_equal(sys_rmdir(dirfd, "dir"), -ENOTEMPTY);
	assert_int_equal(sys_unlink(dirfd, "dir/fifo2"), 0);
	assert_int_equal(sys_rmdir(dirfd, "dir"), 0);
	assert_int_equal(sys_unlink(dirfd, "link"), 0);
	assert_int_equal(sys_unlink(dirfd, "link"), -ENOENT);
	if (unit_is_root()) {
		assert_int_equal(sys_link(link, "", dirfd, "again"), 0);
		assert_int_equal(sys_mknod(dirfd, "null", S_IFCHR | 0600, makedev(1, 300)), 0);
		assert_int_equal(sys_stat(dirfd, "null", &st), 0);
		assert_true(sys_stat_rdev(&st) == makedev(1, 300));
	}
}

/* Longer than any call takes: as `veneer` finds it when started deep down. */
static void test_open_long_path(void **state)
{
	struct unit_scratch *scratch = *state;
	_cleanup_close_ int dir = dup(scratch->fd), opened = -1;
	char name[201], path[8192];
	struct statx a, b;
	size_t length;

	memset(name, 'd', 200);
	name[200] = '\0';
	length = (size_t)snprintf(path, sizeof(path), "%s", scratch->path);
	for (int i = 0; i < 30; i++) {
		int next;

		assert_int_equal(sys_mkdir(dir, name, 0755), 0);
		next = sys_open(dir, name, O_RDONLY | O_DIRECTORY, 0);
		assert_true(next >= 0);
		close(dir);
		dir = next;
		length += (size_t)snprintf(path + length, sizeof(path) - length, "//%s", name);
	}
	strcpy(path + length, "/");
	assert_true(length > PATH_MAX);
	opened = sys_open_path(path, O_RDONLY | O_DIRECTORY);
	assert_true(opened >= 0);
	assert_int_equal(sys_stat(dir, "", &a), 0);
	assert_int_equal(sys_stat(opened, "", &b), 0);
	assert_true(a.stx_ino == b.stx_ino && sys_stat_dev(&a) == sys_stat_dev(&b));
	strcpy(path + length, "/none");
	assert_int_equal(sys_open_path(path, O_RDONLY), -ENOENT);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(sys_open_path(path, O_RDONLY), -ENAMETOOLONG);
	/* Too deep for nftw in the teardown. */
	close(dir);
	dir = dup(scratch->fd);
	for (int i = 0; i < 30; i++) {
		int next = sys_open(dir, name, O_RDONLY | O_DIRECTORY, 0);

		close(dir);
		dir = next;
	}
	for (int i = 0; i < 30; i++) {
		int up = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		assert_int_equal(sys_rmdir(up, name), 0);
		close(dir);
		dir = up;
	}
}

static void test_attributes_of_path_fd(void **state)
{
	int dirfd = scratch_fd(state);
	const struct timespec times[2] = { { .tv_sec = 1, .tv_nsec = 2 },
					   { .tv_sec = 3, .tv_nsec = 4 } };
	_cleanup_close_ int file = -1, link = -1;
	struct statx st;

	unit_write(dirfd, "file", "x");
	assert_int_equal(sys_symlink("file", dirfd, "link"), 0);
	file = sys_open(dirfd, "file", O_PATH, 0);
	link = sys_open(dirfd, "link", O_PATH, 0);
	assert_int_equal(sys_chmod(file, 06711), 0);
	assert_int_equal(sys_utimens(file, times), 0);
	assert_int_equal(sys_utimens(link, times), 0);
	assert_int_equal(sys_stat(file, "", &st), 0);
	assert_int_equal(st.stx_mode, S_IFREG | 06711);
	assert_int_equal(st.stx_mtime.tv_sec, 3);
	assert_int_equal(st.stx_mtime.tv_nsec, 4);
	assert_int_equal(sys_stat(link, "", &st), 0);
	assert_int_equal(st.stx_atime.tv_sec, 1);
	assert_int_equal(sys_chown(link, (uid_t)-1, (gid_t)-1), 0);
	if (unit_is_root()) {
		assert_int_equal(sys_chown(link, 12, 34), 0);
		assert_int_equal(sys_stat(link, "", &st), 0);
		assert_int_equal(st.stx_uid, 12);
		assert_int_equal(st.stx_gid, 34);
		assert_int_equal(sys_stat(file, "", &st), 0);
		assert_int_equal(st.stx_uid, 0);
	}
}

static void test_data(void **state)
{
	_cleanup_close_ int fd = sys_open(scratch_fd(state), "file", O_RDWR | O_CREAT, 0600);
	struct statvfs vfs;
	char buf[16];
	long magic;

	assert_int_equal(sys_truncate(fd, 1 << 20), 0);
	assert_int_equal(sys_pwrite(fd, "data", 4, 512 << 10), 4);
	assert_int_equal(sys_pread(fd, buf, 16, 512 << 10), 16);
	assert_memory_equal(buf, "data\0", 5);
	assert_int_equal(sys_pread(fd, buf, 16, (1 << 20) - 3), 3);
	assert_int_equal(sys_pread(fd, buf, 16, 1 << 20), 0);
	assert_int_equal(sys_pread(-1, buf, 16, 0), -EBADF);
	assert_int_equal(sys_seek(fd, 1 << 20, SEEK_DATA), -ENXIO);
	assert_int_equal(sys_seek(fd, 0, SEEK_END), 1 << 20);
	assert_int_equal(sys_fallocate(fd, 0, 0, 2 << 20), 0);
	assert_int_equal(sys_fsync(fd, true), 0);
	assert_int_equal(sys_fsync(fd, false), 0);
	assert_int_equal(sys_syncfs(fd), 0);
	assert_int_equal(sys_statvfs(fd, &vfs), 0);
	assert_int_equal(vfs.f_namemax, 255);
	assert_int_equal(sys_fs_magic(fd, &magic), 0);
	assert_int_not_equal(magic, 0);
	assert_int_equal(sys_fs_magic(-1, &magic), -EBADF);
}

static void test_flags_and_lock(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int a = sys_open(dirfd, "file", O_RDWR | O_CREAT, 0600);
	_cleanup_close_ int b = sys_open(dirfd, "file", O_RDONLY, 0);
	unsigned int flags;
	int r;

	assert_int_equal(sys_flock_exclusive(a), 0);
	assert_int_equal(sys_flock_exclusive(a), 0);
	assert_int_equal(sys_flock_exclusive(b), -EWOULDBLOCK);
	assert_true(sys_raise_nofile() >= 256);
	r = sys_get_fsflags(a, &flags);
	if (r == -ENOTTY || r == -EOPNOTSUPP)
		unit_skip("no file flags here");
	assert_int_equal(r, 0);
	assert_int_equal(sys_set_fsflags(a, flags | FS_NOATIME_FL), 0);
	assert_int_equal(sys_get_fsflags(b, &flags), 0);
	assert_true(flags & FS_NOATIME_FL);
}

/* --- directories ---------------------------------------------------------------------- */

static int count_entry(const struct sys_dirent *entry, void *context)
{
	unsigned int number;

	assert_int_equal(strlen(entry->name), entry->name_length);
	assert_int_equal(sscanf(entry->name, "entry-%u", &number), 1);
	((unsigned char *)context)[number]++;
	return number == 4999 ? 77 : 0;
}

static void test_dir_for_each(void **state)
{
	int dirfd = scratch_fd(state);
	unsigned char seen[5000] = { 0 };
	char name[32];

	for (int i = 0; i < 4000; i++) {
		snprintf(name, sizeof(name), "entry-%d", i);
		assert_int_equal(sys_mknod(dirfd, name, S_IFREG | 0600, 0), 0);
	}
	/* Twice: always from the start. */
	for (int round = 1; round <= 2; round++) {
		assert_int_equal(sys_dir_for_each(dirfd, count_entry, seen), 0);
		for (int i = 0; i < 4000; i++)
			assert_int_equal(seen[i], round);
	}
	assert_int_equal(sys_mknod(dirfd, "entry-4999", S_IFREG | 0600, 0), 0);
	assert_int_equal(sys_dir_for_each(dirfd, count_entry, seen), 77);
	assert_int_equal(sys_dir_for_each(-1, count_entry, seen), -EBADF);
}

static void test_dir_resume(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int dir = sys_open(dirfd, "", O_RDONLY | O_DIRECTORY, 0);
	struct sys_dirent entry;
	char buf[4096], second[256];
	size_t position = 0;
	int size;

	unit_write(dirfd, "one", "");
	unit_write(dirfd, "two", "");
	size = sys_getdents(dir, buf, sizeof(buf));
	assert_true(size > 0);
	assert_int_equal(sys_dirent_next(buf, (size_t)size, &position, &entry), 1);
	assert_int_equal(sys_seek(dir, (off_t)entry.offset, SEEK_SET), entry.offset);
	assert_int_equal(sys_dirent_next(buf, (size_t)size, &position, &entry), 1);
	strcpy(second, entry.name);
	size = sys_getdents(dir, buf, sizeof(buf));
	position = 0;
	assert_int_equal(sys_dirent_next(buf, (size_t)size, &position, &entry), 1);
	assert_string_equal(entry.name, second);
}

static void test_dirent_malformed(void **state)
{
	_Alignas(8) char buf[64] = { 0 };
	struct sys_dirent entry;
	size_t position = 0;
	uint16_t length = 24;

	(void)state;
	memcpy(buf + 16, &length, 2);
	strcpy(buf + 19, "abcd");
	assert_int_equal(sys_dirent_next(buf, 24, &position, &entry), 1);
	assert_string_equal(entry.name, "abcd");
	assert_int_equal(sys_dirent_next(buf, 24, &position, &entry), 0);
	/* Cut short, no name, no end of the name, a length of zero. */
	for (size_t size = 1; size < 24; size++) {
		position = 0;
		assert_int_equal(sys_dirent_next(buf, size, &position, &entry), -EIO);
	}
	position = 0;
	buf[19] = '\0';
	assert_int_equal(sys_dirent_next(buf, 24, &position, &entry), -EIO);
	memcpy(buf + 19, "abcde", 5);
	assert_int_equal(sys_dirent_next(buf, 24, &position, &entry), -EIO);
	length = 0;
	memcpy(buf + 16, &length, 2);
	assert_int_equal(sys_dirent_next(buf, 24, &position, &entry), -EIO);
}

/* --- extended attributes -------------------------------------------------------------- */

static void check_xattrs(int fd, const char *key)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_free_ char *value = NULL;
	char large[2000], buf[16];

	memset(large, 'v', sizeof(large));
	assert_int_equal(sys_getxattr(fd, key, buf, sizeof(buf)), -ENODATA);
	assert_int_equal(sys_setxattr(fd, key, "12345", 5, XATTR_CREATE), 0);
	assert_int_equal(sys_setxattr(fd, key, "12345", 5, XATTR_CREATE), -EEXIST);
	assert_int_equal(sys_getxattr(fd, key, NULL, 0), 5);
	assert_int_equal(sys_getxattr(fd, key, buf, 3), -ERANGE);
	assert_int_equal(sys_getxattr(fd, key, buf, sizeof(buf)), 5);
	assert_int_equal(sys_getxattr_alloc(fd, key, &value), 5);
	assert_string_equal(value, "12345");
	free(ptr_take(value));
	assert_int_equal(sys_setxattr(fd, key, large, sizeof(large), 0), 0);
	assert_int_equal(sys_getxattr_alloc(fd, key, &value), sizeof(large));
	assert_memory_equal(value, large, sizeof(large));
	free(ptr_take(value));
	assert_int_equal(sys_setxattr(fd, key, "", 0, 0), 0);
	assert_int_equal(sys_getxattr_alloc(fd, key, &value), 0);
	assert_string_equal(value, "");
	assert_true(sys_listxattr(fd, NULL, 0) >= (ssize_t)strlen(key) + 1);
	assert_true(sys_listxattr_alloc(fd, &list) >= (ssize_t)strlen(key) + 1);
	assert_int_equal(sys_removexattr(fd, key), 0);
	assert_int_equal(sys_removexattr(fd, key), -ENODATA);
}

static void test_xattr(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int file = -1, path = -1, dir_path = -1, link = -1;
	char buf[8];

	unit_write(dirfd, "file", "x");
	assert_int_equal(sys_symlink("file", dirfd, "link"), 0);
	file = sys_open(dirfd, "file", O_RDWR, 0);
	path = sys_open(dirfd, "file", O_PATH, 0);
	dir_path = sys_open(dirfd, ".", O_PATH, 0);
	check_xattrs(file, "user.key");
	check_xattrs(path, "user.key");
	check_xattrs(dirfd, "user.key");
	check_xattrs(dir_path, "user.key");
	if (unit_is_root()) {
		link = sys_open(dirfd, "link", O_PATH, 0);
		check_xattrs(link, "trusted.key");
		assert_int_equal(sys_setxattr(link, "trusted.key", "link", 4, 0), 0);
		assert_int_equal(sys_getxattr_at(dirfd, "link", "trusted.key", buf, 8), 4);
		assert_int_equal(sys_getxattr_at(dir_path, "link", "trusted.key", buf, 8), 4);
		assert_int_equal(sys_getxattr_at(dirfd, "file", "trusted.key", buf, 8), -ENODATA);
		assert_int_equal(sys_getxattr_at(link, "", "trusted.key", buf, 8), 4);
	}
	assert_int_equal(sys_setxattr(path, "user.key", "file", 4, 0), 0);
	assert_int_equal(sys_getxattr_at(dir_path, "file", "user.key", NULL, 0), 4);
	assert_int_equal(sys_getxattr_at(dir_path, "file", "user.key", buf, 2), -ERANGE);
	assert_int_equal(sys_getxattr_at(dir_path, "none", "user.key", buf, 8), -ENOENT);

	_cleanup_free_ char *list = NULL, *same = NULL;
	ssize_t size = sys_listxattr_alloc_at(dir_path, "file", &list);

	assert_true(size >= (ssize_t)sizeof("user.key"));
	assert_int_equal(sys_listxattr_alloc_at(path, "", &same), size);
	assert_memory_equal(list, same, size);
	assert_int_equal(sys_listxattr_alloc_at(dir_path, "none", &same), -ENOENT);
}

/* --- handles -------------------------------------------------------------------------- */

static void test_handle(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int root = sys_open(dirfd, ".", O_PATH | O_DIRECTORY, 0), fd = -1,
			    path = -1;
	struct sys_handle by_name, by_fd;
	struct statx a, b;
	int r;

	unit_write(dirfd, "file", "x");
	path = sys_open(dirfd, "file", O_PATH, 0);
	r = sys_handle_get(dirfd, "file", &by_name);
	if (r == -EOPNOTSUPP)
		unit_skip("no file handles here");
	assert_int_equal(r, 0);
	assert_int_equal(sys_handle_get(path, "", &by_fd), 0);
	assert_int_equal(by_name.type, by_fd.type);
	assert_int_equal(by_name.size, by_fd.size);
	assert_memory_equal(by_name.bytes, by_fd.bytes, by_fd.size);
	assert_int_equal(sys_handle_get(dirfd, "none", &by_fd), -ENOENT);
	if (!sys_creds_has_cap(CAP_DAC_READ_SEARCH))
		unit_skip("opening by handle needs CAP_DAC_READ_SEARCH");
	assert_int_equal(sys_rename(dirfd, "file", dirfd, "moved", 0), 0);
	fd = sys_handle_open(root, &by_name, O_PATH);
	if (fd == -EPERM)
		unit_skip("opening by handle is not allowed in a user namespace");
	assert_true(fd >= 0);
	assert_int_equal(sys_stat(fd, "", &a), 0);
	assert_int_equal(sys_stat(dirfd, "moved", &b), 0);
	assert_true(a.stx_ino == b.stx_ino);
	cleanup_close(&fd);
	cleanup_close(&path);
	path = -1;
	assert_int_equal(sys_unlink(dirfd, "moved"), 0);
	fd = sys_handle_open(dirfd, &by_name, O_PATH);
	assert_int_equal(fd, -ESTALE);
	by_name.size = SYS_HANDLE_MAX + 1;
	assert_int_equal(sys_handle_open(dirfd, &by_name, O_PATH), -EINVAL);
}

static void test_fs_uuid(void **state)
{
	uint8_t uuid[16] = { 0 };
	int r = sys_fs_uuid(scratch_fd(state), uuid);

	assert_true(r == 0 || r == -ENODATA);
	assert_int_equal(sys_fs_uuid(-1, uuid), -ENODATA);
}

/* --- copying -------------------------------------------------------------------------- */

struct copy_watch {
	unsigned int asked, interrupt_at;
	uint64_t done;
	int truncate_fd; /* the source is cut to nothing at the third step */
};

static bool watch_interrupt(void *context)
{
	struct copy_watch *watch = context;

	watch->asked++;
	if (watch->truncate_fd >= 0 && watch->asked == 3)
		assert_int_equal(sys_truncate(watch->truncate_fd, 0), 0);
	return watch->asked == watch->interrupt_at;
}

static void watch_progress(void *context, uint64_t done)
{
	struct copy_watch *watch = context;

	assert_true(done >= watch->done);
	watch->done = done;
}

static void check_same(int a, int b, uint64_t size)
{
	char x[65536], y[65536];

	for (uint64_t at = 0; at < size; at += sizeof(x)) {
		size_t length = MIN(sizeof(x), size - at);
		ssize_t got = sys_pread(a, x, length, (off_t)at);

		/* Behind the end of the source the copy is a hole. */
		assert_true(got >= 0);
		memset(x + got, 0, sizeof(x) - (size_t)got);
		assert_int_equal(sys_pread(b, y, length, (off_t)at), length);
		assert_memory_equal(x, y, length);
	}
	assert_int_equal(sys_seek(b, 0, SEEK_END), size);
}

/* @pieces MiB of data, one in four of them a hole, and 123 bytes. */
static int make_source(int dirfd, const char *name, unsigned int pieces)
{
	int fd = sys_open(dirfd, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	_cleanup_free_ char *piece = malloc(1 << 20);
	unsigned int random = 1;

	assert_true(fd >= 0);
	for (unsigned int i = 0; i < pieces; i++) {
		if (i % 4 == 1)
			continue;
		for (size_t at = 0; at < 1 << 20; at++)
			piece[at] = (char)rand_r(&random);
		assert_int_equal(sys_pwrite(fd, piece, 1 << 20, (off_t)i << 20), 1 << 20);
	}
	assert_int_equal(sys_truncate(fd, ((off_t)pieces << 20) + 123), 0);
	return fd;
}

static void check_copy(int from, int to, uint64_t size)
{
	struct copy_watch watch = { .truncate_fd = -1 };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = size,
				 .context = &watch,
				 .is_interrupted = watch_interrupt,
				 .progress = watch_progress };

	assert_int_equal(sys_truncate(to, 0), 0);
	assert_int_equal(sys_copy_data(&copy), 0);
	check_same(from, to, size);
	assert_true(watch.done == size);
}

static void check_copy_sizes(int from, int to)
{
	struct statx source, copied;

	check_copy(from, to, (8 << 20) + 123);
	assert_int_equal(sys_stat(from, "", &source), 0);
	assert_int_equal(sys_stat(to, "", &copied), 0);
	/* Holes stay holes: 2 of the 8 MiB. */
	assert_true(copied.stx_blocks <= source.stx_blocks + 64);
	check_copy(from, to, 0);
	check_copy(from, to, 1);
	check_copy(from, to, 4096);
	check_copy(from, to, (5 << 20) + 7);
	check_copy(from, to, 9 << 20);
}

static void test_copy(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 8);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);

	check_copy_sizes(from, to);
}

/* Between file systems the kernel refuses to copy, and we copy by hand. */
static void test_copy_across(void **state)
{
	_cleanup_close_ int from = make_source(scratch_fd(state), "from", 8);
	_cleanup_close_ int to = sys_open_path("/dev/shm", O_RDONLY | O_DIRECTORY);

	if (to >= 0) {
		int tmp = sys_open(to, "", O_TMPFILE | O_RDWR, 0600);

		cleanup_close(&to);
		to = tmp;
	}
	if (to < 0)
		unit_skip("no /dev/shm");
	check_copy_sizes(from, to);
}

static void test_copy_interrupted(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 6);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	struct copy_watch watch = { .interrupt_at = 3, .truncate_fd = -1 };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = 6 << 20,
				 .context = &watch,
				 .is_interrupted = watch_interrupt,
				 .progress = watch_progress };
	int r = sys_copy_data(&copy);

	if (r == 0 && watch.asked == 0)
		unit_skip("a reflink is over at once");
	assert_int_equal(r, -EINTR);
	assert_int_equal(watch.asked, 3);
}

static void test_copy_of_shrinking_source(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 8);
	_cleanup_close_ int to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	struct copy_watch watch = { .truncate_fd = from };
	struct sys_copy copy = { .from = from,
				 .to = to,
				 .size = (8 << 20) + 123,
				 .context = &watch,
				 .is_interrupted = watch_interrupt };

	assert_int_equal(sys_copy_data(&copy), 0);
	assert_int_equal(sys_seek(to, 0, SEEK_END), (8 << 20) + 123);
}

static void test_copy_errors(void **state)
{
	int dirfd = scratch_fd(state);
	_cleanup_close_ int from = make_source(dirfd, "from", 1);
	_cleanup_close_ int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	_cleanup_close_ int read_only = sys_open(dirfd, "from", O_RDONLY, 0);
	struct sys_copy copy = { .from = from, .to = full, .size = 4096 };

	assert_int_equal(sys_copy_data(&copy), -ENOSPC);
	copy.to = read_only;
	assert_true(sys_copy_data(&copy) < 0);
	copy.from = -1;
	assert_int_equal(sys_copy_data(&copy), -EBADF);
}

/* --- reflink, on a file system that has it --------------------------------------------- */

enum {
	CHILD_OK,
	CHILD_NO_RIGHTS,
	CHILD_WRONG
};

static int copy_on_reflink(void *argument)
{
	const struct unit_scratch *scratch = argument;
	_cleanup_close_ int dirfd = -1, from = -1, to = -1;
	struct copy_watch watch = { .truncate_fd = -1 };
	struct sys_copy copy = { .size = (8 << 20) + 123,
				 .context = &watch,
				 .is_interrupted = watch_interrupt };

	if (!unit_own_mounts() || chdir(scratch->path) < 0 || mkdir("m", 0755) < 0 ||
	    system("truncate -s 400M image && mkfs.xfs -q image && mount -o loop image m") != 0)
		return CHILD_NO_RIGHTS;
	dirfd = sys_open(AT_FDCWD, "m", O_RDONLY | O_DIRECTORY, 0);
	from = make_source(dirfd, "from", 8);
	to = sys_open(dirfd, "to", O_RDWR | O_CREAT, 0600);
	copy.from = from;
	copy.to = to;
	if (sys_copy_data(&copy) != 0 || watch.asked != 0)
		return CHILD_WRONG;
	check_copy_sizes(from, to);
	return CHILD_OK;
}

static void test_copy_reflink(void **state)
{
	int result = unit_fork(copy_on_reflink, *state);

	if (result == CHILD_NO_RIGHTS)
		unit_skip("cannot make and mount an xfs image here");
	assert_int_equal(result, CHILD_OK);
}

/* --- mounts --------------------------------------------------------------------------- */

#define child_check(condition)                                                  \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			return CHILD_WRONG;                                     \
		}                                                               \
	} while (0)

static int clone_mounts(void *argument)
{
	const struct unit_scratch *scratch = argument;
	_cleanup_close_ int source = -1, ro = -1, rw = -1, fd = -1;
	unsigned long long id_a, id_b;
	struct statx st;

	if (!unit_own_mounts() || chdir(scratch->path) < 0 || mkdir("m", 0755) < 0 ||
	    sys_mount("tmpfs", "m", "tmpfs", 0, "size=1M") < 0)
		return CHILD_NO_RIGHTS;
	/* Shared, as systemd makes them: events must not reach the clones all the same. */
	child_check(mount(NULL, "m", NULL, MS_SHARED, NULL) == 0);
	child_check(mkdir("m/sub", 0755) == 0 && mkdir("m/sub/below", 0755) == 0);
	source = sys_open(AT_FDCWD, "m/sub", O_PATH | O_DIRECTORY, 0);
	ro = sys_mount_clone(source, SYS_CLONE_READ_ONLY);
	rw = sys_mount_clone(source, 0);
	child_check(ro >= 0 && rw >= 0);
	child_check(sys_mount_id(ro, &id_a) == 0 && sys_mount_id(rw, &id_b) == 0 && id_a != id_b);
	child_check(sys_mkdir(ro, "new", 0755) == -EROFS);
	child_check(sys_mkdir(rw, "new", 0755) == 0);
	child_check(sys_stat(ro, "new", &st) == 0);
	child_check(sys_stat(ro, "..", &st) == 0);
	child_check(sys_mount("tmpfs", "m/sub/below", "tmpfs", 0, "size=1M") == 0);
	child_check(mkdir("m/sub/below/in-tmpfs", 0755) == 0);
	child_check(sys_stat(ro, "below/in-tmpfs", &st) == -ENOENT);
	child_check(sys_unmount("m/sub/below", false) == 0);
	child_check(sys_unmount("m", false) == -EBUSY);
	child_check(sys_unmount("m", true) == 0);
	/* The clones live on. */
	fd = sys_open(rw, "file", O_RDWR | O_CREAT, 0600);
	child_check(fd >= 0);
	return CHILD_OK;
}

static void test_mount_clone(void **state)
{
	int result = unit_fork(clone_mounts, *state);

	if (result == CHILD_NO_RIGHTS)
		unit_skip("mounting is not allowed here");
	assert_int_equal(result, CHILD_OK);
}

/* --- credentials ---------------------------------------------------------------------- */

static void *umask_thread(void *argument)
{
	const int *dirfd = argument;
	struct statx st = { 0 };

	if (sys_creds_init_thread() < 0)
		return NULL;
	sys_creds_act_as(1000, 2000, 027);
	if (sys_mknod(*dirfd, "thread", S_IFREG | 0666, 0) == 0)
		sys_stat(*dirfd, "thread", &st);
	sys_creds_restore();
	return st.stx_mode == (S_IFREG | 0640) && st.stx_uid == 1000 && st.stx_gid == 2000 ?
		       argument :
		       NULL;
}

static int act_as_others(void *argument)
{
	int dirfd = ((const struct unit_scratch *)argument)->fd;
	pthread_t thread;
	struct statx st;
	void *result;

	if (sys_creds_init() < 0)
		return CHILD_NO_RIGHTS;
	child_check(fchmod(dirfd, 0700) == 0);
	/* Ids change, rights do not: the directory is root's alone. */
	sys_creds_act_as(1000, 2000, 022);
	child_check(sys_creds_has_cap(CAP_DAC_OVERRIDE));
	child_check(sys_mkdir(dirfd, "a", 0777) == 0);
	sys_creds_act_as(1001, 2000, 077);
	child_check(sys_mkdir(dirfd, "b", 0777) == 0);
	sys_creds_restore();
	child_check(sys_mkdir(dirfd, "c", 0777) == 0);
	child_check(sys_stat(dirfd, "a", &st) == 0);
	child_check(st.stx_uid == 1000 && st.stx_gid == 2000 && st.stx_mode == (S_IFDIR | 0755));
	child_check(sys_stat(dirfd, "b", &st) == 0);
	child_check(st.stx_uid == 1001 && st.stx_gid == 2000 && st.stx_mode == (S_IFDIR | 0700));
	child_check(sys_stat(dirfd, "c", &st) == 0);
	child_check(st.stx_uid == 0 && st.stx_gid == 0 && st.stx_mode == (S_IFDIR | 0777));
	/* What a thread does stays in that thread. */
	child_check(pthread_create(&thread, NULL, umask_thread, &dirfd) == 0);
	pthread_join(thread, &result);
	child_check(result);
	child_check(sys_mkdir(dirfd, "d", 0777) == 0);
	child_check(sys_stat(dirfd, "d", &st) == 0);
	child_check(st.stx_uid == 0 && st.stx_mode == (S_IFDIR | 0777));
	return CHILD_OK;
}

static void test_creds(void **state)
{
	int result;

	if (!unit_is_root())
		unit_skip("needs root");
	result = unit_fork(act_as_others, *state);
	if (result == CHILD_NO_RIGHTS)
		unit_skip("may not change ids");
	assert_int_equal(result, CHILD_OK);
}

/* An ordinary user: init says so, and only the umask changes. */
static int act_without_rights(void *argument)
{
	int dirfd = ((const struct unit_scratch *)argument)->fd;
	struct statx st;

	child_check(fchmod(dirfd, 0777) == 0);
	if (unit_is_root())
		child_check(setgid(65534) == 0 && setuid(65534) == 0);
	child_check(sys_creds_init() == -EPERM);
	child_check(!sys_creds_has_cap(CAP_SETUID));
	sys_creds_act_as(0, 0, 037);
	child_check(sys_mkdir(dirfd, "a", 0777) == 0);
	sys_creds_restore();
	child_check(sys_stat(dirfd, "a", &st) == 0);
	child_check(st.stx_uid == geteuid() && st.stx_mode == (S_IFDIR | 0740));
	return CHILD_OK;
}

static void test_creds_without_rights(void **state)
{
	if (geteuid() == 0 && !unit_is_root())
		unit_skip("root of a user namespace can become nobody else");
	assert_int_equal(unit_fork(act_without_rights, *state), CHILD_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_scratch(test_open_stays_beneath),
		with_scratch(test_reopen),
		with_scratch(test_names),
		with_scratch(test_open_long_path),
		with_scratch(test_attributes_of_path_fd),
		with_scratch(test_data),
		with_scratch(test_flags_and_lock),
		with_scratch(test_dir_for_each),
		with_scratch(test_dir_resume),
		cmocka_unit_test(test_dirent_malformed),
		with_scratch(test_xattr),
		with_scratch(test_handle),
		with_scratch(test_fs_uuid),
		with_scratch(test_copy),
		with_scratch(test_copy_across),
		with_scratch(test_copy_interrupted),
		with_scratch(test_copy_of_shrinking_source),
		with_scratch(test_copy_errors),
		with_scratch(test_copy_reflink),
		with_scratch(test_mount_clone),
		with_scratch(test_creds),
		with_scratch(test_creds_without_rights),
	};

	return cmocka_run_group_tests_name("sys", tests, NULL, NULL);
}
