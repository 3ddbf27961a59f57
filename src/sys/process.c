/* SPDX-License-Identifier: MIT */
#include "sys/process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/dir.h"
#include "sys/file.h"

#define SYS_STAT_MAX 512
#define SYS_PATH_MAX 32

int sys_adopt_orphans(void)
{
	return (int)sys_retry(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

int sys_end_with_parent(int number, pid_t parent)
{
	int r = (int)sys_retry(prctl(PR_SET_PDEATHSIG, number, 0, 0, 0));

	return r == 0 && getppid() != parent ? -ESRCH : r;
}

int sys_keep_caps_over_exec(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int r = (int)sys_retry(syscall(SYS_capget, &header, data));

	if (r < 0)
		return r;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].inheritable = data[i].permitted;
	r = (int)sys_retry(syscall(SYS_capset, &header, data));
	for (unsigned int cap = 0; r == 0 && cap < _LINUX_CAPABILITY_U32S_3 * 32; cap++)
		if (data[CAP_TO_INDEX(cap)].permitted & CAP_TO_MASK(cap))
			r = (int)sys_retry(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0));
	return r;
}

/* ---- the tree of processes ---- */

struct sys_process {
	pid_t pid, parent;
	bool is_zombie;
};

struct sys_processes {
	struct sys_process *items;
	size_t count;
};

/* "PID (NAME) STATE PPID ...": the name may hold anything. False: it is gone. */
static bool sys_process_read(pid_t pid, struct sys_process *process)
{
	char path[SYS_PATH_MAX], text[SYS_STAT_MAX], state;
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	_cleanup_close_ int fd = sys_open_path(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? fd : sys_pread(fd, text, sizeof(text) - 1, 0);

	if (size <= 0)
		return false;
	text[size] = '\0';
	const char *end = strrchr(text, ')');

	if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2)
		return false;
	*process = (struct sys_process){
		.pid = pid,
		.parent = parent,
		.is_zombie = state == 'Z' || state == 'X',
	};
	return true;
}

static int sys_process_visit(const struct sys_dirent *entry, void *context)
{
	struct sys_processes *all = context;
	struct sys_process process, *more;
	pid_t pid = atoi(entry->name);

	if (pid <= 0 || !sys_process_read(pid, &process))
		return 0;
	more = reallocarray(all->items, all->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	all->items = more;
	more[all->count++] = process;
	return 0;
}

static int sys_processes_read(struct sys_processes *all)
{
	_cleanup_close_ int fd = sys_open_path("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*all = (struct sys_processes){ 0 };
	return fd < 0 ? fd : sys_dir_for_each(fd, sys_process_visit, all);
}

static bool sys_pids_has(const struct sys_pids *pids, pid_t pid)
{
	for (size_t i = 0; pids && i < pids->count; i++)
		if (pids->items[i] == pid)
			return true;
	return false;
}

static int sys_pids_add(struct sys_pids *pids, pid_t pid)
{
	pid_t *more = reallocarray(pids->items, pids->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	pids->items = more;
	more[pids->count++] = pid;
	return 0;
}

void sys_pids_deinit(struct sys_pids *pids)
{
	free(pids->items);
	*pids = (struct sys_pids){ 0 };
}

/* Adds the children of @parent, which go on being looked at as they are found. */
static int sys_pids_add_children(const struct sys_processes *all, pid_t parent,
				 const struct sys_pids *except, struct sys_pids *found)
{
	int r = 0;

	for (size_t i = 0; i < all->count && r == 0; i++) {
		const struct sys_process *process = &all->items[i];

		if (process->parent == parent && !process->is_zombie &&
		    !sys_pids_has(except, process->pid))
			r = sys_pids_add(found, process->pid);
	}
	return r;
}

bool sys_is_descendant(pid_t pid)
{
	struct sys_process process = { .parent = pid };

	/* Up to init, whose parent is 0. */
	while (process.parent > 0) {
		if (!sys_process_read(process.parent, &process))
			return false;
		if (process.parent == getpid())
			return true;
	}
	return false;
}

static bool sys_has_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 ||
	       errno != ECHILD;
}

bool sys_has_other_children(const struct sys_pids *except)
{
	char text[SYS_STAT_MAX], *end;
	bool has_others = false;

	if (!sys_has_children())
		return false;
	_cleanup_close_ int fd = sys_open_path("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? fd : sys_pread(fd, text, sizeof(text) - 1, 0);

	/* Not every kernel tells; and more than fits are more than these. */
	if (size < 0 || size == sizeof(text) - 1)
		return true;
	text[size] = '\0';
	for (const char *at = text; !has_others; at = end) {
		pid_t pid = (pid_t)strtol(at, &end, 10);

		if (end == at)
			break;
		has_others = !sys_pids_has(except, pid);
	}
	return has_others;
}

int sys_find_children(struct sys_pids *found)
{
	struct sys_processes all;

	*found = (struct sys_pids){ 0 };
	if (!sys_has_children())
		return 0;
	int r = sys_processes_read(&all);

	if (r == 0)
		r = sys_pids_add_children(&all, getpid(), NULL, found);
	free(all.items);
	return r;
}

int sys_find_descendants(const struct sys_pids *except, struct sys_pids *found)
{
	struct sys_processes all;
	int r = sys_processes_read(&all);

	*found = (struct sys_pids){ 0 };
	if (r == 0)
		r = sys_pids_add_children(&all, getpid(), except, found);
	for (size_t i = 0; r == 0 && i < found->count; i++)
		r = sys_pids_add_children(&all, found->items[i], except, found);
	free(all.items);
	return r;
}
