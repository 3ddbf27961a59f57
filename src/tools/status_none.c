/* SPDX-License-Identifier: MIT */
/* `veneer status` of a build without jansson. */
#include "base/log.h"
#include "tools/status.h"

bool status_show(const struct status_look *look)
{
	log_error("this veneer was built without jansson and cannot ask a mount: build it with "
		  "-Djson=enabled (package libjansson-dev)");
	return false;
}
