/*
 * log.c - one line an event, to standard error
 *
 * A line is built in memory and written at once, so that lines of several
 * processes do not mix.  Line ends within a message (libpq's have some) become
 * blanks: one event stays one line, and no message can forge another.  Other
 * characters that a terminal would obey are escaped.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/json.h"
#include "common/rfc3339.h"
#include "common/safe_text.h"

static const struct
{
	const char *name;
	int			priority; /* syslog's */
} log_levels[] = {
	[LEVEL_ERROR] = {"error", 3},
	[LEVEL_WARNING] = {"warning", 4},
	[LEVEL_INFO] = {"info", 6},
	[LEVEL_DEBUG] = {"debug", 7},
};

static LogLevel	 log_level = LEVEL_INFO;
static LogFormat log_format = LOG_TEXT;

void
log_configure(LogLevel level, LogFormat format)
{
	Assert(level <= LEVEL_DEBUG);
	log_level = level;
	log_format = format;
}

bool
log_enabled(LogLevel level)
{
	return level <= log_level;
}

static void
log_add_time(Buf *line)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	rfc3339_add_second(line, now.tv_sec);
	buf_printf(line, ".%03ldZ", now.tv_nsec / 1000000);
}

/* Control characters become blanks, and blanks at the end are removed. */
static void
log_flatten(Buf *message)
{
	Buf safe = {0};

	for (size_t i = 0; i < message->len; i++)
		if ((unsigned char) message->data[i] < 0x20)
			message->data[i] = ' ';
	while (message->len > 0 && message->data[message->len - 1] == ' ')
		message->len--;
	safe_add(&safe, message->data, message->len);
	buf_free(message);
	*message = safe;
}

static void
log_add_line(Buf *line, LogLevel level, const char *module, const char *message)
{
	bool journal = getenv("JOURNAL_STREAM") != NULL;

	if (log_format == LOG_JSON)
	{
		buf_add_str(line, "{\"time\":\"");
		log_add_time(line);
		buf_printf(line, "\",\"level\":\"%s\",\"module\":\"%s\",\"message\":",
				   log_levels[level].name, module);
		json_string(line, message);
		buf_add_str(line, "}");
	}
	else
	{
		if (journal)
			buf_printf(line, "<%d>", log_levels[level].priority);
		else
		{
			log_add_time(line);
			buf_add_str(line, " ");
		}
		buf_printf(line, "%s %s: %s", log_levels[level].name, module, message);
	}
	buf_add_str(line, "\n");
}

static void log_vwrite(LogLevel level, const char *module, unsigned suppressed,
					   const char *format, va_list args) PRINTF_LIKE(4, 0);

static void
log_vwrite(LogLevel level, const char *module, unsigned suppressed,
		   const char *format, va_list args)
{
	Buf message = {0};
	Buf line = {0};
	int saved_errno = errno;

	buf_vprintf(&message, format, args);
	log_flatten(&message);
	Assert(memchr(buf_str(&message), '\n', message.len) == NULL);
	if (suppressed > 0)
		buf_printf(&message, " repeated=%u", suppressed);
	log_add_line(&line, level, module, buf_str(&message));
	if (write(STDERR_FILENO, line.data, line.len) < 0)
	{
		/* there is no other place to report it */
	}
	buf_free(&message);
	buf_free(&line);
	errno = saved_errno;
}

void
log_write(LogLevel level, const char *module, const char *format, ...)
{
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	log_vwrite(level, module, 0, format, args);
	va_end(args);
}

bool
log_due(LogThrottle *throttle, int64_t now, unsigned *suppressed)
{
	if (throttle->logged_at != 0 && now - throttle->logged_at < LOG_QUIET_US)
	{
		throttle->suppressed++;
		return false;
	}
	*suppressed = throttle->suppressed;
	*throttle = (LogThrottle){.logged_at = now};
	return true;
}

void
log_throttled(LogThrottle *throttle, int64_t now, LogLevel level,
			  const char *module, const char *format, ...)
{
	va_list	 args;
	unsigned suppressed;

	if (!log_enabled(level) || !log_due(throttle, now, &suppressed))
		return;
	va_start(args, format);
	log_vwrite(level, module, suppressed, format, args);
	va_end(args);
}

void
log_recovered(LogThrottle *throttle)
{
	*throttle = (LogThrottle){0};
}
