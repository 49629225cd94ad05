/*
 * test_producer.c - the producer, on librdkafka's mock cluster
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_cluster.h"

#include "config/metric_table.h"

#define PRODUCE_REQUEST 0 /* its number in Kafka's protocol */

static void
take_all(Fixture *fixture, uint64_t first, uint64_t end)
{
	for (uint64_t id = first; id < end; id++)
		assert_int_equal(produce(fixture, id), PRODUCER_TAKEN);
}

static void
every_event_is_acknowledged_once_and_in_the_order_of_its_key(void **state)
{
	Fixture *fixture = *state;
	int64_t	 last[KEYS] = {-1, -1, -1, -1, -1, -1, -1};

	open_producer(fixture);
	take_all(fixture, 0, 1000);
	WAIT_UNTIL(fixture, fixture->acked_count == 1000);
	for (int i = 0; i < 1000; i++)
	{
		int64_t id = (int64_t) fixture->acked[i];

		assert_true(id < 1000);
		assert_true(id ==
					(last[id % KEYS] < 0 ? id % KEYS : last[id % KEYS] + KEYS));
		last[id % KEYS] = id;
	}
	assert_true(producer_is_known_up(fixture->producer));
	assert_true(*metrics_cell(fixture->metrics, METRIC_PUBLISHED, "topic",
							  TOPIC, NULL) == 1000);
}

/* Bottledwater took errno for the result: an old error for a new one. */
static void
a_full_producer_reports_it_and_takes_more_once_the_broker_is_back(void **state)
{
	Fixture *fixture = *state;
	uint64_t id = 0;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	open_producer(fixture);
	while (id <= PRODUCER_IN_FLIGHT_MAX &&
		   produce(fixture, id) == PRODUCER_TAKEN)
		id++;
	assert_int_equal(id, PRODUCER_IN_FLIGHT_MAX);
	errno = ENOBUFS;
	assert_int_equal(produce(fixture, id), PRODUCER_FULL);
	assert_int_equal(fixture->acked_count, 0);

	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	WAIT_UNTIL(fixture, fixture->acked_count > 0);
	assert_int_equal(produce(fixture, id), PRODUCER_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == PRODUCER_IN_FLIGHT_MAX + 1);
	assert_int_equal(fixture->failures, 0);
}

static void
a_broker_that_is_away_is_no_failure(void **state)
{
	Fixture *fixture = *state;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	open_producer(fixture);
	take_all(fixture, 0, 100);
	for (int i = 0; i < 20; i++)
		loop_turn(fixture->loop);
	assert_int_equal(fixture->acked_count, 0);
	assert_false(producer_is_known_up(fixture->producer));
	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	WAIT_UNTIL(fixture, fixture->acked_count == 100);
	assert_true(producer_is_known_up(fixture->producer));
	assert_int_equal(fixture->failures, 0);
}

