/* SPDX-License-Identifier: MIT */
/* `veneer status`: veneer-status(1). */
#ifndef VENEER_TOOLS_STATUS_H
#define VENEER_TOOLS_STATUS_H

#include <stdbool.h>

/* The command; returns the exit status. */
int status_run(int argc, char **argv);

/* What one look at the mounts is to show. */
struct status_look {
	char **paths; /* borrowed */
	int path_count; /* 0: all mounts of this user */
	bool as_json, is_watching;
};

/*
 * Asks the daemons and prints what they say; complaints go to standard error. Returns true if
 * every mount was shown, and there was one.
 */
bool status_show(const struct status_look *look);

#endif
