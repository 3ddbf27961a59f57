/* SPDX-License-Identifier: MIT */
/* For the files of this room alone: from -1 and errno to -errno, with retry on EINTR. */
#ifndef VENEER_SYS_CALL_H
#define VENEER_SYS_CALL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

/* What @call returned, or -errno; called again while a signal interrupts it. */
#define sys_retry(call)                           \
	({                                        \
		long _r;                          \
		do                                \
			_r = (long)(call);        \
		while (_r < 0 && errno == EINTR); \
		_r < 0 ? -(long)errno : _r;       \
	})

/* True if @r says that there is no descriptor left, and some were given back: try again. */
bool sys_made_room(long r);

/* Others may be quicker to take what was given back. */
#define SYS_ROOM_TRIES 8

/* sys_retry() of a call that makes a descriptor. */
#define sys_retry_fd(call)                                             \
	({                                                             \
		unsigned int _tries = SYS_ROOM_TRIES;                  \
		long _fd;                                              \
		do                                                     \
			_fd = sys_retry(call);                         \
		while (_fd < 0 && --_tries > 0 && sys_made_room(_fd)); \
		(int)_fd;                                              \
	})

/*
 * A system call that this kernel may not have: asked for once, remembered.
 * Relaxed is enough, the worst is a few more tries.
 */
typedef _Atomic bool sys_missing;

static inline bool sys_is_missing(const sys_missing *missing)
{
	return atomic_load_explicit(missing, memory_order_relaxed);
}

static inline void sys_set_missing(sys_missing *missing)
{
	atomic_store_explicit(missing, true, memory_order_relaxed);
}

#endif
