/* SPDX-License-Identifier: MIT */
/* Where an archive is written: standard output, or a file that is there when it is whole. */
#ifndef VENEER_TOOLS_EXPORT_OUTPUT_H
#define VENEER_TOOLS_EXPORT_OUTPUT_H

#include "base/strbuf.h"

struct export_output {
	int fd; /* to write to; owned */
	int parent; /* directory of the file; owned; -1: nothing is to be renamed */
	char *name; /* of the file, owned, as is */
	char *temporary; /* what it is called until then; NULL: it has its name */
};

#define EXPORT_OUTPUT_INIT       \
	((struct export_output){ \
		.fd = -1,        \
		.parent = -1,    \
	})

/*
 * Opens @path, NULL: standard output. What is no regular file (a pipe, a device) is written to as it
 * is. 0 or -errno with a sentence in @why.
 */
int export_output_open(const char *path, struct export_output *output, struct strbuf *why);
/* The archive is whole: gives it its name. */
int export_output_finish(struct export_output *output);
/* Removes what was not finished. */
void export_output_deinit(struct export_output *output);

#define _cleanup_export_output_ _cleanup_(export_output_deinit)

#endif
