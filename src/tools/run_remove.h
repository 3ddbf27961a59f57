/* SPDX-License-Identifier: MIT */
/* Removing a layer's directory, whatever modes its parts have. */
#ifndef VENEER_TOOLS_RUN_REMOVE_H
#define VENEER_TOOLS_RUN_REMOVE_H

/* Removes the directory @path and all that is in it; nothing mounted below is entered. 0 or -errno. */
int run_remove_tree(const char *path);

#endif
