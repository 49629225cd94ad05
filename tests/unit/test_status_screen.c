/*
 * test_status_screen.c - what "status" shows, from results made by hand
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <string.h>

#include "commands/status_parts.h"

#define COLUMNS (STATUS_FIRST_AT + 4)

/* A row of API_STATUS; NULL at the end of its columns. */
static void
add_row(PGresult *rows, ...)
{
	int			row = PQntuples(rows);
	int			column = 0;
	const char *text;
	va_list		args;

	va_start(args, rows);
	while ((text = va_arg(args, const char *)) != NULL)
	{
		assert_in_range(column, 0, COLUMNS - 1);
		PQsetvalue(rows, row, column++, (char *) (uintptr_t) text,
				   (int) strlen(text));
		if (column == STATUS_JSON_AT)
			PQsetvalue(rows, row, column++, NULL, -1);
	}
	while (column < COLUMNS)
		PQsetvalue(rows, row, column++, NULL, -1);
	va_end(args);
}

static PGresult *
make_result(int columns)
{
	static PGresAttDesc attributes[COLUMNS];
	PGresult		   *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);

	for (int i = 0; i < columns; i++)
		attributes[i].name = (char *) (uintptr_t) "c";
	PQsetResultAttrs(result, columns, attributes);
	return result;
}

static void
add_metric(PGresult *metrics, const char *name, const char *value)
{
	int row = PQntuples(metrics);

	PQsetvalue(metrics, row, 0, (char *) (uintptr_t) name, (int) strlen(name));
	PQsetvalue(metrics, row, 1, (char *) (uintptr_t) "", 0);
	PQsetvalue(metrics, row, 2, (char *) (uintptr_t) value,
			   (int) strlen(value));
}

/* All is well. */
static Status
make_status(void)
{
	Status status = {
		.hello = {.relay_api = 1,
				  .extension_version = "1.0",
				  .database = "shop"},
		.group = xstrdup("pgstock-12345678"),
		.rows = make_result(COLUMNS),
		.metrics = make_result(3),
		.last_seq = 1000,
		.brokers = 3,
	};

	add_row(status.rows, "server_version", "15.14 (Debian 15.14-0)", NULL);
	add_row(status.rows, "in_recovery", "false", NULL);
	add_row(status.rows, "leader", "pgstock-relay main", NULL);
	add_row(status.rows, "leader_pid", "4711", NULL);
	add_row(status.rows, "leader_since", "2026-01-31T12:00:00.000000Z", NULL);
	add_row(status.rows, "epoch", "12", NULL);
	add_row(status.rows, "position_stored_at", "2026-01-31T13:59:59.500000Z",
			NULL);
	add_row(status.rows, "pending_events", "0", NULL);
	add_row(status.rows, "oldest_pending_seconds", "0", NULL);
	add_row(status.rows, STATUS_NOW, "2026-01-31T14:00:00.000000Z", NULL);
	add_metric(status.metrics, "outbox_table_bytes", "1536");
	add_metric(status.metrics, "reservations_open", "1204");
	return status;
}

static void
add_places(Status *status, size_t count, int64_t lag)
{
	static char topic[] = "order-created";

	status->places = xcalloc(count, sizeof(StatusPlace));
	status->place_count = count;
	for (size_t i = 0; i < count; i++)
		status->places[i] = (StatusPlace){
			topic,
			(int32_t) i,
			5000,
			5000 + lag * (int64_t) i,
			lag * (int64_t) i,
		};
}

static const char *
screen(const Status *status, const Status *before, StatusLook look)
{
	static char memory[8192];
	Buf			text = {0};

	status_add_screen(status, before, &look, &text);
	assert_in_range(text.len, 1, sizeof(memory) - 1);
	snprintf(memory, sizeof(memory), "%s", buf_str(&text));
	buf_free(&text);
	return memory;
}

static void
expect_part(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in\n%s", part, text);
}

static void
a_sound_relay_has_no_marks(void **state UNUSED)
{
	Status		status = make_status();
	const char *text;

	add_places(&status, 2, 3);
	text = screen(&status, NULL, (StatusLook){0});
	expect_part(text, "database shop, pgstock-relay " PGSTOCK_VERSION
					  ", pgstock 1.0, PostgreSQL 15.14, 2026-01-31T14:00:00 "
					  "UTC\nstatus: ok\n");
	expect_part(text, "  leader         pgstock-relay main, pid 4711, for 2 h "
					  "0 min, epoch 12\n");
	expect_part(text, "  pending        0 events; the outbox has "
					  "1.5 kB\n");
	expect_part(text, "  position       valid, stored 500 ms ago\n");
	expect_part(text, "  held topics    none\n");
	expect_part(text, "\n\nInbox, from Kafka, group pgstock-12345678\n");
	expect_part(text, "  reservations   1,204 open, 0 overdue\n");
	expect_part(text, "  upkeep         by the leading relay: ok\n");
	expect_part(text, "  Kafka          answers, 3 brokers\n");
	expect_part(text, "  lag            3 messages\n");
	expect_part(text, "  topic             part.      next offset"
					  "              end         lag\n"
					  "  order-created         0            5,000"
					  "            5,000           0\n"
					  "  order-created         1            5,000"
					  "            5,003           3\n");
	assert_null(strchr(text, '!'));
	assert_null(strchr(text, '\033'));
	assert_null(strstr(text, "/s"));
	status_free(&status);
}

