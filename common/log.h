/*
 * log.h - one line an event, to standard error
 *
 * Text:  [time] level module: message key=value ...
 * JSON:  {"time":...,"level":...,"module":...,"message":...}
 *
 * Where standard error is the journal, the time is left out and the level is
 * the prefix <N> that journald understands.  Secrets never reach this file:
 * callers leave them out of their messages.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_LOG_H
#define PGSTOCK_COMMON_LOG_H

#include "common/util.h"

typedef enum LogLevel
{
	LEVEL_ERROR,
	LEVEL_WARNING,
	LEVEL_INFO,
	LEVEL_DEBUG,
} LogLevel;

typedef enum LogFormat
{
	LOG_TEXT,
	LOG_JSON,
} LogFormat;

void log_configure(LogLevel level, LogFormat format);
void log_write(LogLevel level, const char *module, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* Each file that logs defines LOG_MODULE. */
#define log_error(...)	 log_write(LEVEL_ERROR, LOG_MODULE, __VA_ARGS__)
#define log_warning(...) log_write(LEVEL_WARNING, LOG_MODULE, __VA_ARGS__)
#define log_info(...)	 log_write(LEVEL_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...)	 log_write(LEVEL_DEBUG, LOG_MODULE, __VA_ARGS__)

/*
 * A failure that repeats is logged at most once in LOG_QUIET_US, with how often
 * it was suppressed.  The caller passes the time.
 */
#define LOG_QUIET_US (30 * SEC_US)

typedef struct LogThrottle
{
	int64_t	 logged_at;	 /* 0: never yet */
	unsigned suppressed; /* since then */
} LogThrottle;

void log_throttled(LogThrottle *throttle, int64_t now, LogLevel level,
				   const char *module, const char *format, ...)
	PRINTF_LIKE(5, 6);

/* The failure is over: the next one is logged at once. */
void log_recovered(LogThrottle *throttle);

#endif
