/* SPDX-License-Identifier: MIT */
/* `veneer squash`: veneer-squash(1). */
#ifndef VENEER_TOOLS_SQUASH_H
#define VENEER_TOOLS_SQUASH_H

/* The command; returns the exit status. */
int squash_run(int argc, char **argv);

#endif
