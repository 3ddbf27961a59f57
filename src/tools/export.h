/* SPDX-License-Identifier: MIT */
/* `veneer export`: veneer-export(1). */
#ifndef VENEER_TOOLS_EXPORT_H
#define VENEER_TOOLS_EXPORT_H

/* The command; returns the exit status. */
int export_run(int argc, char **argv);

#endif
