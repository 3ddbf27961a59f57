/* SPDX-License-Identifier: MIT */
/* Open directories, for the end of the union. */
#ifndef VENEER_CORE_READDIR_H
#define VENEER_CORE_READDIR_H

struct core;

/* Closes every directory that is still open; no call may run. */
void readdir_close_all(struct core *core);

#endif
