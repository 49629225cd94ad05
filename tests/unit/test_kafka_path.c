/*
 * test_kafka_path.c - producer and consumer on librdkafka's mock cluster
 *
 * The mock cluster lives inside a client of its own; the broker's errors are
 * what it is told to answer.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "consumer.h"
#include "sink.h"

#include <librdkafka/rdkafka_mock.h>

#define TOPIC "events"
#define LIMIT_US (30 * SEC_US)

typedef struct Fixture
{
	rd_kafka_t *owner;			/* of the mock cluster */
	rd_kafka_mock_cluster_t *cluster;
	Config	   *config;
	Loop	   *loop;
	LoopTimer  *tick;			/* so that waiting has an end */
	Metrics	   *metrics;
	Sink	   *sink;
	uint64_t	acked[4096];	/* ids, in the order of arrival */
	int			acked_count;
	Buf			failure;
	Consumer   *consumer;
	bool		readable;
	int			assigned;		/* rebalances that gave partitions */
	int			revoked;
} Fixture;

static void
on_acked(void *arg, uint64_t id)
{
	Fixture    *fixture = arg;

	assert_true(fixture->acked_count < (int) Lengthof(fixture->acked));
	fixture->acked[fixture->acked_count++] = id;
}

static void
on_served(void *arg UNUSED)
{
}

static void
on_failed(void *arg, const char *why)
{
	Fixture    *fixture = arg;

	buf_clear(&fixture->failure);
	buf_add_str(&fixture->failure, why);
	buf_str(&fixture->failure);
	sink_close(fixture->sink);
}

static void
on_readable(void *arg)
{
	((Fixture *) arg)->readable = true;
}

static void
on_rebalance(void *arg, bool assigned)
{
	Fixture    *fixture = arg;

	fixture->assigned += assigned;
	fixture->revoked += !assigned;
}

static void
on_tick(void *arg)
{
	Fixture    *fixture = arg;

	loop_timer_set(fixture->tick, loop_now(fixture->loop) + 20 * MS_US);
}

static int
set_up(void **state)
{
	static const SinkHandlers sink_handlers = {on_acked, on_served, on_failed};
	static const ConsumerHandlers consumer_handlers = {
		on_readable, on_rebalance,
	};
	Fixture    *fixture = xcalloc(1, sizeof(Fixture));
	char		error[KAFKA_ERROR_MAX];
	Buf			reason = {0};

	log_configure(LEVEL_ERROR, LOG_TEXT);
	fixture->owner = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(),
								  error, sizeof(error));
	fixture->cluster = rd_kafka_mock_cluster_new(fixture->owner, 1);
	rd_kafka_mock_topic_create(fixture->cluster, TOPIC, 2, 1);
	fixture->config = config_load(&(ConfigOverrides){
		.kafka = rd_kafka_mock_cluster_bootstraps(fixture->cluster)}, &reason);
	assert_non_null(fixture->config);
	strings_free(fixture->config->topics);
	fixture->config->topics = strings_split(TOPIC);
	fixture->loop = loop_new();
	fixture->tick = loop_timer_new(fixture->loop, on_tick, fixture);
	on_tick(fixture);
	fixture->metrics = metrics_new();
	fixture->sink = sink_new(fixture->loop, fixture->metrics, &sink_handlers,
							 fixture);
	fixture->consumer = consumer_new(fixture->loop, fixture->metrics,
									 &consumer_handlers, fixture);
	buf_free(&reason);
	*state = fixture;
	return 0;
}

static int
tear_down(void **state)
{
	Fixture    *fixture = *state;

	consumer_free(fixture->consumer);
	sink_free(fixture->sink);
	metrics_free(fixture->metrics);
	loop_timer_free(fixture->tick);
	loop_free(fixture->loop);
	config_free(fixture->config);
	rd_kafka_mock_cluster_destroy(fixture->cluster);
	rd_kafka_destroy(fixture->owner);
	buf_free(&fixture->failure);
	free(fixture);
	return 0;
}

