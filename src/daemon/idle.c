/* SPDX-License-Identifier: MIT */
#include "daemon/idle.h"

void idle_init(struct idle *idle, struct control *control)
{
	*idle = (struct idle){ .control = control };
}

void idle_note(struct idle *idle, size_t size)
{
	size_t before = atomic_fetch_add_explicit(&idle->noted, size, memory_order_relaxed);

	if (before + size < IDLE_WORTHWHILE ||
	    atomic_load_explicit(&idle->is_posted, memory_order_relaxed))
		return;
	if (!atomic_exchange(&idle->is_posted, true))
		control_post(idle->control, CONTROL_BUSY);
}

void idle_watch(struct idle *idle)
{
	idle->is_watching = true;
}

int idle_timeout_ms(const struct idle *idle)
{
	return idle->is_watching ? IDLE_QUIET_MS : -1;
}

bool idle_is_quiet(struct idle *idle)
{
	size_t noted = atomic_load(&idle->noted);

	if (!idle->is_watching)
		return false;
	if (noted != idle->seen) {
		idle->seen = noted;
		return false;
	}
	idle->is_watching = false;
	idle->seen = 0;
	atomic_store(&idle->noted, 0);
	atomic_store(&idle->is_posted, false);
	return true;
}
