/* SPDX-License-Identifier: MIT */
/* Threads of the transports: detached, with small stacks, deaf to all signals but one. */
#ifndef VENEER_FUSE_THREAD_H
#define VENEER_FUSE_THREAD_H

#include <pthread.h>

/* How long to wait before a kick that may have come too early is tried again. */
#define THREAD_KICK_INTERVAL_MS 10

/* 0 or -EAGAIN. */
int thread_create(void *(*main)(void *arg), void *arg);
/* Once before the first kick. */
void thread_enable_kicks(void);
/* The system call that @thread waits in, if any, fails with EINTR. */
void thread_kick(pthread_t thread);
void thread_sleep_ms(unsigned int ms);

#endif
