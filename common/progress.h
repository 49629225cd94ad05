/*
 * progress.h - how far a command is, on standard error
 *
 * On a terminal one line is written over again and again: count, share, rate
 * and time left.  On a terminal that cannot do that (TERM=dumb) it is a line
 * each ten seconds.  Elsewhere, as in a file or in the journal, nothing is
 * written.
 *
 * One progress is shown at a time, by the main thread.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_PROGRESS_H
#define PGSTOCK_COMMON_PROGRESS_H

#include "common/util.h"

/* From now on nothing is shown: the screen is another's. */
void progress_silence(void);

/* Whether progress is shown at all: what only progress needs can be spared. */
bool progress_is_shown(void);

/* what: "events", behind the count.  It follows the previous step's line. */
void progress_begin(const char *what);

/*
 * How many are done, and which part of all that is: 0 to 1, or
 * PROGRESS_UNKNOWN.
 */
#define PROGRESS_UNKNOWN (-1.0)
void progress_update(int64_t done, double share);

/* Waits for something that cannot be counted, since that many microseconds. */
void progress_wait(const char *what, int64_t us);

/* Makes way for a line of output; the next update writes it again. */
void progress_hide(void);

/* The last line stays, with how long it took. */
void progress_end(void);

/* ---- pure ---- */

#define PROGRESS_MARKS 10 /* seconds that the rate is taken from */

typedef struct ProgressMark
{
	int64_t at_us;
	int64_t done;
	double	share;
} ProgressMark;

/* The latest marks, one a second, the oldest first. */
typedef struct ProgressMarks
{
	ProgressMark marks[PROGRESS_MARKS];
	int			 count;
} ProgressMarks;

/* now replaces the last mark if the one before is younger than a second. */
void progress_note(ProgressMarks *marks, ProgressMark now);

/* "1,200 of events, 12 %, 400/s, 0:20 left" */
void progress_format(const ProgressMarks *marks, const char *what, Buf *text);

#endif
