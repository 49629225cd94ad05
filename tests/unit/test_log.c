/*
 * test_log.c - lines of the log
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

/* Standard error goes into a file while a test runs. */
static int	 real_stderr;
static FILE *captured;

static void
capture(void)
{
	captured = tmpfile();
	assert_non_null(captured);
	real_stderr = dup(STDERR_FILENO);
	dup2(fileno(captured), STDERR_FILENO);
}

static const char *
release(void)
{
	static char text[4096];
	size_t		len;

	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	rewind(captured);
	len = fread(text, 1, sizeof(text) - 1, captured);
	text[len] = '\0';
	fclose(captured);
	return text;
}

static int
count_lines(const char *text)
{
	int lines = 0;

	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return lines;
}

static void
an_event_is_one_line(void **state UNUSED)
{
	const char *text;

	log_configure(LEVEL_INFO, LOG_TEXT);
	capture();
	log_write(LEVEL_WARNING, "test", "first\nsecond\r\n\tthird=%d\n", 3);
	log_write(LEVEL_DEBUG, "test", "not shown");
	text = release();
	assert_int_equal(count_lines(text), 1);
	assert_non_null(strstr(text, "warning test: first second   third=3\n"));
}

static void
a_terminal_obeys_nothing_of_it(void **state UNUSED)
{
	const char *text;

	log_configure(LEVEL_INFO, LOG_TEXT);
	capture();
	log_write(LEVEL_WARNING, "test",
			  "a\x1b[2Jb\xc2\x9b"
			  "c\xe2\x80\xae\xff");
	text = release();
	assert_non_null(strstr(text, "test: a [2Jb\\u{9b}c\\u{202e}\\xff\n"));
}

static void
json_lines_are_json(void **state UNUSED)
{
	const char *text;

	log_configure(LEVEL_INFO, LOG_JSON);
	capture();
	log_write(LEVEL_ERROR, "test", "a \"quote\" and a \\");
	text = release();
	log_configure(LEVEL_INFO, LOG_TEXT);
	assert_non_null(strstr(text,
						   "\"level\":\"error\",\"module\":\"test\","
						   "\"message\":\"a \\\"quote\\\" and a \\\\\"}\n"));
}

static void
the_journal_gets_priorities_and_no_time(void **state UNUSED)
{
	const char *text;

	setenv("JOURNAL_STREAM", "1:2", 1);
	capture();
	log_write(LEVEL_WARNING, "test", "hello");
	text = release();
	unsetenv("JOURNAL_STREAM");
	assert_string_equal(text, "<4>warning test: hello\n");
}

static void
repeated_failures_are_counted(void **state UNUSED)
{
	LogThrottle throttle = {0};
	const char *text;
	int64_t		now = 1000 * SEC_US;

	capture();
	for (int i = 0; i < 100; i++, now += SEC_US)
		log_throttled(&throttle, now, LEVEL_WARNING, "test", "again");
	text = release();
	assert_int_equal(count_lines(text), 4);
	assert_non_null(strstr(text, "again repeated=29\n"));

	capture();
	log_recovered(&throttle);
	log_throttled(&throttle, now, LEVEL_WARNING, "test", "anew");
	text = release();
	assert_non_null(strstr(text, "anew\n"));
}

/* ---- a reader that stalls ---------------------------------------------- */

static int stalled; /* the end of the pipe that is read */

static void
stall(void)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	stalled = ends[0];
	real_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
}

static void
fill(void)
{
	int flags = fcntl(STDERR_FILENO, F_GETFL);

	fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
	while (write(STDERR_FILENO, "........", 8) == 8)
		;
	fcntl(STDERR_FILENO, F_SETFL, flags);
}

/* Reads what the pipe holds; the end of it. */
static const char *
drain(void)
{
	static char text[1024 * 1024];
	ssize_t		len;

	fcntl(stalled, F_SETFL, O_NONBLOCK);
	text[0] = '\0';
	len = read(stalled, text, sizeof(text) - 1);
	assert_true(len > 0);
	text[len] = '\0';
	return text;
}

static void
resume(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(stalled);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
a_reader_that_stalls_delays_once(void **state UNUSED)
{
	double		began = seconds();
	const char *text;

	stall();
	fill();
	for (int i = 0; i < 100; i++)
		log_write(LEVEL_INFO, "test", "dropped");
	assert_true(seconds() - began < 10); /* 0.2; 20 if each of them waits */
	assert_null(strchr(drain(), '\n'));
	log_write(LEVEL_INFO, "test", "written");
	log_write(LEVEL_INFO, "test", "the next");
	text = drain();
	resume();
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "warning log: could not write lines to "
								 "standard error n=100\n"));
	assert_non_null(strstr(text, "info test: written\n"));
	assert_non_null(strstr(text, "info test: the next\n"));
}

static void
a_line_that_was_cut_ends(void **state UNUSED)
{
	char		long_text[128 * 1024];
	const char *text;

	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	stall();
	log_write(LEVEL_INFO, "test", "%s", long_text);
	assert_null(strchr(drain(), '\n'));
	log_write(LEVEL_INFO, "test", "written");
	text = drain();
	resume();
	assert_int_equal(text[0], '\n');
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "n=1\n"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_one_line),
		cmocka_unit_test(a_terminal_obeys_nothing_of_it),
		cmocka_unit_test(json_lines_are_json),
		cmocka_unit_test(the_journal_gets_priorities_and_no_time),
		cmocka_unit_test(repeated_failures_are_counted),
		cmocka_unit_test(a_reader_that_stalls_delays_once),
		cmocka_unit_test(a_line_that_was_cut_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
