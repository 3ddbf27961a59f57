/* SPDX-License-Identifier: MIT */
#include "fuse/thread.h"

#include <limits.h>
#include <signal.h>
#include <time.h>

#include "base/util.h"

#define THREAD_STACK_SIZE (512U * 1024)
/* Interrupts a system call and does nothing else. */
#define THREAD_KICK_SIGNAL SIGUSR2

int thread_create(void *(*main)(void *arg), void *arg)
{
	sigset_t mask, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	sigfillset(&mask);
	sigdelset(&mask, THREAD_KICK_SIGNAL);
	r = -pthread_attr_init(&attr);
	if (r < 0)
		return r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, MAX(THREAD_STACK_SIZE, (unsigned int)PTHREAD_STACK_MIN));
	/* Inherited by the new thread. */
	pthread_sigmask(SIG_SETMASK, &mask, &old);
	r = -pthread_create(&thread, &attr, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return r;
}

static void thread_handle_kick(int number)
{
}

void thread_enable_kicks(void)
{
	/* No SA_RESTART: the call shall return. */
	struct sigaction action = { .sa_handler = thread_handle_kick };

	sigaction(THREAD_KICK_SIGNAL, &action, NULL);
}

void thread_kick(pthread_t thread)
{
	pthread_kill(thread, THREAD_KICK_SIGNAL);
}

void thread_sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_nsec = (long)ms * 1000000 };

	nanosleep(&time, NULL);
}
