/* SPDX-License-Identifier: MIT */
#include "tools/stop.h"

#include <signal.h>
#include <stddef.h>

#include "base/util.h"

static volatile sig_atomic_t stop_wanted;

static void stop_remember(int signal_number)
{
	stop_wanted = 1;
}

void stop_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = stop_remember, .sa_flags = (int)SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

bool stop_is_wanted(void *context)
{
	return stop_wanted;
}
