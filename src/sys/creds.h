/* SPDX-License-Identifier: MIT */
/*
 * Whose rights a thread acts with.
 *
 * The daemon keeps its capabilities while it takes the caller's file system
 * ids (SECBIT_NO_SETUID_FIXUP), so an object is born with the right owner and
 * no supplementary group is ever missing: the kernel has already checked the
 * caller's permission on the union.  All of this is per thread.
 */
#ifndef VENEER_SYS_CREDS_H
#define VENEER_SYS_CREDS_H

#include <stdbool.h>
#include <sys/types.h>

/* Once, before threads start: keeps capabilities over setfsuid(2) and sets umask 0. 0 or -EPERM
 * (then ids can not be changed either, and sys_creds_act_as() changes the umask alone). */
int sys_creds_init(void);
/* Once in each thread that serves requests: gives the thread its own umask (unshare CLONE_FS). */
int sys_creds_init_thread(void);

/* True if the effective set of this thread holds the capability (CAP_*). */
bool sys_creds_has_cap(int cap);
/* Takes it from this thread, and so from those it will start. 0 or -errno. */
int sys_creds_drop_cap(int cap);
/* True if capabilities count for the whole machine: the process is in the initial user namespace. */
bool sys_creds_is_initial_userns(void);

/*
 * True if the group is one of the supplementary groups of the thread @tid, as /proc tells; false
 * if it does not.  The caller sees to it that the thread lives: one that waits for us does.
 */
bool sys_creds_thread_has_group(pid_t tid, gid_t gid);

/* Acts with these ids and this umask from now on; only what differs is changed. */
void sys_creds_act_as(uid_t uid, gid_t gid, mode_t umask);
/* Back to the daemon's own ids and umask 0. */
void sys_creds_restore(void);

#endif
