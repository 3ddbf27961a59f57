/* SPDX-License-Identifier: MIT */
/*
 * What a mount's daemon and the commands agree on: how a control socket is
 * called, and what goes through it (docs/control.md).  A request is one line of
 * words: a verb, and what it is about, escaped so that it may hold any byte.
 */
#ifndef VENEER_BASE_CONTROL_H
#define VENEER_BASE_CONTROL_H

#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/types.h>

#include "base/strbuf.h"

/* The longest request, with its newline: a long list of long paths, escaped. */
#define CONTROL_REQUEST_MAX (1U << 20)

/* Answered by one JSON object on a line. */
#define CONTROL_REQUEST_STATUS "status"
#define CONTROL_REQUEST_WHICH "which" /* and a path from the mount's root: "a/b", or "" */
/* Answered by a verdict: a line that is the first, or begins with the second, with a reason. */
#define CONTROL_VERDICT_OK "ok"
#define CONTROL_VERDICT_NO "no: "
#define CONTROL_REQUEST_DISCARD "discard" /* and paths from the mount's root that are kept */
/* The mount stands still until the connection closes, or this comes through it. */
#define CONTROL_REQUEST_SUSPEND "suspend"
#define CONTROL_REQUEST_RESUME "resume"

/* Of the answers' form; grows when a reader of the old one would be misled. */
#define CONTROL_STATUS_VERSION 1
#define CONTROL_WHICH_VERSION 1

/* "major:minor" of the mount, which a client has from stat(2) of the mount point. */
#define CONTROL_NAME_MAX 32

static inline const char *control_name(dev_t dev, char name[CONTROL_NAME_MAX])
{
	snprintf(name, CONTROL_NAME_MAX, "%u:%u", major(dev), minor(dev));
	return name;
}

/* Appends @word: a percent sign, a space, and what is no printing character of ASCII as "%41". */
void control_escape(struct strbuf *line, const char *word);
/*
 * The next word of the line that *@at points into, unescaped in place; *@at moves behind it. NULL:
 * there is none, or (then *@at is NULL) it is not rightly escaped.
 */
char *control_next_word(char **at);

#endif
