/* SPDX-License-Identifier: MIT */
/* A mount's report as a person reads it. */
#ifndef VENEER_TOOLS_STATUS_PRINT_H
#define VENEER_TOOLS_STATUS_PRINT_H

#include <jansson.h>

/* @report as docs/status.md has it; what is missing in it is shown as nothing. */
void status_print(const char *mount_point, const json_t *report);

#endif
