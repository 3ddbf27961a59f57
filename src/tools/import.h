/* SPDX-License-Identifier: MIT */
/* `veneer import`: a layer from an archive of one. */
#ifndef VENEER_TOOLS_IMPORT_H
#define VENEER_TOOLS_IMPORT_H

#include <stdbool.h>

#include "base/strbuf.h"
#include "tools/import_tree.h"

struct import_request {
	int fd; /* of the archive; borrowed */
	const char *layer; /* path; missing or an empty directory, unless @onto */
	bool onto; /* on top of what is there */
	bool user_xattrs; /* private attributes are user.overlay.* */
	bool attribute_whiteouts;
	bool (*is_interrupted)(void *context); /* asked often; may be NULL */
	void (*progress)(void *context, uint64_t done); /* bytes of the archive; may be NULL */
	void *context;
};

/*
 * Reads the archive into the layer. 0 with *@counts, or -errno with a sentence in @why; then the
 * layer is as it was (but for errors of the disk while one is put on another, which @why says).
 */
int import_layer(const struct import_request *request, struct import_counts *counts,
		 struct strbuf *why);

int import_run(int argc, char **argv);

#endif
