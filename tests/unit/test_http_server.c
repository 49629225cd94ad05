/*
 * test_http_server.c - a health page answers, whatever other clients do
 *
 * The story: 64 clients that sent a byte now and then held all connections, for
 * each byte restarted their timeout.  A probe of /livez was not accepted while
 * they stayed, and up to three minutes after they had left, for the server
 * noticed connections that had ended in its queue only when a place was free.
 * So a healthy relay was killed.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http_server.h"

#define LIMIT_US (20 * SEC_US)

typedef struct Fixture
{
	Loop			  *loop;
	LoopTimer		  *tick; /* so that waiting has an end */
	HttpServer		  *http;
	struct sockaddr_in address;
	bool			   later; /* the page's answer is not there yet */
	int				   asked;
} Fixture;

static void
on_tick(void *arg)
{
	Fixture *fixture = arg;

	loop_timer_set(fixture->tick, loop_now(fixture->loop) + 5 * MS_US);
}

static void
page(void *arg, const char *path, HttpServerResponse *answer)
{
	Fixture *fixture = arg;

	if (strcmp(path, "/slow") == 0)
	{
		fixture->asked++;
		if (answer->may_wait && fixture->later)
		{
			answer->status = HTTP_SERVER_LATER;
			return;
		}
	}
	else if (strcmp(path, "/livez") != 0)
		return;
	answer->status = 200;
	buf_add_str(&answer->body, fixture->later ? "old\n" : "ok\n");
}

static int
set_up(void **state)
{
	Fixture	 *fixture = xcalloc(1, sizeof(Fixture));
	socklen_t len = sizeof(fixture->address);
	Buf		  error = {0};
	char	 *listen_at;
	int		  fd = socket(AF_INET, SOCK_STREAM, 0);

	/* a port that is free */
	fixture->address.sin_family = AF_INET;
	fixture->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *) &fixture->address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &fixture->address,
								 &len),
					 0);
	close(fd);
	fixture->loop = loop_new();
	fixture->tick = loop_timer_new(fixture->loop, on_tick, fixture);
	on_tick(fixture);
	listen_at = xasprintf("127.0.0.1:%d", ntohs(fixture->address.sin_port));
	fixture->http = http_server_new(fixture->loop, listen_at, page, fixture,
									&error);
	if (fixture->http == NULL)
		fail_msg("%s", buf_str(&error));
	free(listen_at);
	*state = fixture;
	return 0;
}

static int
tear_down(void **state)
{
	Fixture *fixture = *state;

	http_server_free(fixture->http);
	loop_timer_free(fixture->tick);
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

/* A connection that need not be established yet; -1: the system has no more. */
static int
connect_to(const Fixture *fixture)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *) &fixture->address,
				sizeof(fixture->address)) != 0 &&
		errno != EINPROGRESS)
	{
		close(fd);
		return -1;
	}
	return fd;
}

static void
say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
					 (ssize_t) strlen(text));
}

/* The whole answer; "" if the connection ended without one. */
static const char *
answer_of(Fixture *fixture, int fd)
{
	static char text[8192];
	size_t		len = 0;
	int64_t		until = loop_now(fixture->loop) + LIMIT_US;

	for (;;)
	{
		ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		if (n > 0)
			len += (size_t) n;
		if (loop_now(fixture->loop) > until)
			fail_msg("no answer");
		loop_turn(fixture->loop);
	}
	close(fd);
	text[len] = '\0';
	return text;
}

