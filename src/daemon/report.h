/* SPDX-License-Identifier: MIT */
/* What a live mount says of itself, as docs/status.md describes it. */
#ifndef VENEER_DAEMON_REPORT_H
#define VENEER_DAEMON_REPORT_H

#include <time.h>

#include "base/strbuf.h"
#include "core/core.h"
#include "daemon/datapath.h"
#include "daemon/options.h"
#include "fuse/fuse.h"

/* Where it is taken from; all borrowed. */
struct report {
	struct core *core;
	struct fuse_session *session;
	struct fuse_transport *transport;
	const struct options *options;
	const struct datapath *datapath;
	const char *transport_why; /* it was chosen: a sentence without its end */
	const char *directory; /* that relative paths of options start from; NULL: not known */
	struct timespec started; /* CLOCK_MONOTONIC */
};

/* Appends one line of JSON. An allocation failure marks @answer as failed. */
void report_status(const struct report *report, struct strbuf *answer);
/* The same: what the path from the mount's root comes from. */
void report_which(const struct report *report, const char *path, struct strbuf *answer);
/* A path as it was given when mounting, made absolute, at the end of @whole. */
void report_whole_path(const struct report *report, const char *path, struct strbuf *whole);

#endif
