/*
 * log.c - one line an event, to standard error
 *
 * A line is built in memory and written at once, so that lines of several
 * processes do not mix.  Line ends within a message (libpq's have some) become
 * blanks: one event stays one line, and no message can forge another.  Other
 * characters that a terminal would obey are escaped.
 *
 * The reader of a pipe, or the journal, may stall: a line waits LOG_WAIT_US for
 * it and is dropped then.  After that no line waits before one has been written
 * again, so that a stall delays the caller once; the number of lines dropped is
 * logged ahead of that line.  Standard error may be shared with other programs,
 * so it is not made non-blocking: each write follows a poll() and is no longer
 * than a pipe that is writable accepts at once.
 *
 * librdkafka's threads log too: a lock covers the writing.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
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

#define LOG_WAIT_US (200 * MS_US)

static LogLevel	 log_level = LEVEL_INFO;
static LogFormat log_format = LOG_TEXT;

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned		   log_dropped; /* lines, since one was written */
static bool			   log_is_cut;	/* the output ends within a line */

void
log_configure(LogLevel level, LogFormat format)
{
	Assert(level <= LEVEL_DEBUG);
	log_level = level;
	log_format = format;
}

static bool
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

	Assert(level < Lengthof(log_levels));
	if (log_format == LOG_JSON)
	{
		buf_add_str(line, "{\"time\":\"");
		log_add_time(line);
		buf_printf(line, "\",\"level\":\"%s\",\"module\":\"%s\",\"message\":",
				   log_levels[level].name, module);
		json_add_string(line, message);
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

static bool
log_wait_writable(int64_t until)
{
	struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
	int			  ready;

	do
	{
		int64_t left = Max(until - clock_monotonic(), 0);

		ready = poll(&fd, 1, (int) ((left + MS_US - 1) / MS_US));
	} while (ready < 0 && errno == EINTR);
	return ready > 0;
}

/* Whether the whole line was written. */
static bool
log_send(const Buf *line, int64_t wait_us)
{
	int64_t until = clock_monotonic() + wait_us;
	size_t	done = 0;

	Assert(wait_us <= LOG_WAIT_US);
	while (done < line->len && log_wait_writable(until))
	{
		ssize_t n = write(STDERR_FILENO, line->data + done,
						  Min(line->len - done, PIPE_BUF));

		if (n > 0)
			done += (size_t) n;
		else if (n == 0 || (errno != EINTR && errno != EAGAIN) ||
				 clock_monotonic() >= until)
			break;
	}
	Assert(done <= line->len);
	if (done > 0)
		log_is_cut = done < line->len;
	return done == line->len;
}

/* The line that reports those that were dropped. */
static bool
log_send_dropped(void)
{
	char message[64];
	Buf	 line = {0};
	bool sent;

	Assert(log_dropped > 0);
	if (log_is_cut)
		buf_add_str(&line, "\n");
	snprintf(message, sizeof(message),
			 "could not write lines to standard error n=%u", log_dropped);
	log_add_line(&line, LEVEL_WARNING, "log", message);
	sent = log_send(&line, 0);
	buf_free(&line);
	return sent;
}

static void
log_send_or_drop(const Buf *line)
{
	int64_t wait_us;

	pthread_mutex_lock(&log_lock);
	Assert(log_dropped > 0 || !log_is_cut);
	wait_us = log_dropped > 0 ? 0 : LOG_WAIT_US;
	if (log_dropped > 0 && log_send_dropped())
		log_dropped = 0;
	if (log_dropped > 0 || !log_send(line, wait_us))
		log_dropped++;
	pthread_mutex_unlock(&log_lock);
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
	log_send_or_drop(&line);
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

static bool
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
