/* SPDX-License-Identifier: MIT */
/* Files, directories, attributes and handles. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/creds.h"
#include "sys/dir.h"
#include "sys/file.h"
#include "sys/handle.h"
#include "sys/xattr.h"

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
	};

	return cmocka_run_group_tests_name("sys", tests, NULL, NULL);
}
