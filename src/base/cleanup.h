/* SPDX-License-Identifier: MIT */
/*
 * Release at scope exit.
 *
 * Ownership is visible at the declaration: `_cleanup_close_ int fd = -1;`.
 * To keep a value past the scope hand it out with fd_take() or ptr_take().
 * Locks are never released this way (docs/locking.md).
 */
#ifndef VENEER_BASE_CLEANUP_H
#define VENEER_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Frees the pointer that @p points to. */
static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Closes *@fd if it is open. */
static inline void cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Takes the descriptor out of *@fd, which no longer owns it. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Takes the pointer out of the variable @p, which no longer owns it. */
#define ptr_take(p)                     \
	({                              \
		__typeof__(p) _t = (p); \
		(p) = NULL;             \
		_t;                     \
	})

#endif
