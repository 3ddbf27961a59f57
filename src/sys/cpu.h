/* SPDX-License-Identifier: MIT */
/* Processors, and where the calling thread runs. */
#ifndef VENEER_SYS_CPU_H
#define VENEER_SYS_CPU_H

#include <stdbool.h>

/* How many processors this system may ever have; their numbers are below it. At least 1. */
unsigned int sys_cpu_possible(void);
/* True if the calling thread may run on processor @cpu, which is there. */
bool sys_cpu_is_ours(unsigned int cpu);
/* The calling thread runs there and nowhere else. 0 or -EINVAL (it is not there, or not ours). */
int sys_cpu_pin(unsigned int cpu);
/* The calling thread does not preempt whom it wakes. */
void sys_cpu_schedule_batch(void);

#endif
