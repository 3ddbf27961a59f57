/* SPDX-License-Identifier: MIT */
/* Signals of other threads, as /proc tells. */
#ifndef VENEER_SYS_SIGNALS_H
#define VENEER_SYS_SIGNALS_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * True if a signal by which somebody wants the thread @tid to stop waits for it: SIGKILL (a
 * fatal signal makes itself one), SIGINT, SIGQUIT, SIGTERM or SIGHUP. Also true if it cannot be
 * told. The caller sees to it that the thread lives: one that waits for us does.
 */
bool sys_signals_want_stop(pid_t tid);

#endif
