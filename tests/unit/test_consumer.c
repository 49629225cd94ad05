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
join_group(Fixture *fixture)
{
	open_consumer(fixture);
	fixture->readable = true;
	WAIT_UNTIL(fixture, take(fixture, 0) && fixture->assigned == 1);
}

/* The sum of the offsets at which so many partitions are to begin. */
static int64_t
sum_of_beginnings(Fixture *fixture, int64_t first_offset, int64_t known_of_1,
				  uint32_t count)
{
	PGresult *known = offsets(-1, known_of_1);
	ApiBatch  beginnings = {0};
	int64_t	  sum = 0;

	assert_true(consumer_find_beginnings(fixture->consumer, known, first_offset,
										 &beginnings));
	assert_int_equal(beginnings.count, count);
	/* an array's head has 20 bytes, an element's length 4, an offset 8 */
	for (uint32_t i = 0; i < count; i++)
		sum += (int64_t) read_u64(beginnings.arrays[2].data + 20 + i * 12 + 4);
	api_batch_free(&beginnings);
	PQclear(known);
	return sum;
}

/* Of a hundred messages in two partitions; the mock cluster takes seconds to
 * let a member in, so this is part of the one test below. */
static void
check_beginnings(Fixture *fixture)
{
	int64_t of_0 = sum_of_beginnings(fixture, FIRST_OFFSET_LATEST, 5, 1);

	assert_in_range(of_0, 1, 99);
	assert_true(sum_of_beginnings(fixture, FIRST_OFFSET_LATEST, -1, 2) == 100);
	/* nothing can be skipped from there: it need not be remembered */
	(void) sum_of_beginnings(fixture, FIRST_OFFSET_EARLIEST, -1, 0);
}

static void
messages_come_from_where_the_database_stands_or_first_offset_says(void **state)
{
	Fixture	 *fixture = *state;
	PGresult *from = offsets(-1, 5);
	uint32_t  total = 0;
	int64_t	  lowest[2] = {INT64_MAX, INT64_MAX};

	open_sink(fixture);
	for (uint64_t id = 0; id < 100; id++)
		assert_int_equal(produce(fixture, id), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 100);

	join_group(fixture);
	for (int i = 0; i < 10; i++)
	{
		loop_turn(fixture->loop);
		take(fixture, 0);
	}
	assert_int_equal(consumer_count(fixture->consumer), 0); /* not placed */

	check_beginnings(fixture);
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
		test(messages_come_from_where_the_database_stands_or_first_offset_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
