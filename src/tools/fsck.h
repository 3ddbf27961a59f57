/* SPDX-License-Identifier: MIT */
/* `veneer fsck`: checks and repairs a layer at rest. docs/fsck.md has what and why. */
#ifndef VENEER_TOOLS_FSCK_H
#define VENEER_TOOLS_FSCK_H

/* Returns the exit status, as fsck(8) has it. */
int fsck_run(int argc, char **argv);

#endif
