/* SPDX-License-Identifier: MIT */
/*
 * Failing or stopping at the N-th change, for the tests of crashes and errors.
 * Linked only into veneer-faults: the rooms whose one file makes all changes
 * compile that file a second time, with each change wrapped in fault_mutate().
 */
#ifndef VENEER_SYS_FAULT_H
#define VENEER_SYS_FAULT_H

#include <stdbool.h>

#include "sys/copy.h"

/*
 * Starts counting and honours VENEER_FAULT=N:WHAT from the environment: the N-th change from here
 * on fails with the errno WHAT names, or the process dies before ("kill") or right after
 * ("killafter") it. A copy of file data counts once per step. VENEER_COMMIT=FILE has the journal of
 * the file system that FILE lies in written after each change since the process began, by an
 * fsync of FILE.
 */
void fault_arm(void);

/* Counts one change; true if it is the one to hit. */
bool fault_is_due(void);
/* Before the change: 0 or the error to fail with. */
int fault_before(bool due);
void fault_after(bool due);
/* sys_copy_data(), of which each step is a change, so that it can also fail half-way. */
int fault_copy_data(const struct sys_copy *copy);

#define fault_mutate(call)                                \
	({                                                \
		bool _due = fault_is_due();               \
		__typeof__(call) _r = fault_before(_due); \
		if (_r == 0) {                            \
			_r = (call);                      \
			fault_after(_due);                \
		}                                         \
		_r;                                       \
	})

#endif
