/* SPDX-License-Identifier: MIT */
/* `veneer unfold`: veneer-unfold(1). */
#ifndef VENEER_TOOLS_UNFOLD_H
#define VENEER_TOOLS_UNFOLD_H

/* The command; returns the exit status. */
int unfold_run(int argc, char **argv);

#endif