static int64_t
probe_takes_us(Fixture *fixture)
{
	int64_t begun;
	int		fd;

	loop_turn(fixture->loop);
	begun = loop_now(fixture->loop);
	fd = connect_to(fixture);
	loop_turn(fixture->loop);
	say(fd, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
	if (strstr(answer_of(fixture, fd), "200 OK") == NULL)
		fail_msg("the probe had no answer");
	return loop_now(fixture->loop) - begun;
}

static void
a_page_is_answered(void **state)
{
	Fixture	   *fixture = *state;
	int			fd = connect_to(fixture);
	const char *text;

	loop_turn(fixture->loop);
	say(fd, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
	text = answer_of(fixture, fd);
	assert_non_null(strstr(text, "HTTP/1.1 200 OK"));
	assert_non_null(strstr(text, "Connection: close"));
	assert_non_null(strstr(text, "\r\n\r\nok\n"));
	fd = connect_to(fixture);
	loop_turn(fixture->loop);
	say(fd, "POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
	assert_non_null(strstr(answer_of(fixture, fd), " 405 "));
	fd = connect_to(fixture);
	loop_turn(fixture->loop);
	say(fd, "GET /nothing HTTP/1.0\r\n\r\n");
	assert_non_null(strstr(answer_of(fixture, fd), " 404 "));
}

/* More than there are places, each with a byte at each turn. */
static void
dripping_clients_do_not_block_others(void **state)
{
	static const char request[] = "GET /livez HTTP/1.1\r\nX: ";
	Fixture			 *fixture = *state;
	int				  drips[200];
	int64_t			  begun = loop_now(fixture->loop);
	size_t			  at = 0;
	size_t			  open = Lengthof(drips);

	for (size_t i = 0; i < Lengthof(drips); i++)
	{
		drips[i] = connect_to(fixture);
		assert_true(drips[i] >= 0);
		if (i % 32 == 0)
			loop_turn(fixture->loop);
	}
	for (; open > 0; at++)
	{
		char byte = at < sizeof(request) - 1 ? request[at] : 'x';

		for (size_t i = 0; i < Lengthof(drips); i++)
			if (drips[i] >= 0 && (send(drips[i], &byte, 1, MSG_NOSIGNAL) < 0 ||
								  recv(drips[i], &byte, 1, MSG_DONTWAIT) == 0))
			{
				close(drips[i]);
				drips[i] = -1;
				open--;
			}
		if (at % 100 == 0)
			assert_true(probe_takes_us(fixture) < SEC_US);
		loop_turn(fixture->loop);
		/* 5 s for a request, however often it moves */
		assert_true(loop_now(fixture->loop) - begun < 12 * SEC_US);
	}
	assert_true(loop_now(fixture->loop) - begun > 4 * SEC_US);
	assert_true(probe_takes_us(fixture) < SEC_US);
}

/* Ten thousand, a part of which leaves at once, and probes among them. */
static void
ten_thousand_connects_do_not_block_others(void **state)
{
	Fixture *fixture = *state;
	int		 held[256] = {0};

	for (int i = 0; i < 10000; i++)
	{
		int *fd = &held[(size_t) i % Lengthof(held)];

		if (*fd > 0)
			close(*fd);
		*fd = connect_to(fixture);
		if (*fd < 0)
			fail_msg("connect %d: %s", i, strerror(errno));
		if (i % 3 == 0)
			(void) send(*fd, "GET /li", 7, MSG_NOSIGNAL);
		if (i % 50 == 0)
			loop_turn(fixture->loop);
		if (i % 1000 == 0)
			assert_true(probe_takes_us(fixture) < SEC_US);
	}
	assert_true(probe_takes_us(fixture) < SEC_US);
	for (size_t i = 0; i < Lengthof(held); i++)
		close(held[i]);
	assert_true(probe_takes_us(fixture) < SEC_US);
}

static void
an_answer_may_come_later(void **state)
{
	Fixture *fixture = *state;
	int64_t	 begun;
	int		 fd = connect_to(fixture);

	fixture->later = true;
	loop_turn(fixture->loop);
	say(fd, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
	while (fixture->asked == 0)
		loop_turn(fixture->loop);
	/* other clients do not wait */
	assert_true(probe_takes_us(fixture) < SEC_US);
	fixture->later = false;
	http_server_wake(fixture->http);
	assert_non_null(strstr(answer_of(fixture, fd), "\r\n\r\nok\n"));
	assert_int_equal(fixture->asked, 2);

	/* the server does not wait for bytes that never arrive */
	fixture->later = true;
	begun = loop_now(fixture->loop);
	fd = connect_to(fixture);
	loop_turn(fixture->loop);
	say(fd, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
	assert_non_null(strstr(answer_of(fixture, fd), "\r\n\r\nold\n"));
	assert_in_range(loop_now(fixture->loop) - begun, SEC_US, 4 * SEC_US);

	/* nor is the stop; the client had gone before */
	fd = connect_to(fixture);
	loop_turn(fixture->loop);
	say(fd, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
	while (fixture->asked < 5)
		loop_turn(fixture->loop);
	close(fd);
}

int
main(void)
{
#define http_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		http_test(a_page_is_answered),
		http_test(dripping_clients_do_not_block_others),
		http_test(ten_thousand_connects_do_not_block_others),
		http_test(an_answer_may_come_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
