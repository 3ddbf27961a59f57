/* SPDX-License-Identifier: MIT */
/* Asking the daemon of a live mount through its control socket. */
#ifndef VENEER_TOOLS_ASK_H
#define VENEER_TOOLS_ASK_H

#include <sys/types.h>

#include "base/strbuf.h"

/*
 * Sends the line @request to the daemon of the mount with device number @dev; what it answers is
 * appended to @answer. Returns 0, -ENOENT (it has no control socket this user can find),
 * -ECONNREFUSED (the daemon has ended), -EAGAIN (it does not answer in time), -ECONNRESET (it does
 * not want to), -ENOMEM, ...
 */
int ask_daemon(dev_t dev, const char *request, struct strbuf *answer);

#endif
