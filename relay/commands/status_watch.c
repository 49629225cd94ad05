/*
 * status_watch.c - "status --watch"
 *
 * On a terminal the screen is drawn over and over, like that of watch(1) and
 * top(1): q or Ctrl-C ends it, any other key looks again at once.  Elsewhere
 * one text follows the other.  The connections stay open; a database that is
 * away is shown as such, and connected again at the next look.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/status_parts.h"

#include <string.h>

#include "common/clock.h"
#include "common/progress.h"
#include "common/terminal.h"

typedef struct Watch
{
	StatusSource *source;
	int64_t		  seconds;
	bool		  redraws; /* standard output is a terminal */
	Status		  status;
	Status		  before; /* rows NULL: none */
	Buf			  errors; /* of the last look, if it failed */
} Watch;

/* The latest look becomes the one before; a look that failed does not. */
static void
watch_look(Watch *watch)
{
	Status status;
	bool   good;

	buf_clear(&watch->errors);
	command_report_into(&watch->errors);
	good = status_read(watch->source, &status);
	command_report_into(NULL);
	(void) buf_str(&watch->errors);
	if (!good)
	{
		status_free(&status);
		status_free(&watch->before);
		status_free(&watch->status);
		return;
	}
	Assert(status.rows != NULL && status.at_us >= watch->status.at_us);
	status_free(&watch->before);
	watch->before = watch->status;
	watch->status = status;
}

static void
watch_add_text(const Watch *watch, const StatusLook *look, Buf *text)
{
	const Status *before = watch->before.rows != NULL ? &watch->before : NULL;

	if (watch->status.rows == NULL)
		return;
	if (watch->source->json)
		status_add_json(&watch->status, text);
	else
		status_add_screen(&watch->status, before, look, text);
}

/* ---- a terminal -------------------------------------------------------- */

/* As many lines as there are; the rest of each line is cleared. */
static void
watch_draw(Watch *watch)
{
	StatusLook	look = {.colors = terminal_has_colors(stdout)};
	Buf			text = {0};
	const char *line;

	terminal_size(stdout, &look.columns, &look.lines);
	buf_add(&text, watch->errors.data, watch->errors.len);
	watch_add_text(watch, &look, &text);
	line = buf_str(&text);
	fputs(TERMINAL_HOME, stdout);
	for (int i = 1; i < look.lines && *line != '\0'; i++)
	{
		size_t len = strcspn(line, "\n");

		printf("%.*s" TERMINAL_CLEAR_EOL "\n", (int) len, line);
		line += len + (line[len] == '\n');
	}
	printf("%s" TERMINAL_CLEAR_EOS,
		   *line != '\0' ? "..." TERMINAL_CLEAR_EOL : "");
	fflush(stdout);
	buf_free(&text);
}

/* Until the next look is due; false: it is the end. */
static bool
watch_rest(Watch *watch, int64_t until_ms)
{
	for (;;)
	{
		int64_t left = until_ms - clock_monotonic() / MS_US;
		char	key = '\0';

		if (left <= 0)
			return true;
		switch (terminal_wait(left, &key))
		{
			case TERMINAL_TIMEOUT:
				break;
			case TERMINAL_RESIZED:
				watch_draw(watch);
				break;
			case TERMINAL_KEY:
				return key != 'q' && key != 'Q';
		}
	}
}

static void
watch_terminal(Watch *watch)
{
	int64_t until_ms;

	progress_silence();
	terminal_enter();
	buf_add_str(&watch->errors, "looking at the database and the broker\n");
	watch_draw(watch);
	do
	{
		until_ms = clock_monotonic() / MS_US + watch->seconds * 1000;
		watch_look(watch);
		watch_draw(watch);
	} while (watch_rest(watch, until_ms));
	terminal_leave();
}

/* ---- a file or a pipe -------------------------------------------------- */

/* Until the reader is gone. */
static bool
watch_print(Watch *watch)
{
	const StatusLook look = {0};
	Buf				 text = {0};

	watch_add_text(watch, &look, &text);
	fputs(buf_str(&watch->errors), stderr);
	printf("%s%s", buf_str(&text), watch->source->json ? "" : "\n");
	buf_free(&text);
	return fflush(stdout) == 0;
}

static void
watch_file(Watch *watch)
{
	bool good;

	do
	{
		int64_t until_ms = clock_monotonic() / MS_US + watch->seconds * 1000;

		watch_look(watch);
		good = watch_print(watch);
		if (good)
			(void) watch_rest(watch, until_ms);
	} while (good);
}

ExitCode
status_watch(StatusSource *source, int64_t seconds)
{
	Watch watch = {.source = source, .seconds = seconds};

	Assert(seconds > 0);
	watch.redraws = terminal_can_redraw(stdout) && !source->json;
	if (watch.redraws)
		watch_terminal(&watch);
	else
		watch_file(&watch);
	status_free(&watch.status);
	status_free(&watch.before);
	buf_free(&watch.errors);
	/* a file is written to until that fails */
	return watch.redraws ? EXIT_CLEAN : EXIT_RUNTIME;
}
