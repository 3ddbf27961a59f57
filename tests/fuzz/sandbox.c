/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fuzz.h"

static int sandbox_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t r = fd < 0 ? -1 : write(fd, text, strlen(text));
	int error = r < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

/* Root of a user namespace of our own, where we are not root already. */
static int sandbox_become_root(void)
{
	char map[2][64];

	if (geteuid() == 0)
		return 0;
	snprintf(map[0], sizeof(map[0]), "0 %u 1", geteuid());
	snprintf(map[1], sizeof(map[1]), "0 %u 1", getegid());
	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	int r = sandbox_write("/proc/self/setgroups", "deny");

	r = r < 0 ? r : sandbox_write("/proc/self/uid_map", map[0]);
	return r < 0 ? r : sandbox_write("/proc/self/gid_map", map[1]);
}

static int sandbox_seal(void)
{
	struct mount_attr seal = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV };
	struct mount_attr unseal = { .attr_clr = MOUNT_ATTR_RDONLY };
	const char *out = getenv("FUZZ_OUT");

	if (out && mount(out, out, NULL, MS_BIND, NULL) < 0)
		return -errno;
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &seal, sizeof(seal)) < 0)
		return -errno;
	if (out && mount_setattr(AT_FDCWD, out, 0, &unseal, sizeof(unseal)) < 0)
		return -errno;
	return 0;
}

int sandbox_enter(void)
{
	int r = sandbox_become_root();

	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	r = sandbox_seal();
	if (r < 0)
		return r;
	if (mount("tmpfs", SANDBOX_ROOT, "tmpfs", MS_NODEV | MS_NOSUID, "size=1m") < 0)
		return -errno;
	return 0;
}

void sandbox_renew(void)
{
	fuzz_check(umount2(SANDBOX_ROOT, MNT_DETACH) == 0);
	fuzz_check(mount("tmpfs", SANDBOX_ROOT, "tmpfs", MS_NODEV | MS_NOSUID,
			 "size=16m,nr_inodes=2000") == 0);
}