static void
open_sink(Fixture *fixture)
{
	Buf			error = {0};

	if (!sink_open(fixture->sink, fixture->config, 1000000, &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

static SinkResult
produce(Fixture *fixture, uint64_t id)
{
	char		key[16];
	char		value[16];
	int			key_len = snprintf(key, sizeof(key), "key-%d", (int) id % 7);
	int			len = snprintf(value, sizeof(value), "%d", (int) id);
	const EventRow row = {
		.seq = (int64_t) id,
		.id = {"0123456789abcdef", 16},
		.topic = {TOPIC, strlen(TOPIC)},
		.key = {key, (size_t) key_len},
		.type = {"t", 1},
		.payload = {value, (size_t) len},
		.format = 'j',
	};

	return sink_produce(fixture->sink, &row, id,
						HEADERS_CLOUDEVENTS | HEADERS_PLAIN,
						(Slice){"/pgstock/x", 10});
}

#define WAIT_UNTIL(fixture, condition) \
	do \
	{ \
		int64_t		limit_ = loop_now((fixture)->loop) + LIMIT_US; \
		while (!(condition)) \
		{ \
			assert_true(loop_now((fixture)->loop) < limit_); \
			loop_turn((fixture)->loop); \
		} \
	} while (0)

/* ---- producing --------------------------------------------------------- */

static void
every_event_is_acknowledged_once(void **state)
{
	Fixture    *fixture = *state;
	bool		seen[1000] = {0};

	open_sink(fixture);
	for (uint64_t id = 0; id < 1000; id++)
		assert_int_equal(produce(fixture, id), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 1000);
	for (int i = 0; i < 1000; i++)
	{
		assert_false(seen[fixture->acked[i]]);
		seen[fixture->acked[i]] = true;
	}
	assert_true(sink_is_known_up(fixture->sink));
	assert_true(*metrics_cell(fixture->metrics, METRIC_PUBLISHED, "topic",
							  TOPIC, NULL) == 1000);
}

/* Bottledwater took errno for the result: an old error for a new one. */
static void
full_is_told_by_the_result(void **state)
{
	Fixture    *fixture = *state;
	SinkResult	result = SINK_TAKEN;
	uint64_t	id = 0;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	open_sink(fixture);
	for (; id < SINK_IN_FLIGHT_MAX + 10 && result == SINK_TAKEN; id++)
		result = produce(fixture, id);
	assert_int_equal(result, SINK_FULL);
	errno = ENOBUFS;
	assert_int_equal(produce(fixture, id), SINK_FULL);
	assert_int_equal(fixture->acked_count, 0);
}

static void
a_broker_that_is_away_costs_nothing(void **state)
{
	Fixture    *fixture = *state;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	open_sink(fixture);
	for (uint64_t id = 0; id < 100; id++)
		assert_int_equal(produce(fixture, id), SINK_TAKEN);
	for (int i = 0; i < 20; i++)
		loop_turn(fixture->loop);
	assert_int_equal(fixture->acked_count, 0);
	assert_int_equal(fixture->failure.len, 0);
	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	WAIT_UNTIL(fixture, fixture->acked_count == 100);
}

/* Errors that pass are librdkafka's affair. */
static void
retriable_errors_are_not_seen(void **state)
{
	Fixture    *fixture = *state;

	open_sink(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, 0 /* Produce */, 3,
		RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
		RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
		RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
	for (uint64_t id = 0; id < 200; id++)
		assert_int_equal(produce(fixture, id), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 200);
	assert_int_equal(fixture->failure.len, 0);
}

/*
 * Bottledwater counted a failed delivery as delivered.  Here it ends the
 * producer: nothing is acknowledged for it, and the owner is told once.
 */
static void
a_permanent_error_ends_the_producer(void **state)
{
	Fixture    *fixture = *state;
	Buf			metrics = {0};

	open_sink(fixture);
	rd_kafka_mock_push_request_errors(fixture->cluster, 0, 1,
									  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	assert_int_equal(produce(fixture, 1), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->failure.len > 0);
	assert_int_equal(fixture->acked_count, 0);
	if (strstr(buf_str(&fixture->failure), "authorization failed") == NULL)
		fail_msg("%s", buf_str(&fixture->failure));
	metrics_render(fixture->metrics, &metrics);
	assert_non_null(strstr(buf_str(&metrics),
						   "pgstock_outbox_publish_errors_total{class="));
	buf_free(&metrics);

	/* a new one takes over */
	open_sink(fixture);
	assert_int_equal(produce(fixture, 2), SINK_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == 1);
	assert_true(fixture->acked[0] == 2);
}

static void
damaged_or_oversized_events_are_refused(void **state)
{
	Fixture    *fixture = *state;
	char	   *large = xcalloc(1, 2000000);
	EventRow	row = {
		.id = {"0123456789abcdef", 16},
		.topic = {TOPIC, strlen(TOPIC)},
		.type = {"t", 1},
		.payload = {large, 2000000},
		.format = 'b',
	};

	open_sink(fixture);
	assert_int_equal(sink_produce(fixture->sink, &row, 1, HEADERS_PLAIN,
								  (Slice){"x", 1}), SINK_REFUSED);
	assert_non_null(strstr(sink_refusal(fixture->sink), "too large"));
	row.payload.len = 10;
	row.headers = (Slice){"\xff", 1};
	assert_int_equal(sink_produce(fixture->sink, &row, 1, HEADERS_PLAIN,
								  (Slice){"x", 1}), SINK_REFUSED);
	assert_non_null(strstr(sink_refusal(fixture->sink), "headers"));
	free(large);
}

/* ---- consuming --------------------------------------------------------- */

static void
open_consumer(Fixture *fixture)
{
	Buf			error = {0};

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
		assert_int_not_equal(consumer_take(fixture->consumer),
							 CONSUMER_FAILED);
	}
	return consumer_count(fixture->consumer) >= messages;
}

static PGresult *
offsets(int64_t of_partition_0, int64_t of_partition_1)
{
	PGresult   *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc descriptions[3] = {0};
	const int64_t next[] = {of_partition_0, of_partition_1};
	int			row = 0;

	for (int i = 0; i < 3; i++)
		descriptions[i].name = (char *) (uintptr_t) "c";
	PQsetResultAttrs(result, 3, descriptions);
	for (int i = 0; i < 2; i++)
	{
		char		text[24];

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
messages_come_from_where_they_are_wanted(void **state)
{
	Fixture    *fixture = *state;
	PGresult   *from = offsets(-1, 5);
	uint32_t	total = 0;
	int64_t		lowest[2] = {INT64_MAX, INT64_MAX};

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
	assert_int_equal(consumer_count(fixture->consumer), 0);	/* not placed */

	assert_true(consumer_place(fixture->consumer, from, FIRST_OFFSET_EARLIEST));
	PQclear(from);
	WAIT_UNTIL(fixture, take(fixture, 95));
	total = consumer_count(fixture->consumer);
	assert_int_equal(total, 95);
	for (uint32_t i = 0; i < total; i++)
	{
		ApiMessage	message;

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
	WAIT_UNTIL(fixture, take(fixture, 0) &&
			   consumer_has_left(fixture->consumer));
	assert_int_equal(fixture->revoked, 1);
	consumer_close(fixture->consumer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_event_is_acknowledged_once,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_is_told_by_the_result,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broker_that_is_away_costs_nothing,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(retriable_errors_are_not_seen,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_permanent_error_ends_the_producer,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(damaged_or_oversized_events_are_refused,
										set_up, tear_down),
		cmocka_unit_test_setup_teardown(messages_come_from_where_they_are_wanted,
										set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
