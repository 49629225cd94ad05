/*
 * test_consumer.c - the consumer, on librdkafka's mock cluster
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_cluster.h"

static void
open_consumer(Fixture *fixture)
{
	Buf error = {0};

	if (!consumer_open(fixture->consumer, fixture->config, "group", &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

/* Takes until the batch holds that many or the group has assigned. */
static bool
take(Fixture *fixture, uint32_t messages)
{
	if (fixture->readable)
	{
		fixture->readable = false;
		assert_int_not_equal(consumer_take(fixture->consumer), CONSUMER_FAILED);
	}
	return consumer_count(fixture->consumer) >= messages;
}

static PGresult *
offsets(int64_t of_partition_0, int64_t of_partition_1)
{
	PGresult	 *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc  descriptions[3] = {0};
	const int64_t next[] = {of_partition_0, of_partition_1};
	int			  row = 0;

	for (int i = 0; i < 3; i++)
		descriptions[i].name = (char *) (uintptr_t) "c";
	PQsetResultAttrs(result, 3, descriptions);
	for (int i = 0; i < 2; i++)
	{
		char text[24];

		if (next[i] < 0)
			continue;
		PQsetvalue(result, row, 0, (char *) (uintptr_t) TOPIC, strlen(TOPIC));
		PQsetvalue(result, row, 1, text, snprintf(text, sizeof(text), "%d", i));
		PQsetvalue(result, row, 2, text,
				   snprintf(text, sizeof(text), "%d", (int) next[i]));
		row++;
	}
	return result;
}

static void
messages_come_from_where_the_database_stands_and_from_nowhere_else(void **state)
{
	Fixture	 *fixture = *state;
	PGresult *from = offsets(-1, 5);
	uint32_t  total = 0;
	int64_t	  lowest[2] = {INT64_MAX, INT64_MAX};

	open_sink(fixture);
	for (uint64_t id = 0; id < 100; id++)
		assert_int_equal(produce(fixture, id), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 100);

	open_consumer(fixture);
	fixture->readable = true;
	WAIT_UNTIL(fixture, take(fixture, 0) && fixture->assigned == 1);
	for (int i = 0; i < 10; i++)
	{
		loop_turn(fixture->loop);
		take(fixture, 0);
	}
	assert_int_equal(consumer_count(fixture->consumer), 0); /* not placed */

	consumer_place(fixture->consumer, from);
	PQclear(from);
	WAIT_UNTIL(fixture, take(fixture, 95));
	total = consumer_count(fixture->consumer);
	assert_int_equal(total, 95);
	for (uint32_t i = 0; i < total; i++)
	{
		ApiMessage message;

		assert_true(consumer_message(fixture->consumer, i, &message));
		lowest[message.partition] = Min(lowest[message.partition],
										message.offset);
		assert_non_null(message.headers.data);
		consumer_applied(fixture->consumer, i);
	}
	assert_true(lowest[0] == 0 && lowest[1] == 5);
	consumer_drop(fixture->consumer);
	consumer_commit(fixture->consumer);

	consumer_suspend(fixture->consumer);
	assert_int_equal(produce(fixture, 100), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 101);
	for (int i = 0; i < 10; i++)
	{
		loop_turn(fixture->loop);
		take(fixture, 0);
	}
	assert_int_equal(consumer_count(fixture->consumer), 0);

	consumer_leave(fixture->consumer);
	fixture->readable = true;
	WAIT_UNTIL(fixture,
			   take(fixture, 0) && consumer_has_left(fixture->consumer));
	assert_int_equal(fixture->revoked, 1);
	consumer_close(fixture->consumer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(
			messages_come_from_where_the_database_stands_and_from_nowhere_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
