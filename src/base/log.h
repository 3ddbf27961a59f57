/* SPDX-License-Identifier: MIT */
/*
 * Messages for a person: to standard error in the foreground and while the
 * mount is being made, to syslog(3) once the daemon is in the background.
 * Every message is one line; a rate limit (per call site) keeps hostile input
 * from flooding the log.
 */
#ifndef VENEER_BASE_LOG_H
#define VENEER_BASE_LOG_H

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Messages above @level are dropped. Default: LOG_LEVEL_WARNING. */
void log_set_level(enum log_level level);
/* From now on to syslog(3) instead of standard error. */
void log_to_syslog(void);

void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* True at most @burst times every 5 seconds for one *@state (zero at first; thread safe). */
struct log_limit {
	_Atomic long window;
	_Atomic int used;
};
bool log_limit_pass(struct log_limit *limit, int burst);

#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_warning_limited(...)                                     \
	do {                                                         \
		static struct log_limit _limit;                      \
		if (log_limit_pass(&_limit, 10))                     \
			log_message(LOG_LEVEL_WARNING, __VA_ARGS__); \
	} while (0)

/*
 * State that could corrupt data: always checked, logged (once in 5 seconds
 * per site); the request at hand then fails with -EIO (style: `if (!ENSURE(x)) return -EIO;`).
 */
#define ENSURE(condition)                                                                 \
	({                                                                                \
		bool _ok = !!(condition);                                                 \
		static struct log_limit _limit;                                           \
		if (__builtin_expect(!_ok, 0) && log_limit_pass(&_limit, 1))              \
			log_message(LOG_LEVEL_ERROR, "%s:%d: %s does not hold", __FILE__, \
				    __LINE__, #condition);                                \
		_ok;                                                                      \
	})

#endif
