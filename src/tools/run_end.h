/* SPDX-License-Identifier: MIT */
/* What becomes of the layer when the command has ended. */
#ifndef VENEER_TOOLS_RUN_END_H
#define VENEER_TOOLS_RUN_END_H

#include <stdbool.h>

#include "tools/run.h"

/* True if our process group is the one that the terminal listens to. */
bool run_end_is_foreground(void);
/* Makes it so again if the command has ended without giving the terminal back. */
void run_end_take_terminal(void);

/* Commits, discards, keeps or asks, as the options say. 0 or -errno after a message. */
int run_end(struct run_plan *plan);

#endif
