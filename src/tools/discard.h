/* SPDX-License-Identifier: MIT */
/* veneer discard: forgets what a layer holds. */
#ifndef VENEER_TOOLS_DISCARD_H
#define VENEER_TOOLS_DISCARD_H

/* As tool.run. */
int discard_run(int argc, char **argv);

#endif
