/*
 * test_listener.c - processes that open one socket of the file system at once
 *
 * One of them listens, and the others are refused, whether a socket was left
 * behind or not.  None of them removes the socket of the one that listens.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "../unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/listener.h"

#define ROUNDS	  20
#define LISTEN_US 4000 /* at most */
#define PROCESSES 6

/*
 * In place of the library's: the time between bind() and listen() is one in
 * which others run.
 */
int
listen(int fd, int backlog)
{
	usleep(below(LISTEN_US)); /* a random moment, for what may go wrong */
	return (int) syscall(SYS_listen, fd, backlog);
}

/*
 * In a process of its own: begins when the pipe is closed, reports whether it
 * listens, and waits to be killed.
 */
static void
listen_at_once(const char *address, int begin, int report)
{
	Buf	 error = {0};
	char byte;
	int	 fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* where the test fails */
	dice = (uint64_t) getpid();		  /* each has moments of its own */
	(void) !read(begin, &byte, 1);
	fd = listener_open(address, &error);
	byte = fd >= 0 ? 'y' : errno == EADDRINUSE ? 'n' : '?';
	(void) !write(report, &byte, 1);
	/* the others have reported when this is killed */
	pause();
	_exit(0);
}

static void
run_round(const char *address)
{
	int	  begin[2];
	int	  report[2];
	int	  listening = 0;
	char  byte;
	pid_t pids[PROCESSES];
	Buf	  error = {0};

	assert_int_equal(pipe(begin), 0);
	assert_int_equal(pipe(report), 0);
	for (int i = 0; i < PROCESSES; i++)
	{
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
		{
			close(begin[1]);
			listen_at_once(address, begin[0], report[1]);
		}
	}
	close(begin[0]);
	close(begin[1]);
	for (int i = 0; i < PROCESSES; i++)
	{
		assert_int_equal(read(report[0], &byte, 1), 1);
		assert_true(byte == 'y' || byte == 'n');
		listening += byte == 'y';
	}
	assert_int_equal(listening, 1);
	/* and it is the one that the path leads to */
	assert_int_equal(listener_open(address, &error), -1);
	buf_free(&error);
	for (int i = 0; i < PROCESSES; i++)
	{
		kill(pids[i], SIGKILL);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
	close(report[0]);
	close(report[1]);
}

static void
test_one_of_many_listens(void **state UNUSED)
{
	char  directory[] = "/tmp/test_listener.XXXXXX";
	char *path;
	char *address;

	assert_non_null(mkdtemp(directory));
	path = xasprintf("%s/socket", directory);
	address = xasprintf("unix:%s", path);
	for (int i = 0; i < ROUNDS; i++)
	{
		run_round(address);
		/* every other round finds the socket of the one before */
		if (i % 2 == 0)
			assert_int_equal(unlink(path), 0);
	}
	(void) unlink(path);
	assert_int_equal(rmdir(directory), 0);
	free(path);
	free(address);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_of_many_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
