/* SPDX-License-Identifier: MIT */
/* What takes rights: mounts, and acting as somebody else. */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/creds.h"
#include "sys/file.h"
#include "sys/mount.h"

/* --- mounts --------------------------------------------------------------------------- */

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
		with_scratch(test_mount_clone),
		with_scratch(test_creds),
		with_scratch(test_creds_without_rights),
	};

	return cmocka_run_group_tests_name("sys rights", tests, NULL, NULL);
}
