/* SPDX-License-Identifier: MIT */
/* Asking the daemon of a live mount through its control socket (docs/control.md). */
#ifndef VENEER_TOOLS_ASK_H
#define VENEER_TOOLS_ASK_H

#include <stddef.h>
#include <sys/types.h>

#include "base/strbuf.h"

/*
 * Sends the line @request to the daemon of the mount with device number @dev; what it answers is
 * appended to @answer. Returns 0, -ENOENT (it has no control socket this user can find),
 * -ECONNREFUSED (the daemon has ended), -EAGAIN (it does not answer in time), -ECONNRESET (it does
 * not want to), -ENOMEM, ...
 */
int ask_daemon(dev_t dev, const char *request, struct strbuf *answer);

/*
 * Sends a request that is answered by a verdict, and waits for that however long it takes. 0, -EBUSY:
 * no, for the reason that is appended to @why as a sentence without its end; or one of
 * ask_daemon()'s errors.
 */
int ask_verdict(dev_t dev, const char *request, struct strbuf *why);

/* Appends a word of a request: any bytes, escaped as control_escape() has it, after a space. */
void ask_add_word(struct strbuf *request, const char *word);

/*
 * Appends what @error of the functions here means for a mount that belongs to user @owner, and the
 * way out, as a sentence without its end.
 */
void ask_explain(uid_t owner, int error, struct strbuf *why);

/* ---- a mount that stands still ---- */

/* While it is held, whoever uses the mount waits, and others may change its layers. */
struct ask_hold {
	int socket; /* -1: nothing is held */
};

#define ASK_HOLD_INIT ((struct ask_hold){ .socket = -1 })

/*
 * Has the mount with device number @dev stand still: waits until the requests at work are answered
 * and what is written has reached the layers. Should this process end, the mount goes on by itself.
 * Returns 0, one of ask_daemon()'s errors, or -EBUSY: not now, for the reason that is appended to
 * @why as a sentence without its end.
 */
int ask_hold(dev_t dev, struct ask_hold *hold, struct strbuf *why);
/*
 * Has it go on, and waits until it shows what the layers hold now. Nothing is held any more,
 * whatever is returned: 0, -EBUSY with a reason in @why (names in use may show what was before), or
 * one of ask_daemon()'s errors (the daemon has ended meanwhile, say).
 */
int ask_release(struct ask_hold *hold, struct strbuf *why);
/* The same without waiting. Of a hold that holds nothing: nothing. */
void ask_hold_deinit(struct ask_hold *hold);

#define _cleanup_ask_hold_ _cleanup_(ask_hold_deinit)

#endif
