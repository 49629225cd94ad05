/*
 * terminal.h - what may be written to a terminal that is not for a file
 *
 * Colors and cursor movements go to a terminal only, and only to one that
 * understands them: not if TERM is "dumb" or not set.  Colors are left out
 * too if NO_COLOR is set to anything (no-color.org).
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMON_TERMINAL_H
#define PGSTOCK_COMMON_TERMINAL_H

#include <stdio.h>

#include "common/util.h"

typedef enum TerminalStyle
{
	STYLE_PLAIN,
	STYLE_BOLD,
	STYLE_FAINT,
	STYLE_GOOD,	   /* green */
	STYLE_WARNING, /* yellow */
	STYLE_BAD,	   /* red */
	STYLES,		   /* their number */
} TerminalStyle;

/* Whether a line that was written can be written over. */
bool terminal_can_redraw(FILE *file);

bool terminal_has_colors(FILE *file);

/* Of standard output or error; 80 and 24 if that is not known. */
void terminal_size(FILE *file, int *columns, int *lines);

/* Before and behind a styled text; empty without colors. */
const char *terminal_begin(TerminalStyle style, bool colors);
const char *terminal_end(TerminalStyle style, bool colors);

/* ---- a screen that is redrawn ---- */

#define TERMINAL_HOME	   "\033[H"
#define TERMINAL_CLEAR_EOL "\033[K"
#define TERMINAL_CLEAR_EOS "\033[J"

/*
 * Takes over the terminal of standard output: a screen of its own, no cursor,
 * keys that are not echoed.  terminal_leave() gives it back, and so do a signal
 * that ends the process and Ctrl-Z; after the latter the screen is taken again,
 * and terminal_wait() returns at once.  At most once in a process.
 */
void terminal_enter(void);
void terminal_leave(void);

typedef enum TerminalEvent
{
	TERMINAL_TIMEOUT,
	TERMINAL_RESIZED, /* or shown again */
	TERMINAL_KEY,	  /* in *key */
} TerminalEvent;

TerminalEvent terminal_wait(int64_t ms, char *key);

#endif
