/*
 * terminal.c - what may be written to a terminal that is not for a file
 *
 * The signal handlers call write(), tcsetattr(), signal() and raise(), which
 * signal-safety(7) lists.  Until terminal_wait() the signals of a resize and of
 * Ctrl-Z are blocked, so that none is lost between a drawing and the wait;
 * those that end the process are not, since a drawing may wait for a server.
 * They are while the terminal is taken or left: one that arrived in between
 * would end the process and leave the terminal half restored.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define ENTER "\033[?1049h\033[?25l" /* another screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

/* SIGABRT: an assertion has failed. */
static const int terminal_ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT,
									  SIGABRT};

static struct termios		 terminal_before; /* of standard input */
static bool					 terminal_has_keys;
static volatile sig_atomic_t terminal_entered;
static volatile sig_atomic_t terminal_changed;
static sigset_t				 terminal_mask; /* while waiting */
static sigset_t				 terminal_ends; /* terminal_ending, as a set */

/* ---- what it can ------------------------------------------------------- */

bool
terminal_can_redraw(FILE *file)
{
	const char *term = getenv("TERM");

	return isatty(fileno(file)) && term != NULL && term[0] != '\0' &&
		   strcmp(term, "dumb") != 0;
}

bool
terminal_has_colors(FILE *file)
{
	const char *refused = getenv("NO_COLOR");

	return (refused == NULL || refused[0] == '\0') && terminal_can_redraw(file);
}

void
terminal_size(FILE *file, int *columns, int *lines)
{
	struct winsize size;
	bool		   known = ioctl(fileno(file), TIOCGWINSZ, &size) == 0;

	*columns = known && size.ws_col > 0 ? size.ws_col : 80;
	*lines = known && size.ws_row > 0 ? size.ws_row : 24;
}

const char *
terminal_begin(TerminalStyle style, bool colors)
{
	static const char *const codes[STYLES] = {
		[STYLE_PLAIN] = "",			  [STYLE_BOLD] = "\033[1m",
		[STYLE_FAINT] = "\033[2m",	  [STYLE_GOOD] = "\033[32m",
		[STYLE_WARNING] = "\033[33m", [STYLE_BAD] = "\033[1;31m",
	};

	Assert(style < STYLES && codes[style] != NULL);
	return colors ? codes[style] : "";
}

const char *
terminal_end(TerminalStyle style, bool colors)
{
	return colors && style != STYLE_PLAIN ? "\033[0m" : "";
}

/* ---- a screen that is redrawn ------------------------------------------ */

static void
terminal_write(const char *text)
{
	ssize_t ignored = write(STDOUT_FILENO, text, strlen(text));

	(void) ignored; /* there is no other place to report it to */
}

static void
terminal_take(void)
{
	struct termios keys = terminal_before;

	if (terminal_has_keys)
	{
		keys.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
		keys.c_cc[VMIN] = 0;
		keys.c_cc[VTIME] = 0;
		(void) tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
	}
	terminal_write(ENTER);
	terminal_entered = 1;
}

void
terminal_leave(void)
{
	sigset_t before;

	if (!terminal_entered)
		return;
	sigprocmask(SIG_BLOCK, &terminal_ends, &before);
	terminal_write(LEAVE);
	if (terminal_has_keys)
		(void) tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
	terminal_entered = 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* So that a shell sees how the process ended. */
static void
terminal_on_end(int signal_number)
{
	int saved = errno;

	terminal_leave();
	(void) signal(signal_number, SIG_DFL);
	(void) raise(signal_number);
	errno = saved;
}

static void
terminal_on_stop(int signal_number UNUSED)
{
	int saved = errno;

	terminal_leave();
	(void) raise(SIGSTOP);
	/* here again after "fg" */
	terminal_take();
	terminal_changed = 1;
	errno = saved;
}

static void
terminal_on_resize(int signal_number UNUSED)
{
	terminal_changed = 1;
}

/* A signal that came while the terminal is half taken would leave it so. */
void
terminal_enter(void)
{
	struct sigaction end = {.sa_handler = terminal_on_end};
	struct sigaction stop = {.sa_handler = terminal_on_stop};
	struct sigaction resize = {.sa_handler = terminal_on_resize};
	sigset_t		 late;

	Assert(!terminal_entered);
	terminal_has_keys = isatty(STDIN_FILENO) &&
						tcgetattr(STDIN_FILENO, &terminal_before) == 0;
	sigemptyset(&late);
	sigaddset(&late, SIGTSTP);
	sigaddset(&late, SIGWINCH);
	sigprocmask(SIG_BLOCK, &late, &terminal_mask);
	sigemptyset(&terminal_ends);
	for (size_t i = 0; i < Lengthof(terminal_ending); i++)
		sigaddset(&terminal_ends, terminal_ending[i]);
	sigprocmask(SIG_BLOCK, &terminal_ends, NULL);
	end.sa_mask = terminal_ends;
	stop.sa_mask = terminal_ends;
	for (size_t i = 0; i < Lengthof(terminal_ending); i++)
		sigaction(terminal_ending[i], &end, NULL);
	sigaction(SIGTSTP, &stop, NULL);
	sigaction(SIGWINCH, &resize, NULL);
	terminal_take();
	sigprocmask(SIG_UNBLOCK, &terminal_ends, NULL);
}

TerminalEvent
terminal_wait(int64_t ms, char *key)
{
	struct pollfd	input = {.fd = terminal_has_keys ? STDIN_FILENO : -1,
							 .events = POLLIN};
	struct timespec timeout = {.tv_sec = ms / 1000,
							   .tv_nsec = ms % 1000 * 1000000};
	int				found;

	Assert(ms >= 0);
	found = ppoll(&input, 1, &timeout, &terminal_mask);
	if (terminal_changed)
	{
		terminal_changed = 0;
		return TERMINAL_RESIZED;
	}
	if (found > 0 && read(STDIN_FILENO, key, 1) == 1)
		return TERMINAL_KEY;
	if (found > 0)
		terminal_has_keys = false; /* its end: it would be read for ever */
	return TERMINAL_TIMEOUT;
}
