/* SPDX-License-Identifier: MIT */
/* `veneer diff`: veneer-diff(1). */
#ifndef VENEER_TOOLS_DIFF_H
#define VENEER_TOOLS_DIFF_H

#include <stdbool.h>

#include "offline/changes.h"
#include "offline/target.h"

/* The command; returns the exit status. */
int diff_run(int argc, char **argv);

enum diff_form {
	DIFF_HUMAN,
	DIFF_STAT,
	DIFF_NAMES,
	DIFF_UNIFIED,
	DIFF_JSON,
	DIFF_PODMAN,
	DIFF_OCI,
};

struct diff_style {
	enum diff_form form;
	bool has_colour;
	char end; /* of a line: '\n' or '\0' */
};

/* All but DIFF_UNIFIED, to standard output. 0 or -ENOMEM. */
int diff_print(const struct target *target, const struct changes *changes,
	       const struct diff_style *style);

/* The line of DIFF_HUMAN. */
void diff_print_change(const struct diff_style *style, const struct change *change);

/*
 * DIFF_UNIFIED: each change of a file as diff(1) tells it, what is no text in a line. 0, or -errno
 * with a sentence in @why.
 */
int diff_print_text(const struct target *target, const struct changes *changes,
		    const struct diff_style *style, struct strbuf *why);

#endif
