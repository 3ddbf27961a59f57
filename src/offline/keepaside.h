/* SPDX-License-Identifier: MIT */
/*
 * Changing an object at rest without leaving a trace on it: its mode, times and
 * capability, which the change takes with it, are kept in an attribute until they
 * are put back, by this process or, after a crash, by the next one.
 */
#ifndef VENEER_OFFLINE_KEEPASIDE_H
#define VENEER_OFFLINE_KEEPASIDE_H

#include <stdbool.h>

#include "format/xattr_name.h"

/*
 * Puts aside what the object @fd (also O_PATH) has, unless that was done before and not taken back.
 * Its owner may read and write it from now on. 0 or -errno.
 */
int keepaside_begin(int fd, enum xattr_namespace ns);
/* Puts back what was put aside, if anything. 0 or -errno. */
int keepaside_end(int fd, enum xattr_namespace ns);
/* True if there is something to be put back. */
bool keepaside_is_open(int fd, enum xattr_namespace ns);

#endif
