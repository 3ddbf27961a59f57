/* SPDX-License-Identifier: MIT */
/* The commands of a build without jansson: none. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "tools/tools.h"

static int tools_none_run(int argc, char **argv)
{
	log_error("this veneer was built without jansson and can only mount: for '%s' build it "
		  "with -Djson=enabled (package libjansson-dev)",
		  argv[0]);
	return EXIT_FAILURE;
}

static const struct tool tools_none[] = {
	{ "commit", "", tools_none_run },  { "diff", "", tools_none_run },
	{ "discard", "", tools_none_run }, { "export", "", tools_none_run },
	{ "fsck", "", tools_none_run },	   { "import", "", tools_none_run },
	{ "list", "", tools_none_run },	   { "run", "", tools_none_run },
	{ "squash", "", tools_none_run },  { "status", "", tools_none_run },
	{ "unfold", "", tools_none_run },  { "which", "", tools_none_run },
};

const struct tool *tools_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tools_none); i++)
		if (!strcmp(tools_none[i].name, name))
			return &tools_none[i];
	return NULL;
}

void tools_print_list(FILE *file)
{
	fputs("  none: built without jansson\n", file);
}
