/* SPDX-License-Identifier: MIT */
#include "fuse/callers.h"

#include <string.h>
#include <unistd.h>

#include "sys/cpu.h"

/* Two that ask in turn within this time ask at once. */
#define CALLERS_TOGETHER_NS 1000000U
/* How long that holds on. */
#define CALLERS_SEVERAL_NS 10000000U
/* Requests in a row before it is worth knowing where they come from: more than a short-lived
 * program's turn at one that lives on. */
#define CALLERS_STREAK 4
/* How often one is looked for, at 3 us, and how often any, as new ones cost 10. */
#define CALLERS_LOCATE_NS 1000000U
#define CALLERS_LOCATE_ANY_NS 200000U

void callers_init(struct callers *callers)
{
	*callers = (struct callers){ .is_taken = ATOMIC_FLAG_INIT };
	for (unsigned int i = 0; i < CALLERS_MAX; i++)
		callers->list[i].fd = -1;
}

static void caller_close(struct caller *caller)
{
	if (caller->fd >= 0)
		close(caller->fd);
	caller->fd = -1;
}

void callers_deinit(struct callers *callers)
{
	for (unsigned int i = 0; i < CALLERS_MAX; i++)
		caller_close(&callers->list[i]);
}

/* Moves @thread to the front; true if it was in the list and asked a moment ago. */
static bool callers_bring_forward(struct callers *callers, uint32_t thread, uint64_t now)
{
	struct caller found;
	unsigned int i = 0;
	bool is_recent;

	while (i < CALLERS_MAX - 1 && callers->list[i].thread != thread)
		i++;
	found = callers->list[i];
	if (found.thread != thread) {
		caller_close(&found);
		found = (struct caller){ .thread = thread, .fd = -1 };
	}
	is_recent = found.asked > 0 && now - found.asked < CALLERS_TOGETHER_NS;
	memmove(&callers->list[1], &callers->list[0], i * sizeof(found));
	callers->list[0] = found;
	return is_recent;
}

/* The processor of the first, or CALLERS_NO_NEWS: not to be seen, or asked a moment ago. */
static int callers_locate(struct callers *callers, uint64_t now)
{
	struct caller *caller = &callers->list[0];
	int cpu;

	if (now - callers->located < CALLERS_LOCATE_ANY_NS ||
	    now - caller->located < CALLERS_LOCATE_NS)
		return CALLERS_NO_NEWS;
	callers->located = now;
	caller->located = now;
	if (caller->fd < 0)
		caller->fd = sys_cpu_open_thread(caller->thread);
	if (caller->fd < 0)
		return CALLERS_NO_NEWS;
	cpu = sys_cpu_of_thread(caller->fd);
	if (cpu >= 0)
		return cpu;
	/* It ended, and another has its number now. */
	caller_close(caller);
	return CALLERS_NO_NEWS;
}

static int callers_note_taken(struct callers *callers, uint32_t thread, uint64_t now)
{
	if (callers->list[0].thread != thread) {
		callers->streak = 0;
		if (callers_bring_forward(callers, thread, now))
			callers->several_until = now + CALLERS_SEVERAL_NS;
	}
	callers->list[0].asked = now;
	callers->streak++;
	if (now < callers->several_until)
		return CALLERS_SEVERAL;
	return callers->streak >= CALLERS_STREAK ? callers_locate(callers, now) : CALLERS_NO_NEWS;
}

int callers_note(struct callers *callers, uint32_t thread, uint64_t now)
{
	int news;

	if (thread == 0 ||
	    atomic_flag_test_and_set_explicit(&callers->is_taken, memory_order_acquire))
		return CALLERS_NO_NEWS;
	news = callers_note_taken(callers, thread, now);
	atomic_flag_clear_explicit(&callers->is_taken, memory_order_release);
	return news;
}
