/* SPDX-License-Identifier: MIT */
/*
 * How far long work is: one line on standard error, if that is a terminal and
 * the work takes more than a second; else nothing at all.
 *
 *	struct progress progress;
 *
 *	progress_begin(&progress, "committing", total);
 *	progress_add(&progress, bytes);	(again and again; costs next to nothing)
 *	progress_end(&progress);
 */
#ifndef VENEER_TOOLS_PROGRESS_H
#define VENEER_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* borrowed: what is being done, as "exporting" */
	uint64_t total, done; /* bytes; total 0: not known */
	uint64_t start_ns, next_ns; /* when the line is due again */
	bool is_wanted, is_shown;
};

/* From now on; @total bytes are to be done, 0: nobody knows. */
void progress_begin(struct progress *progress, const char *what, uint64_t total);
/* So many more bytes are done. Shows that at most five times a second. */
void progress_add(struct progress *progress, uint64_t bytes);
/* Takes the line off the terminal, also before a message; progress_add() shows it again. */
void progress_end(struct progress *progress);

#endif
