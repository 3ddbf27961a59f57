/* SPDX-License-Identifier: MIT */
/* One mount from beginning to end: layers, connection, serving, unmount. */
#ifndef VENEER_DAEMON_DAEMON_H
#define VENEER_DAEMON_DAEMON_H

#include "daemon/command.h"
#include "daemon/launch.h"

/*
 * Mounts, serves until the unmount, and lets go of everything. Tells @launch when the mount is
 * live. Returns 0 after an unmount in good order, or -errno after saying why in the log.
 */
int daemon_run(const struct command *command, struct launch *launch);

#endif
