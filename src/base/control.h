/* SPDX-License-Identifier: MIT */
/*
 * What a mount's daemon and the commands agree on: how a control socket is
 * called, and what goes through it.  One line asks; the answer is one JSON
 * object (docs/status.md), after which the daemon closes.
 */
#ifndef VENEER_BASE_CONTROL_H
#define VENEER_BASE_CONTROL_H

#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

/* The longest request, with its newline. */
#define CONTROL_REQUEST_MAX 256
#define CONTROL_REQUEST_STATUS "status"

/* Of the answer's form; grows when a reader of the old one would be misled. */
#define CONTROL_STATUS_VERSION 1

/* "major:minor" of the mount, which a client has from stat(2) of the mount point. */
#define CONTROL_NAME_MAX 32

static inline const char *control_name(dev_t dev, char name[CONTROL_NAME_MAX])
{
	snprintf(name, CONTROL_NAME_MAX, "%u:%u", major(dev), minor(dev));
	return name;
}

#endif
