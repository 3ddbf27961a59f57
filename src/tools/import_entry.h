/* SPDX-License-Identifier: MIT */
/* One entry of an archive, put into the layer by the rules of OCI image layers. */
#ifndef VENEER_TOOLS_IMPORT_ENTRY_H
#define VENEER_TOOLS_IMPORT_ENTRY_H

#include "tools/import_stage.h"
#include "tools/import_tree.h"
#include "tools/tarread.h"

struct import_job {
	struct tarread *tar;
	struct import_tree *tree;
	struct import_stage *stage;
	bool (*is_interrupted)(void *context); /* asked between pieces of data; may be NULL */
};

/*
 * 0 or -errno with a phrase in @why that does not name the entry. -EINTR: interrupted.
 * -EINVAL: no layer can have this.
 */
int import_entry(const struct import_job *job, const struct tarread_entry *entry,
		 struct strbuf *why);

#endif