static void
what_is_wrong_is_marked(void **state UNUSED)
{
	Status		status = make_status();
	const char *text;

	add_places(&status, 2, 2000);
	status.brokers = 0;
	status.problems = xcalloc(2, sizeof(char *));
	status.problems[0] = xstrdup("the broker does not answer");
	add_row(status.rows, STATUS_HELD, "stock-events", "7",
			"2026-01-31T13:58:00.000000Z", "too large", NULL);
	add_row(status.rows, STATUS_GAP, "order-created/1", "5", "17",
			"2026-01-31T13:00:00.000000Z", "retention", NULL);
	add_row(status.rows, "archive_open", "3", NULL);
	add_row(status.rows, "upkeep_trouble", "expire since \033[31mnow", NULL);
	text = screen(&status, NULL, (StatusLook){0});
	expect_part(text, "status: failing\n! the broker does not answer\n");
	expect_part(text, "! held topics    stock-events: 7 events, for 2 min 0 s: "
					  "too large\n");
	expect_part(text, "! missing        order-created/1: offsets 5 to 17 "
					  "(retention), found 1 h 0 min ago\n");
	expect_part(text, "! dead letters   0, open: 3\n");
	expect_part(text, "! Kafka          does not answer\n");
	expect_part(text, "! lag            2,000 messages\n");
	expect_part(text, "! order-created         1 ");
	expect_part(text, "  order-created         0 ");
	/* what came from elsewhere does not rule the terminal */
	expect_part(text, "! upkeep         by the leading relay: expire since "
					  "\\x1b[31mnow\n");
	assert_null(strchr(text, '\033'));
	text = screen(&status, NULL, (StatusLook){.colors = true});
	expect_part(text, "\033[1;31m! Kafka          does not answer\033[0m\n");
	expect_part(text, "\033[33m! dead letters   0, open: 3\033[0m\n");
	status_free(&status);
}

static void
rates_are_differences(void **state UNUSED)
{
	Status		before = make_status();
	Status		status = make_status();
	const char *text;

	add_places(&before, 2, 0);
	add_places(&status, 2, 0);
	status.at_us = before.at_us + 2 * SEC_US;
	status.last_seq += 600;
	status.places[0].next += 30;
	status.places[1].next -= 30; /* it was rewound */
	text = screen(&status, &before, (StatusLook){0});
	expect_part(text, "  rate           300/s published, 300/s written\n");
	expect_part(text, "        lag        rate\n");
	expect_part(text, "5,000           0        15/s\n");
	expect_part(text, "5,000           0         0/s\n");
	status_free(&status);
	status_free(&before);
}

static size_t
longest_line(const char *text)
{
	size_t longest = 0;

	for (size_t len; *text != '\0'; text += len + (text[len] == '\n'))
	{
		len = strcspn(text, "\n");
		longest = Max(longest, len);
	}
	return longest;
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
a_small_screen_shows_the_worst(void **state UNUSED)
{
	Status		status = make_status();
	const char *text;

	add_places(&status, 64, 10);
	text = screen(&status, NULL, (StatusLook){0});
	expect_part(text, "  order-created        63 ");
	expect_part(text, "  order-created         0 ");
	text = screen(&status, NULL, (StatusLook){.columns = 40, .lines = 24});
	assert_int_equal(longest_line(text), 40);
	expect_part(text, "  order-created        63 ");
	assert_null(strstr(text, "  order-created         0 "));
	expect_part(text, "  and 59 partitions with less lag\n");
	assert_int_equal(count_lines(text), 23);
	assert_null(strstr(text, "\n\n"));
	status_free(&status);
}

static void
bindings_are_shown_if_there_are_any(void **state UNUSED)
{
	Status		status = make_status();
	const char *text = screen(&status, NULL, (StatusLook){0});

	assert_null(strstr(text, "bindings"));
	add_row(status.rows, STATUS_BINDING, "shop.orders", "order_created",
			"Placed", NULL);
	add_row(status.rows, STATUS_BINDING, "noise", "ignore", NULL);
	text = screen(&status, NULL, (StatusLook){0});
	expect_part(text, "  bindings       shop.orders Placed: order_created\n");
	expect_part(text, "                 noise: ignore\n");
	status_free(&status);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_relay_has_no_marks),
		cmocka_unit_test(bindings_are_shown_if_there_are_any),
		cmocka_unit_test(what_is_wrong_is_marked),
		cmocka_unit_test(rates_are_differences),
		cmocka_unit_test(a_small_screen_shows_the_worst),
	};

	return cmocka_run_group_tests_name("status_screen", tests, NULL, NULL);
}
