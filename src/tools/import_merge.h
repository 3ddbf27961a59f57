/* SPDX-License-Identifier: MIT */
/* A layer put on top of another one, as the layers of an OCI image lie on each other. */
#ifndef VENEER_TOOLS_IMPORT_MERGE_H
#define VENEER_TOOLS_IMPORT_MERGE_H

#include "tools/import_stage.h"
#include "tools/import_tree.h"

/*
 * Moves what is in @tree into the layer @onto (a directory's descriptor), so that this shows over its
 * lowers what both layers would one over the other. What the directories of @tree are to have is for
 * import_tree_settle() afterwards. 0 or -errno with a sentence in @why; then part of it is moved.
 */
int import_merge(struct import_tree *tree, struct import_stage *stage, int onto,
		 struct strbuf *why);

#endif