/* librdkafka handles them. */
static void
errors_of_the_broker_that_pass_are_not_seen(void **state)
{
	Fixture *fixture = *state;

	open_producer(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, PRODUCE_REQUEST, 3,
		RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
		RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
		RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
	take_all(fixture, 0, 200);
	WAIT_UNTIL(fixture, fixture->acked_count == 200);
	assert_int_equal(fixture->failures, 0);
}

/*
 * Bottledwater counted a failed delivery as delivered.  Here it ends the
 * producer: nothing is acknowledged for it, and the owner is notified once.
 */
static void
an_error_that_stays_ends_the_producer_and_the_next_takes_over(void **state)
{
	Fixture *fixture = *state;
	Buf		 metrics = {0};

	open_producer(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, PRODUCE_REQUEST, 1,
		RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	take_all(fixture, 0, 1);
	WAIT_UNTIL(fixture, fixture->failures > 0);
	assert_int_equal(fixture->acked_count, 0);
	assert_non_null(strstr(buf_str(&fixture->failure), "authorization failed"));
	assert_true(fixture->topic_refused);
	metrics_render(fixture->metrics, &metrics);
	assert_non_null(strstr(buf_str(&metrics),
						   "pgstock_outbox_publish_errors_total{class="));
	buf_free(&metrics);

	open_producer(fixture);
	take_all(fixture, 1, 2);
	WAIT_UNTIL(fixture, fixture->acked_count == 1);
	assert_true(fixture->acked[0] == 1);
	assert_int_equal(fixture->failures, 1);
}

/*
 * Later records may be in Kafka by the time the failure is reported; the failed
 * record must not count as delivered.
 */
static void
what_failed_is_not_acknowledged_whatever_follows_it(void **state)
{
	Fixture *fixture = *state;

	open_producer(fixture);
	rd_kafka_mock_push_request_errors(fixture->cluster, PRODUCE_REQUEST, 1,
									  RD_KAFKA_RESP_ERR_INVALID_RECORD);
	take_all(fixture, 0, 1);
	for (uint64_t id = KEYS; id < 50 * KEYS; id += KEYS)
	{
		loop_turn(fixture->loop);
		/* a failed producer may refuse records before it reports the failure */
		if (fixture->failures > 0 || produce(fixture, id) != PRODUCER_TAKEN)
			break;
	}
	WAIT_UNTIL(fixture, fixture->failures > 0);
	for (int i = 0; i < fixture->acked_count; i++)
		assert_true(fixture->acked[i] != 0);
	assert_int_equal(fixture->failures, 1);
	assert_true(fixture->topic_refused);
}

/* The owner still has the events, and produces them again. */
static void
a_closed_producer_reports_nothing_any_more(void **state)
{
	Fixture *fixture = *state;

	open_producer(fixture);
	take_all(fixture, 0, 100);
	producer_close(fixture->producer);
	open_producer(fixture);
	take_all(fixture, 100, 110);
	WAIT_UNTIL(fixture, fixture->acked_count == 10);
	for (int i = 0; i < 10; i++)
		assert_true(fixture->acked[i] >= 100);
}

static void
expect_refusal(Fixture *fixture, const EventRow *row, ProducerResult result,
			   const char *why)
{
	const EventSource source = {{"/pgstock/x", 10}, {"x", 1}};

	assert_int_equal(producer_send(fixture->producer, row, 1, HEADERS_PLAIN,
								   source),
					 result);
	if (strstr(producer_refusal(fixture->producer), why) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", why,
				 producer_refusal(fixture->producer));
}

static void
an_event_that_cannot_be_produced_is_refused_with_the_reason(void **state)
{
	Fixture *fixture = *state;
	char	*large = xcalloc(1, 2000000);
	EventRow row = {
		.id = {"0123456789abcdef", 16},
		.topic = {TOPIC, strlen(TOPIC)},
		.type = {"t", 1},
		.payload = {large, 2000000},
		.format = 'b',
	};

	open_producer(fixture);
	expect_refusal(fixture, &row, PRODUCER_TOO_LARGE, "too large");
	row.payload.len = 10;
	row.headers = (Slice){"\xff", 1};
	expect_refusal(fixture, &row, PRODUCER_REFUSED, "headers are damaged");
	/* without the earlier reason */
	assert_string_equal(producer_refusal(fixture->producer),
						"its headers are damaged");
	row.headers = (Slice){NULL, 0};
	memset(large, 'x', 600);
	row.topic = (Slice){large, 600};
	expect_refusal(fixture, &row, PRODUCER_NO_TOPIC, "no legal name");
	row.topic = (Slice){"pgstock-position-x", 18};
	expect_refusal(fixture, &row, PRODUCER_NO_TOPIC, "for positions");
	assert_int_equal(fixture->failures, 0);
	free(large);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(every_event_is_acknowledged_once_and_in_the_order_of_its_key),
		test(a_full_producer_reports_it_and_takes_more_once_the_broker_is_back),
		test(a_broker_that_is_away_is_no_failure),
		test(errors_of_the_broker_that_pass_are_not_seen),
		test(an_error_that_stays_ends_the_producer_and_the_next_takes_over),
		test(what_failed_is_not_acknowledged_whatever_follows_it),
		test(a_closed_producer_reports_nothing_any_more),
		test(an_event_that_cannot_be_produced_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
