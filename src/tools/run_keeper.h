/* SPDX-License-Identifier: MIT */
/* The processes of a run, from outside: starting the keeper, waiting for the command's end. */
#ifndef VENEER_TOOLS_RUN_KEEPER_H
#define VENEER_TOOLS_RUN_KEEPER_H

#include "tools/run.h"

/*
 * Runs the command, until it and everything it started have ended and the union is gone. 0 with the
 * command's wait status, or -errno after a message: there was no command, or nobody knows how it ended.
 */
int run_session(const struct run_plan *plan, int *status);

#endif
