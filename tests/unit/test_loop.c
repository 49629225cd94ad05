/*
 * test_loop.c - timers, descriptors, signals; pages over HTTP
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http_server.h"
#include "common/loop.h"

static void
count(void *arg)
{
	++*(int *) arg;
}

static void
timers_fire_once_and_in_time(void **state UNUSED)
{
	Loop	  *loop = loop_new();
	int		   fired = 0;
	int		   never = 0;
	LoopTimer *timer = loop_timer_new(loop, count, &fired);
	LoopTimer *off = loop_timer_new(loop, count, &never);
	int64_t	   due = loop_now(loop) + 20 * MS_US;

	loop_timer_set(timer, due);
	loop_timer_set(off, due);
	loop_timer_set(off, NEVER);
	loop_turn(loop);
	assert_int_equal(fired, 1);
	assert_int_equal(never, 0);
	assert_true(loop_now(loop) >= due);
	loop_timer_set(timer, loop_now(loop)); /* can be set again */
	loop_turn(loop);
	assert_int_equal(fired, 2);
	loop_timer_free(timer);
	loop_timer_free(off);
	loop_free(loop);
}

static void
signals_and_wakes_arrive(void **state UNUSED)
{
	Loop	 *loop = loop_new();
	int		  signals = 0;
	int		  wakes = 0;
	LoopWake *wake;

	loop_signal(loop, SIGUSR2, count, &signals);
	wake = loop_wake_new(loop, count, &wakes);
	raise(SIGUSR2);
	loop_wake_up(wake);
	loop_wake_up(wake);
	while (signals == 0 || wakes == 0)
		loop_turn(loop);
	assert_int_equal(signals, 1);
	assert_int_equal(wakes, 1); /* two writes are one reading */
	loop_wake_free(wake);
	loop_free(loop);
}

/* ---- HTTP -------------------------------------------------------------- */

static void
hello_page(void *arg UNUSED, const char *path, HttpServerResponse *answer)
{
	if (strcmp(path, "/hello") != 0)
		return;
	answer->status = 200;
	buf_add_str(&answer->body, "hello\n");
}

typedef struct Client
{
	int	   fd;
	char   text[4096];
	size_t len;
	bool   closed;
} Client;

static void
client_ready(void *arg, uint32_t events UNUSED)
{
	Client *client = arg;
	ssize_t got = read(client->fd, client->text + client->len,
					   sizeof(client->text) - 1 - client->len);

	if (got > 0)
		client->len += (size_t) got;
	client->closed = got <= 0;
	client->text[client->len] = '\0';
}

static uint16_t
free_port(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);
	int		  fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void
request(Loop *loop, uint16_t port, const char *line, const char *expected)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	Client	client = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
	LoopIo *io;
	char   *text = xasprintf("%s HTTP/1.1\r\nHost: x\r\n"
							   "Connection: close\r\n\r\n",
							 line);

	assert_int_equal(connect(client.fd, (struct sockaddr *) &address,
							 sizeof(address)),
					 0);
	assert_int_equal(write(client.fd, text, strlen(text)), strlen(text));
	free(text);
	io = loop_io_new(loop, client.fd, EPOLLIN, client_ready, &client);
	while (!client.closed)
		loop_turn(loop);
	loop_io_free(io);
	close(client.fd);
	if (strstr(client.text, expected) == NULL)
		fail_msg("\"%s\" is not in:\n%s", expected, client.text);
}

static void
pages_are_served_by_the_loop(void **state UNUSED)
{
	Loop	   *loop = loop_new();
	uint16_t	port = free_port();
	char	   *listen = xasprintf("127.0.0.1:%u", port);
	Buf			error = {0};
	HttpServer *http = http_server_new(loop, listen, hello_page, NULL, &error);

	if (http == NULL)
		fail_msg("%s", buf_str(&error));
	request(loop, port, "GET /hello", "\r\n\r\nhello\n");
	request(loop, port, "HEAD /hello", "200 OK");
	request(loop, port, "GET /other", "404 ");
	request(loop, port, "POST /hello", "405 ");
	assert_null(http_server_new(loop, listen, hello_page, NULL, &error));
	assert_non_null(strstr(buf_str(&error), "could not listen"));
	http_server_free(http);
	free(listen);
	buf_free(&error);
	loop_free(loop);
}

static void
addresses_that_are_none_are_refused(void **state UNUSED)
{
	static const char *const wrong[] = {
		"", "29187", "localhost:29187", "127.0.0.1:http", "1.2.3:x",
	};
	Loop *loop = loop_new();

	for (size_t i = 0; i < Lengthof(wrong); i++)
	{
		Buf error = {0};

		assert_null(http_server_new(loop, wrong[i], hello_page, NULL, &error));
		assert_int_not_equal(error.len, 0);
		buf_free(&error);
	}
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_once_and_in_time),
		cmocka_unit_test(signals_and_wakes_arrive),
		cmocka_unit_test(pages_are_served_by_the_loop),
		cmocka_unit_test(addresses_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
