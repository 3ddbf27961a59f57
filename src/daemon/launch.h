/* SPDX-License-Identifier: MIT */
/*
 * Going into the background: the command waits until the daemon it started
 * says that the mount is live, or has said on standard error why it is not.
 */
#ifndef VENEER_DAEMON_LAUNCH_H
#define VENEER_DAEMON_LAUNCH_H

#include <stddef.h>

struct launch {
	int status_fd; /* where the command waits for the exit status; -1 in the foreground */
	int *inherited; /* descriptors the caller left open; owned */
	size_t inherited_count;
	int scan_fd; /* of launch_init() */
};

/* Notes what is open already. Opens 0, 1 and 2 if they are not. 0 or -errno. */
int launch_init(struct launch *launch);
void launch_deinit(struct launch *launch);

/* Forks, before there are threads. Returns in the daemon only: the command waits and exits.
 * -errno if there is no daemon. */
int launch_background(struct launch *launch);

/* The same for a process that is there for nothing else: who called waits for a byte from @status_fd. */
void launch_in_background(struct launch *launch, int status_fd);

/* Lets go of the caller's descriptors and directory: paths it gave are of no more use. */
void launch_forget_caller(struct launch *launch);

/* The mount is live: the command returns 0, and messages go to syslog(3). */
void launch_ready(struct launch *launch);

#endif
