/* SPDX-License-Identifier: MIT */
/* Waiting for a child as if it were in our place: signals, stops and orphans. */
#ifndef VENEER_TOOLS_RUN_WAIT_H
#define VENEER_TOOLS_RUN_WAIT_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "sys/process.h"

/* Blocks all signals, which run_wait() takes; *@old is what was blocked before. */
void run_wait_begin(sigset_t *old);
/*
 * Waits for the end of @child: what others send us goes to it, and when it stops we stop. Other
 * children are reaped. 0 with its wait status, or -ESRCH: our parent, which was @parent, has ended
 * (0: that does not matter), or -errno.
 */
int run_wait(pid_t child, pid_t parent, int *status);
/*
 * Ends all descendants but those of @except, and waits for that: first they are asked to. False after a
 * message if one does not end.
 */
bool run_wait_end_all(const struct sys_pids *except);

#endif
