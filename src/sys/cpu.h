/* SPDX-License-Identifier: MIT */
/* Processors, and where the calling thread runs. */
#ifndef VENEER_SYS_CPU_H
#define VENEER_SYS_CPU_H

#include <stdbool.h>
#include <stdint.h>

/* How many processors this system may ever have, if they are numbered without gaps; else 0. */
unsigned int sys_cpu_possible(void);
/* True if processor @cpu is in use by the system, or if that is not known. */
bool sys_cpu_is_online(unsigned int cpu);
/* True if the calling thread may run on processor @cpu, which is there. */
bool sys_cpu_is_ours(unsigned int cpu);
/* The calling thread runs there and nowhere else. 0, -ENOMEM or -EINVAL (it is not there, or not
 * ours). */
int sys_cpu_pin(unsigned int cpu);
/* True if the numbers of threads mean the same in /proc as to this process. */
bool sys_cpu_knows_threads(void);
/* A descriptor to ask where any thread of the system runs. >= 0 or -errno (-ENOENT: it ended, or is
 * not to be seen). */
int sys_cpu_open_thread(uint32_t thread);
/* Where the thread runs, or ran last. >= 0 or -errno (-ESRCH: it ended). */
int sys_cpu_of_thread(int fd);
/* How the calling thread is scheduled; sched(7) has both. */
enum sys_cpu_policy {
	SYS_CPU_BATCH, /* does not preempt whom it wakes */
	SYS_CPU_IDLE, /* runs where nothing else wants to, so that its processor counts as idle */
};

/* True if this process may come back from SYS_CPU_IDLE. */
bool sys_cpu_may_idle(void);
void sys_cpu_schedule(enum sys_cpu_policy policy);
/* True if a thread that this one makes could not leave SYS_CPU_IDLE. */
bool sys_cpu_is_stuck(void);
/* The calling thread was made by one that is pinned or gives way: it runs wherever the main thread
 * may, as others do. */
void sys_cpu_roam(void);
/* How long the calling thread could have run but did not, since it began; UINT64_MAX: not known. */
uint64_t sys_cpu_delay_ns(void);

#endif
