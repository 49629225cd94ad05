/*
 * test_consumer.c - the consumer, on librdkafka's mock cluster
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_cluster.h"

#define LIST_OFFSETS_REQUEST 2

static void
open_consumer(Fixture *fixture)
{
	Buf error = {0};

	if (!consumer_open(fixture->consumer, fixture->config, "group", &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

static void
close_consumer(Fixture *fixture)
{
	consumer_close(fixture->consumer);
	assert_true(kafka_consumers_ended(30));
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

static void
put_text(PGresult *result, int row, int column, const char *text)
{
	PQsetvalue(result, row, column, (char *) (uintptr_t) text,
			   text != NULL ? (int) strlen(text) : -1);
}

/*
 * The database's answer for two partitions (-1: not known); for the second with
 * the fingerprint of the record before, and of the one at offset 2, if any.
 */
static PGresult *
offsets_with(int64_t of_partition_0, int64_t of_partition_1,
			 const char *fingerprint, const char *witness)
{
	PGresult	 *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc  descriptions[6] = {0};
	const int64_t next[] = {of_partition_0, of_partition_1};
	int			  row = 0;

	for (int i = 0; i < 6; i++)
		descriptions[i].name = (char *) (uintptr_t) "c";
	PQsetResultAttrs(result, 6, descriptions);
	for (int i = 0; i < 2; i++)
	{
		char text[24];

		if (next[i] < 0)
			continue;
		PQsetvalue(result, row, 0, (char *) (uintptr_t) TOPIC, strlen(TOPIC));
		PQsetvalue(result, row, 1, text, snprintf(text, sizeof(text), "%d", i));
		PQsetvalue(result, row, 2, text,
				   snprintf(text, sizeof(text), "%d", (int) next[i]));
		put_text(result, row, 3, i == 1 ? fingerprint : NULL);
		put_text(result, row, 4, i == 1 && witness != NULL ? "2" : NULL);
		put_text(result, row, 5, i == 1 ? witness : NULL);
		row++;
	}
	return result;
}

static PGresult *
offsets(int64_t of_partition_0, int64_t of_partition_1, const char *fingerprint)
{
	return offsets_with(of_partition_0, of_partition_1, fingerprint, NULL);
}

static void
survey(Fixture *fixture, PGresult *known, int64_t first_offset)
{
	fixture->surveyed = false;
	consumer_take_offsets(fixture->consumer, known);
	PQclear(known);
	consumer_survey(fixture->consumer, first_offset);
	WAIT_UNTIL(fixture, fixture->surveyed);
}

static void
join_group(Fixture *fixture)
{
	open_consumer(fixture);
	fixture->readable = true;
	WAIT_UNTIL(fixture, take(fixture, 0) && fixture->assigned == 1);
}

static void
survey_lagging(Fixture *fixture, int answers)
{
	for (int i = 0; i < answers; i++)
		rd_kafka_mock_push_request_errors(
			fixture->cluster, LIST_OFFSETS_REQUEST, 1,
			RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE);
	survey(fixture, offsets(-1, -1, NULL), FIRST_OFFSET_LATEST);
}

/*
 * Of a hundred messages in two partitions, of a topic that is new to the
 * database; the mock cluster takes seconds to let a member in, so this is part
 * of the one test below.
 */
static void
check_beginnings(Fixture *fixture, int64_t first_offset, int64_t sum)
{
	ConsumerChange change;

	survey(fixture, offsets(-1, -1, NULL), first_offset);
	assert_true(consumer_wants_change(fixture->consumer));
	consumer_next_change(fixture->consumer, &change);
	assert_int_equal(change.kind, CONSUMER_BEGINS);
	assert_string_equal(change.topic, TOPIC);
	assert_int_equal(change.count, 2);
	assert_int_equal(change.offsets[0] + change.offsets[1], sum);
	consumer_change_free(&change);
	assert_false(consumer_wants_change(fixture->consumer));
}

/*
 * A leader that was just elected may know a lower end than there is, and says
 * so: nothing begins before one answers that knows it.
 */
static void
check_lagging_leader(Fixture *fixture)
{
	survey_lagging(fixture, 100);
	assert_false(consumer_wants_change(fixture->consumer));
	assert_true(consumer_waits(fixture->consumer));
	rd_kafka_mock_clear_request_errors(fixture->cluster, LIST_OFFSETS_REQUEST);
	check_beginnings(fixture, FIRST_OFFSET_LATEST, 100);
	/* one that recovers while it is asked delays the beginning only */
	survey_lagging(fixture, 1);
	check_beginnings(fixture, FIRST_OFFSET_LATEST, 100);
}

