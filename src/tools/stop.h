/* SPDX-License-Identifier: MIT */
/* Long work that a signal ends in good order: nothing half is left. */
#ifndef VENEER_TOOLS_STOP_H
#define VENEER_TOOLS_STOP_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP are remembered; a second one ends the process. */
void stop_catch(void);
/* True once there was one. @context is not used: it fits where such functions have one. */
bool stop_is_wanted(void *context);

#endif
