/* SPDX-License-Identifier: MIT */
/* veneer list: live mounts and kept layers. */
#ifndef VENEER_TOOLS_LIST_H
#define VENEER_TOOLS_LIST_H

/* As tool.run. */
int list_run(int argc, char **argv);

#endif
