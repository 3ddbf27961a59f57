/* SPDX-License-Identifier: MIT */
#include "sys/cpu.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"
#include "sys/creds.h"

/* Room for as many processors as Linux can be built for. */
#define CPU_MAX 8192

unsigned int sys_cpu_possible(void)
{
	_cleanup_fclose_ FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	char text[64];
	long count;

	/* "0-3", or "0": the last number is the highest. */
	if (!file || !fgets(text, sizeof(text), file) || strchr(text, ',') ||
	    strncmp(text, "0", 1) != 0)
		return 0;
	const char *dash = strrchr(text, '-');

	count = strtol(dash ? dash + 1 : text, NULL, 10) + 1;
	return count > 0 && count <= CPU_MAX ? (unsigned int)count : 0;
}

bool sys_cpu_is_online(unsigned int cpu)
{
	char path[64];
	char state = '1';

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	_cleanup_close_ int fd = sys_retry_fd(open(path, O_RDONLY | O_CLOEXEC));

	/* The first one has no such file where it cannot be taken offline. */
	if (fd < 0)
		return fd != -ENOENT || cpu == 0;
	return sys_retry(read(fd, &state, 1)) != 1 || state != '0';
}

bool sys_cpu_is_ours(unsigned int cpu)
{
	cpu_set_t *set = CPU_ALLOC(CPU_MAX);
	size_t size = CPU_ALLOC_SIZE(CPU_MAX);
	bool is_ours = set && sched_getaffinity(0, size, set) == 0 && CPU_ISSET_S(cpu, size, set);

	if (set)
		CPU_FREE(set);
	return is_ours;
}

int sys_cpu_pin(unsigned int cpu)
{
	cpu_set_t *set = CPU_ALLOC(CPU_MAX);
	size_t size = CPU_ALLOC_SIZE(CPU_MAX);
	int r;

	if (!set)
		return -ENOMEM;
	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	r = (int)sys_retry(sched_setaffinity(0, size, set));
	CPU_FREE(set);
	return r;
}

bool sys_cpu_knows_threads(void)
{
	char text[32];
	ssize_t size = readlink("/proc/self", text, sizeof(text) - 1);

	if (size <= 0)
		return false;
	text[size] = '\0';
	return strtol(text, NULL, 10) == getpid();
}

int sys_cpu_open_thread(uint32_t thread)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%u/stat", thread);
	return sys_retry_fd(open(path, O_RDONLY | O_CLOEXEC));
}

int sys_cpu_of_thread(int fd)
{
	char text[1024];
	ssize_t size = sys_retry(pread(fd, text, sizeof(text) - 1, 0));
	const char *at;

	if (size < 0)
		return (int)size;
	text[size] = '\0';
	/* Behind the name, which may hold anything: field 3 and on, of which 39 is the processor. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	return at ? (int)strtol(at, NULL, 10) : -EIO;
}

bool sys_cpu_may_idle(void)
{
	struct rlimit limit;

	if (sys_cpu_delay_ns() == UINT64_MAX)
		return false;
	if (sys_creds_is_initial_userns() && sys_creds_has_cap(CAP_SYS_NICE))
		return true;
	/* As the kernel has it: 20 stands for a nice value of 0. */
	return getrlimit(RLIMIT_NICE, &limit) == 0 && limit.rlim_cur >= 20 &&
	       getpriority(PRIO_PROCESS, 0) >= 0;
}

void sys_cpu_schedule(enum sys_cpu_policy policy)
{
	const struct sched_param param = { 0 };

	sched_setscheduler(0, policy == SYS_CPU_IDLE ? SCHED_IDLE : SCHED_BATCH, &param);
}

uint64_t sys_cpu_delay_ns(void)
{
	_cleanup_close_ int fd =
		sys_retry_fd(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
	char text[128];
	ssize_t size = fd < 0 ? 0 : sys_retry(read(fd, text, sizeof(text) - 1));
	char *end;

	if (size <= 0)
		return UINT64_MAX;
	text[size] = '\0';
	/* Time run, time waited, times. */
	strtoull(text, &end, 10);
	return strtoull(end, NULL, 10);
}

bool sys_cpu_is_stuck(void)
{
	return sched_getscheduler(0) == SCHED_IDLE && !sys_cpu_may_idle();
}

void sys_cpu_roam(void)
{
	const struct sched_param param = { 0 };
	cpu_set_t set;

	sched_setscheduler(0, SCHED_OTHER, &param);
	/* More processors than the set has room for: it stays where it is. */
	if (sched_getaffinity(getpid(), sizeof(set), &set) == 0)
		sched_setaffinity(0, sizeof(set), &set);
}
