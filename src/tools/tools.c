/* SPDX-License-Identifier: MIT */
#include "tools/tools.h"

#include <string.h>

#include "base/util.h"
#include "tools/commit.h"
#include "tools/diff.h"
#include "tools/discard.h"
#include "tools/export.h"
#include "tools/fsck.h"
#include "tools/import.h"
#include "tools/list.h"
#include "tools/run.h"
#include "tools/squash.h"
#include "tools/status.h"
#include "tools/unfold.h"
#include "tools/which.h"

static const struct tool tools[] = {
	{ "commit", "merge a layer into what lies below it", commit_run },
	{ "diff", "what a layer changes of what lies below it", diff_run },
	{ "discard", "forget what a layer changes", discard_run },
	{ "export", "write a layer as an archive of an OCI image layer", export_run },
	{ "fsck", "what is wrong with a layer, and its repair", fsck_run },
	{ "import", "make a layer from an archive of an OCI image layer", import_run },
	{ "list", "live mounts of this user, and layers that were kept", list_run },
	{ "run", "run a command on a veneer over everything", run_run },
	{ "squash", "several layers into a new one", squash_run },
	{ "status", "what live mounts are made of and do", status_run },
	{ "unfold", "make a layer readable for any reader of overlay layers", unfold_run },
	{ "which", "which layers a path comes from", which_run },
};

const struct tool *tools_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
		if (!strcmp(tools[i].name, name))
			return &tools[i];
	return NULL;
}

void tools_print_list(FILE *file)
{
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
		fprintf(file, "  %-15s %s\n", tools[i].name, tools[i].summary);
}
