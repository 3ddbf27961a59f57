/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>
#include <time.h>

#include "base/util.h"

#define LOG_LINE_MAX 1024
#define LOG_WINDOW_SECONDS 5

/* The one place with process-wide state: where messages go and which. */
static _Atomic int log_level_max = LOG_LEVEL_WARNING;
static atomic_bool log_is_syslog;

static const int log_priorities[] = {
	[LOG_LEVEL_ERROR] = LOG_ERR,
	[LOG_LEVEL_WARNING] = LOG_WARNING,
	[LOG_LEVEL_INFO] = LOG_INFO,
	[LOG_LEVEL_DEBUG] = LOG_DEBUG,
};

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_max, (int)level);
}

void log_to_syslog(void)
{
	openlog("veneer", LOG_PID, LOG_DAEMON);
	atomic_store(&log_is_syslog, true);
}

/* File names may hold anything: no line breaks and no terminal escapes leave here. */
static void log_sanitize(char *line)
{
	for (; *line; line++) {
		unsigned char c = (unsigned char)*line;

		if (c < 0x20 || c == 0x7f)
			*line = '?';
	}
}

void log_message(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;

	if ((int)level > atomic_load_explicit(&log_level_max, memory_order_relaxed))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_sanitize(line);
	if (atomic_load_explicit(&log_is_syslog, memory_order_relaxed))
		syslog(log_priorities[level], "%s", line);
	else
		fprintf(stderr, "veneer: %s\n", line);
}

bool log_limit_pass(struct log_limit *limit, int burst)
{
	struct timespec now;
	long window, seen;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	/* Never 0, which is the state of a site that has not logged yet. */
	window = (long)(now.tv_sec / LOG_WINDOW_SECONDS) + 1;
	seen = atomic_load(&limit->window);
	if (seen != window && atomic_compare_exchange_strong(&limit->window, &seen, window))
		atomic_store(&limit->used, 0);
	/* The first test keeps the counter from wrapping under a flood. */
	return atomic_load(&limit->used) < burst && atomic_fetch_add(&limit->used, 1) < burst;
}
