/* SPDX-License-Identifier: MIT */
/*
 * The raw system calls, because glibc's setfsuid is per thread as well but its
 * siblings are not: nothing here may ever reach another thread.
 */
#include "sys/creds.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"

/* More than /proc/PID/status can be with the most groups there are; only what is read costs. */
#define SYS_CREDS_STATUS_SIZE (1 << 20)

/* The process' own, written once by sys_creds_init() before there are threads. */
static struct {
	bool can_change_ids;
	uid_t uid;
	gid_t gid;
} sys_creds_own;

/* What is in force in this thread; valid once `known`. */
static _Thread_local struct {
	bool known;
	uid_t uid;
	gid_t gid;
	mode_t umask;
} sys_creds_now;

bool sys_creds_has_cap(int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap);
}

int sys_creds_drop_cap(int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	data[CAP_TO_INDEX(cap)].effective &= ~CAP_TO_MASK(cap);
	data[CAP_TO_INDEX(cap)].permitted &= ~CAP_TO_MASK(cap);
	data[CAP_TO_INDEX(cap)].inheritable &= ~CAP_TO_MASK(cap);
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

bool sys_creds_is_initial_userns(void)
{
	const ino_t initial = 0xeffffffd; /* PROC_USER_INIT_INO, the same since Linux 3.8 */
	struct stat st;

	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino == initial;
}

static bool sys_creds_line_has(const char *line, gid_t gid)
{
	char *end;

	for (const char *at = line; *at && *at != '\n'; at = end) {
		unsigned long each = strtoul(at, &end, 10);

		if (end == at)
			return false;
		if (each == gid)
			return true;
		end += strspn(end, " \t");
	}
	return false;
}

/* As much of the file as there is room for; its size, or -errno. */
static ssize_t sys_creds_read_all(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t got = 1;

	while (used < size && got > 0) {
		got = sys_retry(read(fd, buf + used, size - used));
		if (got < 0)
			return got;
		used += (size_t)got;
	}
	return (ssize_t)used;
}

bool sys_creds_thread_has_group(pid_t tid, gid_t gid)
{
	static const char key[] = "\nGroups:";
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	_cleanup_close_ int fd = (int)sys_retry(open(path, O_RDONLY | O_CLOEXEC));
	_cleanup_free_ char *text = fd < 0 ? NULL : malloc(SYS_CREDS_STATUS_SIZE + 1);
	ssize_t size = text ? sys_creds_read_all(fd, text, SYS_CREDS_STATUS_SIZE) : -1;

	if (size < 0)
		return false;
	text[size] = '\0';
	const char *line = strstr(text, key);

	if (!line)
		return false;
	line += sizeof(key) - 1;
	return sys_creds_line_has(line + strspn(line, " \t"), gid);
}

int sys_creds_init(void)
{
	int bits = prctl(PR_GET_SECUREBITS);

	sys_creds_own.uid = geteuid();
	sys_creds_own.gid = getegid();
	umask(0);
	if (bits < 0 || !sys_creds_has_cap(CAP_SETUID) || !sys_creds_has_cap(CAP_SETGID))
		return -EPERM;
	if (prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
		return -EPERM;
	sys_creds_own.can_change_ids = true;
	return 0;
}

int sys_creds_init_thread(void)
{
	return (int)sys_retry(unshare(CLONE_FS));
}

/* setfsuid and setfsgid report no error. They fail for ids without a mapping in our user
 * namespace only, and the kernel sends no request of such a caller (FUSE: EOVERFLOW). */
static void sys_creds_set_ids(uid_t uid, gid_t gid)
{
	if (gid != sys_creds_now.gid)
		syscall(SYS_setfsgid, gid);
	if (uid != sys_creds_now.uid)
		syscall(SYS_setfsuid, uid);
	sys_creds_now.gid = gid;
	sys_creds_now.uid = uid;
}

void sys_creds_act_as(uid_t uid, gid_t gid, mode_t mask)
{
	if (!sys_creds_now.known) {
		sys_creds_now.uid = sys_creds_own.uid;
		sys_creds_now.gid = sys_creds_own.gid;
		sys_creds_now.umask = umask(mask);
		sys_creds_now.known = true;
	}
	if (sys_creds_own.can_change_ids)
		sys_creds_set_ids(uid, gid);
	if (mask != sys_creds_now.umask)
		umask(mask);
	sys_creds_now.umask = mask;
}

void sys_creds_restore(void)
{
	sys_creds_act_as(sys_creds_own.uid, sys_creds_own.gid, 0);
}
