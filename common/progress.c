/*
 * progress.c - how far a command is, on standard error
 *
 * Rate and time left are those of the last ten seconds: a command that was
 * held up shows that, and recovers.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/figures.h"
#include "common/terminal.h"

#define REDRAW_US (100 * MS_US)
#define LINE_US	  (10 * SEC_US) /* where a line cannot be written over */
#define LEFT_US	  (2 * SEC_US)	/* earlier the time left is a guess */

static struct
{
	const char	 *what; /* NULL: none is under way */
	ProgressMarks marks;
	int64_t		  begun_us;
	int64_t		  written_us;
	int64_t		  done;
	bool		  visible; /* the cursor is on its line */
	bool		  silent;
} progress;

/* ---- pure -------------------------------------------------------------- */

void
progress_note(ProgressMarks *marks, ProgressMark now)
{
	int count = marks->count;

	Assert(count >= 0 && count <= PROGRESS_MARKS);
	if (count >= 2 && now.at_us - marks->marks[count - 2].at_us < SEC_US)
	{
		marks->marks[count - 1] = now;
		return;
	}
	if (count == PROGRESS_MARKS)
	{
		memmove(&marks->marks[0], &marks->marks[1],
				(PROGRESS_MARKS - 1) * sizeof(ProgressMark));
		count--;
	}
	marks->marks[count] = now;
	marks->count = count + 1;
}

void
progress_format(const ProgressMarks *marks, const char *what, Buf *text)
{
	ProgressMark first = marks->marks[0];
	ProgressMark last = marks->marks[marks->count - 1];
	double		 seconds = (double) (last.at_us - first.at_us) / SEC_US;
	double		 share = last.share - first.share;

	Assert(marks->count > 0 && last.at_us >= first.at_us);
	figures_add_count(text, last.done);
	buf_printf(text, " %s", what);
	if (last.share >= 0)
		buf_printf(text, ", %d %%", (int) (100 * Min(last.share, 1.0)));
	if (seconds > 0 && last.done >= first.done)
	{
		buf_add_str(text, ", ");
		figures_add_rate(text, (double) (last.done - first.done) / seconds);
	}
	if (last.share < 0 || first.share < 0 || share <= 0 ||
		last.at_us - first.at_us < LEFT_US)
		return;
	buf_add_str(text, ", ");
	figures_add_clock(text, (int64_t) (Max(1 - last.share, 0.0) / share *
									   seconds * SEC_US));
	buf_add_str(text, " left");
}

/* ---- standard error ---------------------------------------------------- */

void
progress_silence(void)
{
	progress.silent = true;
}

bool
progress_is_shown(void)
{
	return !progress.silent && isatty(STDERR_FILENO);
}

/* Over the line that is there; a line that is cut stays one line. */
static void
progress_write(const char *text)
{
	bool redraw = terminal_can_redraw(stderr);
	int	 columns;
	int	 lines;

	terminal_size(stderr, &columns, &lines);
	if (redraw)
		fprintf(stderr, "\r%.*s" TERMINAL_CLEAR_EOL, columns - 1, text);
	else
		fprintf(stderr, "%s\n", text);
	fflush(stderr);
	progress.visible = redraw;
}

static bool
progress_is_due(int64_t now)
{
	int64_t pause = terminal_can_redraw(stderr) ? REDRAW_US : LINE_US;

	return progress_is_shown() && now - progress.written_us >= pause;
}

void
progress_begin(const char *what)
{
	int64_t now = clock_monotonic();

	Assert(what != NULL);
	progress_end();
	progress.what = what;
	progress.done = 0;
	progress.begun_us = now;
	progress.written_us = now;
	progress.marks = (ProgressMarks){.count = 1};
	progress.marks.marks[0] = (ProgressMark){.at_us = now};
}

void
progress_update(int64_t done, double share)
{
	int64_t now = clock_monotonic();
	Buf		text = {0};

	Assert(progress.what != NULL);
	progress.done = done;
	progress_note(&progress.marks, (ProgressMark){now, done, share});
	if (!progress_is_due(now))
		return;
	progress_format(&progress.marks, progress.what, &text);
	progress_write(buf_str(&text));
	buf_free(&text);
	progress.written_us = now;
}

void
progress_wait(const char *what, int64_t us)
{
	int64_t now = clock_monotonic();
	Buf		text = {0};

	Assert(us >= 0);
	if (!progress_is_due(now))
		return;
	buf_printf(&text, "waiting for %s, ", what);
	figures_add_clock(&text, us);
	progress_write(buf_str(&text));
	buf_free(&text);
	progress.written_us = now;
}

void
progress_hide(void)
{
	if (!progress.visible)
		return;
	fputs("\r" TERMINAL_CLEAR_EOL, stderr);
	fflush(stderr);
	progress.visible = false;
	progress.written_us = 0;
}

void
progress_end(void)
{
	Buf		text = {0};
	int64_t us = clock_monotonic() - progress.begun_us;

	if (progress.what != NULL && progress.visible)
	{
		figures_add_count(&text, progress.done);
		buf_printf(&text, " %s in ", progress.what);
		figures_add_duration(&text, us);
		if (us > 0)
		{
			buf_add_str(&text, ", ");
			figures_add_rate(&text,
							 (double) progress.done * SEC_US / (double) us);
		}
		progress_write(buf_str(&text));
		fputc('\n', stderr);
		progress.visible = false;
	}
	progress_hide();
	progress.what = NULL;
	buf_free(&text);
}
