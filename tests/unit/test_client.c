/*
 * test_client.c - queries offsets of librdkafka's mock cluster
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_cluster.h"

#define EVENTS 5

static void
produce_some(Fixture *fixture)
{
	open_producer(fixture);
	for (int id = 1; id <= EVENTS; id++)
		assert_int_equal(produce(fixture, (uint64_t) id), PRODUCER_TAKEN);
	WAIT_UNTIL(fixture, fixture->acked_count == EVENTS);
}

static rd_kafka_t *
client_new(const Fixture *fixture)
{
	static const char *const none[][2] = {{NULL, NULL}};
	char					 error[KAFKA_ERROR_MAX];
	rd_kafka_conf_t			*conf = kafka_conf_new(fixture->config, none, none);

	rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
	return kafka_client_new(RD_KAFKA_PRODUCER, conf, error);
}

static rd_kafka_resp_err_t
find_range(rd_kafka_t *client, int32_t partition, int64_t *first, int64_t *end)
{
	return kafka_find_range(client, TOPIC, partition, first, end, 1000);
}

static void
the_range_of_a_partition_is_where_it_begins_and_what_comes_next(void **state)
{
	Fixture	   *fixture = *state;
	rd_kafka_t *client = client_new(fixture);
	int64_t		first;
	int64_t		end;
	int64_t		sum = 0;

	produce_some(fixture);
	for (int32_t partition = 0; partition < 2; partition++)
	{
		assert_int_equal(find_range(client, partition, &first, &end), 0);
		assert_int_equal(first, 0);
		sum += end;
	}
	assert_int_equal(sum, EVENTS);
	rd_kafka_destroy(client);
}

static void
a_partition_that_is_not_there_is_an_error(void **state)
{
	rd_kafka_t *client = client_new(*state);
	int64_t		first;
	int64_t		end;

	assert_int_equal(find_range(client, 0, &first, &end), 0);
	assert_int_not_equal(find_range(client, 9, &first, &end), 0);
	rd_kafka_destroy(client);
}

/* The loop has one thread: a call that waits for a broker must return. */
static void
a_broker_that_goes_away_is_not_waited_for_without_end(void **state)
{
	Fixture	   *fixture = *state;
	rd_kafka_t *client = client_new(fixture);
	int64_t		started;
	int64_t		first;
	int64_t		end;

	assert_int_equal(find_range(client, 0, &first, &end), 0);
	started = loop_now(fixture->loop);
	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	assert_int_not_equal(find_range(client, 0, &first, &end), 0);
	assert_true(loop_now(fixture->loop) - started < 10 * SEC_US);
	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	rd_kafka_destroy(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(the_range_of_a_partition_is_where_it_begins_and_what_comes_next),
		test(a_partition_that_is_not_there_is_an_error),
		test(a_broker_that_goes_away_is_not_waited_for_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
