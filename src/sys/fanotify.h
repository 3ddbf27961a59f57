/* SPDX-License-Identifier: MIT */
/* fanotify(7): what other processes do in directories. */
#ifndef VENEER_SYS_FANOTIFY_H
#define VENEER_SYS_FANOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys/handle.h"

/* Kinds of events, as many as apply. */
enum sys_watch_event_kind {
	SYS_WATCH_NAME = 1 << 0, /* made, removed, moved here or away */
	SYS_WATCH_ATTRIBUTES = 1 << 1,
	SYS_WATCH_DATA = 1 << 2,
	SYS_WATCH_LOST = 1 << 3, /* too many events: some are missing, and nothing else is told */
};

struct sys_watch_event {
	unsigned int kinds; /* enum sys_watch_event_kind */
	bool is_own; /* this process did it */
	/* The directory, as sys_watch_handle() has it; size 0: not told. Borrowed from the buffer. */
	int handle_type;
	unsigned int handle_size;
	const unsigned char *handle;
	const char *name; /* in it; ".": the directory itself */
};

/* What fits one read, aligned for the kernel. */
#define SYS_WATCH_BUFFER_SIZE (64 * 1024)

/*
 * A descriptor that can be polled and does not block. -EINVAL, -ENOSYS, -EPERM: not on this kernel
 * (5.9, for users other than root 5.13), or not for this process.
 */
int sys_watch_new(void);
/*
 * Tells of the entries of the directory behind @dirfd (may be O_PATH), and of itself, from now on.
 * -ENOSPC: too many.
 */
int sys_watch_add(int watch, int dirfd);
int sys_watch_remove(int watch, int dirfd);
/* The handle by which events name the directory behind @dirfd. */
int sys_watch_handle(int dirfd, struct sys_handle *handle);
/* Reads events. Bytes read, 0: none; -errno. */
int sys_watch_read(int watch, void *buf, size_t size);
/* The event at *@at of @size bytes read, and steps over it; false: no more. */
bool sys_watch_next(const void *buf, size_t size, size_t *at, struct sys_watch_event *event);

#endif
