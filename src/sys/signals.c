/* SPDX-License-Identifier: MIT */
/* Signals of other threads, as /proc tells. */
#include "sys/signals.h"

#include <signal.h>
#include <stdio.h>

#include "base/cleanup.h"

static unsigned long long signal_bit(int number)
{
	return 1ULL << (number - 1);
}

bool sys_signals_want_stop(pid_t tid)
{
	const unsigned long long stop = signal_bit(SIGKILL) | signal_bit(SIGINT) |
					signal_bit(SIGQUIT) | signal_bit(SIGTERM) |
					signal_bit(SIGHUP);
	unsigned long long pending = 0, mask;
	char path[64], line[256];
	bool known = false;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	_cleanup_fclose_ FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "SigPnd: %llx", &mask) == 1 ||
		    sscanf(line, "ShdPnd: %llx", &mask) == 1) {
			pending |= mask;
			known = true;
		}
	}
	return !known || pending & stop;
}
