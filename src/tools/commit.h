/* SPDX-License-Identifier: MIT */
/* `veneer commit`: veneer-commit(1). */
#ifndef VENEER_TOOLS_COMMIT_H
#define VENEER_TOOLS_COMMIT_H

#include <stdbool.h>

#include "offline/apply.h"

/* The command; returns the exit status. */
int commit_run(int argc, char **argv);

/* What was found: all that is to be done, and what others changed. */
struct commit_report {
	struct commit_action {
		enum apply_verb verb;
		char *path, *from; /* owned */
		uint64_t bytes;
	} * actions; /* only if is_kept */
	struct commit_conflict {
		char *path, *what; /* owned */
	} * conflicts;
	size_t action_count, conflict_count;
	uint64_t counts[APPLY_LINK + 1];
	bool failed; /* out of memory */
};

void commit_report_deinit(struct commit_report *report);
/* A name that something was renamed away from is not removed besides. 0 or -ENOMEM. */
int commit_report_settle(struct commit_report *report);

/* How a commit ended, for the report. */
struct commit_end {
	const char *layer, *dest;
	const char *rest; /* that an unfinished one had left to do */
	bool is_dry, is_resumed, is_done;
};

/* A line for each action. */
void commit_print_actions(const struct commit_report *report);
/* The first conflicts, on standard error. */
void commit_print_conflicts(const struct commit_report *report);
/* One line: how much. */
void commit_print_summary(const struct commit_report *report, const struct commit_end *end);
/* docs/commit.schema.json. 0 or -errno. */
int commit_print_json(const struct commit_report *report, const struct commit_end *end);

#endif