/* Beyond the end: the partition has lost records that were read. */
static void
check_move(Fixture *fixture)
{
	ConsumerChange change;

	survey(fixture, offsets(-1, 1000, NULL), FIRST_OFFSET_LATEST);
	assert_true(consumer_wants_change(fixture->consumer));
	consumer_next_change(fixture->consumer, &change);
	assert_int_equal(change.kind, CONSUMER_MOVES);
	assert_int_equal(change.partition, 1);
	assert_int_equal(change.was, 1000);
	assert_int_equal(change.next, 0);
	assert_string_equal(change.reason, "history");
	consumer_change_free(&change);
	assert_false(consumer_wants_change(fixture->consumer));
}

/* The record before the next offset is not the one that was read. */
static void
check_refuted(Fixture *fixture)
{
	ConsumerChange change;

	survey(fixture, offsets(-1, 5, "1764000000000.00000000"),
		   FIRST_OFFSET_LATEST);
	assert_false(consumer_wants_change(fixture->consumer));
	consumer_place(fixture->consumer);
	WAIT_UNTIL(fixture,
			   take(fixture, 0) && consumer_is_disturbed(fixture->consumer));
	for (uint32_t i = 0; i < consumer_count(fixture->consumer); i++)
	{
		ApiMessage message;

		assert_true(consumer_message(fixture->consumer, i, &message));
		assert_int_equal(message.partition, 0);
	}
	consumer_suspend(fixture->consumer);
	survey(fixture, offsets(-1, 5, "1764000000000.00000000"),
		   FIRST_OFFSET_LATEST);
	assert_true(consumer_wants_change(fixture->consumer));
	consumer_next_change(fixture->consumer, &change);
	assert_int_equal(change.kind, CONSUMER_MOVES);
	assert_int_equal(change.was, 5);
	assert_int_equal(change.next, 0);
	consumer_change_free(&change);
}

/*
 * The record before is the same, but an older one is not: the relay that read
 * on in another history ended before it noticed.
 */
static void
check_witness(Fixture *fixture)
{
	ConsumerChange change;

	survey(fixture, offsets_with(-1, 5, NULL, "1764000000000.00000000"),
		   FIRST_OFFSET_LATEST);
	assert_true(consumer_wants_change(fixture->consumer));
	consumer_next_change(fixture->consumer, &change);
	assert_int_equal(change.kind, CONSUMER_MOVES);
	assert_int_equal(change.was, 5);
	assert_int_equal(change.next, 0);
	assert_string_equal(change.reason, "history");
	consumer_change_free(&change);
}

static void
messages_come_from_where_the_database_stands_or_first_offset_says(void **state)
{
	Fixture		  *fixture = *state;
	ConsumerChange learned;
	uint32_t	   total = 0;
	int64_t		   lowest[2] = {INT64_MAX, INT64_MAX};

	open_producer(fixture);
	for (uint64_t id = 0; id < 100; id++)
		assert_int_equal(produce(fixture, id), PRODUCER_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 100);

	join_group(fixture);
	for (int i = 0; i < 10; i++)
	{
		loop_turn(fixture->loop);
		take(fixture, 0);
	}
	assert_int_equal(consumer_count(fixture->consumer), 0); /* not placed */

	check_beginnings(fixture, FIRST_OFFSET_LATEST, 100);
	check_beginnings(fixture, FIRST_OFFSET_EARLIEST, 0);
	check_lagging_leader(fixture);
	check_move(fixture);
	check_refuted(fixture);
	check_witness(fixture);
	/* partition 0 was added to a topic that is known: from its start */
	survey(fixture, offsets(-1, 5, NULL), FIRST_OFFSET_LATEST);
	assert_false(consumer_wants_change(fixture->consumer));
	consumer_place(fixture->consumer);
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
	assert_false(consumer_is_disturbed(fixture->consumer));
	/* the record before the next offset is known now */
	assert_true(consumer_next_learned(fixture->consumer, &learned));
	assert_int_equal(learned.partition, 1);
	assert_true(strlen(learned.fingerprint.text) > 9);
	consumer_change_free(&learned);
	assert_false(consumer_next_learned(fixture->consumer, &learned));
	consumer_drop(fixture->consumer);
	consumer_commit(fixture->consumer);

	consumer_suspend(fixture->consumer);
	assert_int_equal(produce(fixture, 100), PRODUCER_TAKEN);
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
	close_consumer(fixture);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(messages_come_from_where_the_database_stands_or_first_offset_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
