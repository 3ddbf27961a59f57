/* SPDX-License-Identifier: MIT */
/* `veneer export` and `veneer import` of a build without libarchive. */
#include <stdlib.h>

#include "base/log.h"
#include "tools/export.h"
#include "tools/import.h"

static int export_missing(void)
{
	log_error("this veneer was built without libarchive and knows no archives: build it with "
		  "-Darchive=enabled (package libarchive-dev)");
	return EXIT_FAILURE;
}

int export_run(int argc, char **argv)
{
	return export_missing();
}

int import_run(int argc, char **argv)
{
	return export_missing();
}
