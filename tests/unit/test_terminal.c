/*
 * test_terminal.c - a terminal is given back, whatever ends the process
 *
 * The process that has taken it is a child, whose standard streams are a
 * terminal of the test's.  tcsetattr() is this file's: it sends the child a
 * signal at the moment that a signal of the outside hits once in a thousand
 * times.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common/terminal.h"

#define CHILD_S 20 /* then the child is ended */

static int hit; /* the signal to send before settings are written; 0: none */

/* In place of the C library's. */
int
tcsetattr(int fd, int actions UNUSED, const struct termios *settings)
{
	int now = hit;

	hit = 0;
	if (now != 0)
		(void) raise(now);
	return ioctl(fd, TCSETSW, settings);
}

/* The other end of a new terminal, and it. */
static int
open_terminal(int *master)
{
	*master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(*master >= 0);
	assert_int_equal(grantpt(*master), 0);
	assert_int_equal(unlockpt(*master), 0);
	return open(ptsname(*master), O_RDWR | O_NOCTTY);
}

static void
be_child(int end, int when_entering, int when_leaving)
{
	alarm(CHILD_S);
	dup2(end, STDIN_FILENO);
	dup2(end, STDOUT_FILENO);
	hit = when_entering;
	terminal_enter();
	hit = when_leaving;
	terminal_leave();
	_exit(0);
}

/* What the child has written, drained so that it never waits. */
static void
drain(int master, char *text, size_t size)
{
	struct pollfd input = {.fd = master, .events = POLLIN};
	size_t		  len = 0;
	ssize_t		  got;

	while (poll(&input, 1, 0) > 0 && len < size - 1 &&
		   (got = read(master, text + len, size - 1 - len)) > 0)
		len += (size_t) got;
	text[len] = '\0';
}

static void
expect_sane(int when_entering, int when_leaving)
{
	struct termios before;
	struct termios after;
	char		   text[4096];
	const char	  *left;
	int			   master;
	int			   end = open_terminal(&master);
	int			   status;
	pid_t		   child;

	assert_int_equal(tcgetattr(end, &before), 0);
	child = fork();
	if (child == 0)
		be_child(end, when_entering, when_leaving);
	assert_int_equal(waitpid(child, &status, 0), child);
	/* a shell sees what ended it */
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), when_entering + when_leaving);
	assert_int_equal(tcgetattr(end, &after), 0);
	assert_int_equal(after.c_lflag, before.c_lflag);
	drain(master, text, sizeof(text));
	left = strstr(text, "\033[?1049l");
	assert_non_null(left);
	/* it was left as often as it was entered: once */
	assert_non_null(strstr(text, "\033[?1049h"));
	assert_null(strstr(left + 1, "\033[?1049l"));
	close(end);
	close(master);
}

static void
a_signal_while_it_is_left(void **state UNUSED)
{
	expect_sane(0, SIGTERM);
	expect_sane(0, SIGINT);
	expect_sane(0, SIGHUP);
	expect_sane(0, SIGQUIT);
}

static void
a_signal_while_it_is_taken(void **state UNUSED)
{
	expect_sane(SIGTERM, 0);
	expect_sane(SIGINT, 0);
}

/* An assertion that fails in between. */
static void
an_abort(void **state UNUSED)
{
	struct termios before;
	struct termios after;
	int			   master;
	int			   end = open_terminal(&master);
	int			   status;
	pid_t		   child;

	assert_int_equal(tcgetattr(end, &before), 0);
	child = fork();
	if (child == 0)
	{
		alarm(CHILD_S);
		dup2(end, STDIN_FILENO);
		dup2(end, STDOUT_FILENO);
		terminal_enter();
		abort();
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_int_equal(tcgetattr(end, &after), 0);
	assert_int_equal(after.c_lflag, before.c_lflag);
	close(end);
	close(master);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signal_while_it_is_left),
		cmocka_unit_test(a_signal_while_it_is_taken),
		cmocka_unit_test(an_abort),
	};

	return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
