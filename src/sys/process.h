/* SPDX-License-Identifier: MIT */
/* Processes and what comes of them. */
#ifndef VENEER_SYS_PROCESS_H
#define VENEER_SYS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Orphans among our descendants become our children. */
int sys_adopt_orphans(void);
/* This process gets @number when its parent ends; -ESRCH if that is not @parent (any more). */
int sys_end_with_parent(int number, pid_t parent);
/* So that a program this process executes has the capabilities this process has, whoever it is. */
int sys_keep_caps_over_exec(void);

/* Processes, as /proc lists them. */
struct sys_pids {
	pid_t *items; /* owned */
	size_t count;
};

/*
 * All descendants of this process, but for those of the processes in @except and these themselves; zombies
 * left out. To be deinitialised in any case. 0 or -errno.
 */
int sys_find_descendants(const struct sys_pids *except, struct sys_pids *found);
/*
 * Quick: has this process, of one thread, children besides those in @except? The kernel may leave one out
 * while others end. Zombies count.
 */
bool sys_has_other_children(const struct sys_pids *except);
/* Its children, zombies left out. As above. */
int sys_find_children(struct sys_pids *found);
/* True if @pid is a child of this process, or a descendant of one. */
bool sys_is_descendant(pid_t pid);
void sys_pids_deinit(struct sys_pids *pids);

#endif
