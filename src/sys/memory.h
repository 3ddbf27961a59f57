/* SPDX-License-Identifier: MIT */
/* The memory of this process. */
#ifndef VENEER_SYS_MEMORY_H
#define VENEER_SYS_MEMORY_H

/*
 * Unmaps the pages of the program and its libraries that come from their files unchanged, which
 * takes most that only starting up needed out of our resident memory. They stay in the page
 * cache; those that are used again are mapped again, without I/O.
 */
void sys_memory_trim_code(void);

#endif
