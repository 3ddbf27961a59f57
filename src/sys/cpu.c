/* SPDX-License-Identifier: MIT */
#include "sys/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sys/call.h"

/* Room for as many processors as Linux can be built for. */
#define CPU_MAX 8192

unsigned int sys_cpu_possible(void)
{
	_cleanup_fclose_ FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	char text[64];
	long count;

	/* "0-3", or "0": the last number is the highest. */
	if (file && fgets(text, sizeof(text), file)) {
		const char *dash = strrchr(text, '-');

		count = strtol(dash ? dash + 1 : text, NULL, 10) + 1;
	} else {
		count = sysconf(_SC_NPROCESSORS_CONF);
	}
	return count > 0 && count <= CPU_MAX ? (unsigned int)count : 1;
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

void sys_cpu_schedule_batch(void)
{
	const struct sched_param param = { 0 };

	sched_setscheduler(0, SCHED_BATCH, &param);
}
