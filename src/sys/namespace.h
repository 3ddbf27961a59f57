/* SPDX-License-Identifier: MIT */
/* A process's own namespaces: what it sees as the file system tree, users, network. */
#ifndef VENEER_SYS_NAMESPACE_H
#define VENEER_SYS_NAMESPACE_H

#include <stdbool.h>
#include <sys/types.h>

/* unshare(2), CLONE_NEW* @flags, of a process with one thread. */
int sys_unshare(int flags);
/*
 * Gives the process @pid, which made a user namespace and has no ids in it yet, the ids that we
 * have, each as itself: all of our own namespace where we may (CAP_SETUID and CAP_SETGID), else those
 * we act with alone. -EPERM, ...
 */
int sys_map_ids(pid_t pid);
/* What an id without a mapping in our user namespace shows as. */
unsigned int sys_overflow_id(void);
/* True if ids without a mapping in our user namespace show as one that is no user's here. */
bool sys_ids_are_partial(void);

/* What is mounted elsewhere comes in, what is mounted here stays here. */
int sys_mounts_isolate(void);
/* What lies at @from is seen at @to as well; @recursive: with what is mounted below it. */
int sys_mount_bind(const char *from, const char *to, bool recursive);
/* The working directory, a mount's root, becomes the root, and what was the root is gone. */
int sys_pivot_root(void);

/* Switches the loopback device of this network namespace on. */
int sys_loopback_up(void);

#endif
