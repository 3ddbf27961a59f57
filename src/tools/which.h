/* SPDX-License-Identifier: MIT */
/* veneer which: which layers a path comes from. */
#ifndef VENEER_TOOLS_WHICH_H
#define VENEER_TOOLS_WHICH_H

/* As tool.run. */
int which_run(int argc, char **argv);

#endif
