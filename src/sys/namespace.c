/* SPDX-License-Identifier: MIT */
#include "sys/namespace.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/creds.h"
#include "sys/file.h"

#define SYS_MAP_MAX 4096
#define SYS_MAP_PATH_MAX 64
#define SYS_OVERFLOW_DEFAULT 65534
#define SYS_OVERFLOW_ID "/proc/sys/kernel/overflowuid"

int sys_unshare(int flags)
{
	return (int)sys_retry(unshare(flags));
}

/* ---- ids ---- */

/* A small file of /proc, as a string. */
static int sys_proc_read(const char *path, char *text, size_t size)
{
	_cleanup_close_ int fd = sys_open_path(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? fd : sys_pread(fd, text, size - 1, 0);

	if (length < 0)
		return (int)length;
	text[length] = '\0';
	return 0;
}

/* These files take one write(2). */
static int sys_proc_write(pid_t pid, const char *name, const char *text)
{
	char path[SYS_MAP_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	_cleanup_close_ int fd = sys_open_path(path, O_WRONLY | O_CLOEXEC);
	long r = fd < 0 ? fd : sys_retry(write(fd, text, strlen(text)));

	return r < 0 ? (int)r : 0;
}

/* Calls @visit for each range of /proc/self/@name that has ids in our namespace. */
static int sys_map_for_each(const char *path,
			    bool (*visit)(unsigned int first, unsigned int count, void *context),
			    void *context)
{
	char text[SYS_MAP_MAX], *save = NULL;
	int r = sys_proc_read(path, text, sizeof(text));

	for (char *line = r < 0 ? NULL : strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned int first, outside, count;

		if (sscanf(line, "%u %u %u", &first, &outside, &count) == 3 &&
		    !visit(first, count, context))
			break;
	}
	return r;
}

struct sys_map {
	char text[SYS_MAP_MAX];
	size_t length;
};

static bool sys_map_add(unsigned int first, unsigned int count, void *context)
{
	struct sys_map *map = context;
	size_t room = sizeof(map->text) - map->length;
	int size = snprintf(map->text + map->length, room, "%u %u %u\n", first, first, count);

	if (size < 0 || (size_t)size >= room)
		return false;
	map->length += (size_t)size;
	return true;
}

/* @own: the only one, unless we may map them all. */
static int sys_map_write(pid_t pid, const char *name, const char *ours, bool all, unsigned int own)
{
	struct sys_map map = { .length = 0 };
	int r = 0;

	if (all)
		r = sys_map_for_each(ours, sys_map_add, &map);
	else
		sys_map_add(own, 1, &map);
	return r < 0 ? r : sys_proc_write(pid, name, map.text);
}

int sys_map_ids(pid_t pid)
{
	bool all_users = sys_creds_has_cap(CAP_SETUID), all_groups = sys_creds_has_cap(CAP_SETGID);
	int r = sys_map_write(pid, "uid_map", "/proc/self/uid_map", all_users, geteuid());

	/* Else a group could be given up that a file denies something to. */
	if (r == 0 && !all_groups)
		r = sys_proc_write(pid, "setgroups", "deny");
	return r < 0 ? r :
		       sys_map_write(pid, "gid_map", "/proc/self/gid_map", all_groups, getegid());
}

struct sys_id {
	unsigned int id;
	bool is_mapped;
};

static bool sys_map_has(unsigned int first, unsigned int count, void *context)
{
	struct sys_id *id = context;

	id->is_mapped = id->id >= first && id->id - first < count;
	return !id->is_mapped;
}

unsigned int sys_overflow_id(void)
{
	char text[SYS_MAP_PATH_MAX];
	unsigned int id;

	return sys_proc_read(SYS_OVERFLOW_ID, text, sizeof(text)) == 0 &&
			       sscanf(text, "%u", &id) == 1 ?
		       id :
		       SYS_OVERFLOW_DEFAULT;
}

bool sys_ids_are_partial(void)
{
	struct sys_id overflow = { .id = sys_overflow_id() };

	if (sys_creds_is_initial_userns())
		return false;
	return sys_map_for_each("/proc/self/uid_map", sys_map_has, &overflow) == 0 &&
	       !overflow.is_mapped;
}

/* ---- mounts ---- */

int sys_mounts_isolate(void)
{
	return (int)sys_retry(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
}

int sys_mount_bind(const char *from, const char *to, bool recursive)
{
	return (int)sys_retry(mount(from, to, NULL, MS_BIND | (recursive ? MS_REC : 0), NULL));
}

int sys_pivot_root(void)
{
	/* With both the same directory the old root ends up on top of the new one. */
	int r = (int)sys_retry(syscall(SYS_pivot_root, ".", "."));

	return r < 0 ? r : (int)sys_retry(umount2(".", MNT_DETACH));
}

/* ---- network ---- */

int sys_loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	_cleanup_close_ int fd = (int)sys_retry(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	return fd < 0 ? fd : (int)sys_retry(ioctl(fd, SIOCSIFFLAGS, &request));
}
