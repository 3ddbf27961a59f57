/* SPDX-License-Identifier: MIT */
/* What fsck tells, asks and counts. */
#ifndef VENEER_TOOLS_FSCK_REPORT_H
#define VENEER_TOOLS_FSCK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/fsck_problem.h"
#include "tools/fsck_set.h"

enum fsck_mode {
	FSCK_CHECK, /* -n: change nothing */
	FSCK_ASK, /* each one */
	FSCK_SAFE, /* -p: repair what is safe */
	FSCK_ALL, /* -y */
};

struct fsck_report {
	enum fsck_mode mode; /* asking turns into repairing all by the answer "all" */
	bool as_json;
	bool lowers_differ; /* what is below may not be what the layer was made with */
	uint64_t objects, found, repaired, failed; /* failed: to look at */
	struct fsck_set told; /* findings that are left, each told once */
	/* The finding that is being repaired. */
	enum fsck_problem problem;
	char *path, *note; /* owned */
	uint64_t key; /* for told */
};

void fsck_report_deinit(struct fsck_report *report);

/* Before the first finding; @upper: the layer's. */
void fsck_report_begin(struct fsck_report *report, const char *upper);
/*
 * Tells of a finding: @path of the layer, and perhaps a @note (NULL) that says more. True: it is to be
 * repaired now, after which fsck_report_settle() must follow. What is left is told once.
 */
bool fsck_report_find(struct fsck_report *report, enum fsck_problem problem, const char *path,
		      const char *note);
/* How the repair went: 0 or -errno. */
void fsck_report_settle(struct fsck_report *report, int result);
/* Something could not be looked at. */
void fsck_report_fail(struct fsck_report *report, const char *path, int error);
/* The closing line. */
void fsck_report_end(struct fsck_report *report, const char *upper);

#endif
