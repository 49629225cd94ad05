/*
 * test_transaction.c - the transactional producer, on librdkafka's mock cluster
 *
 * The mock cluster has no commit markers and fences no producer:
 * tests/e2e/test_transactional.py checks what a reader sees and how a fenced
 * producer ends.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_transactions.h"

#include "config/metric_table.h"

/* numbers in Kafka's protocol */
#define LIST_OFFSETS_REQUEST  2
#define INIT_PRODUCER_REQUEST 22

static double
published(Fixture *fixture)
{
	return *metrics_cell(fixture->metrics, METRIC_PUBLISHED, "topic", TOPIC,
						 NULL);
}

static void
what_is_committed_counts_and_its_position_is_read_back(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	assert_string_equal(buf_str(&fixture->position), "");
	for (int n = 1; n <= 3; n++)
	{
		char position[8];

		snprintf(position, sizeof(position), "p%d", n);
		for (uint64_t id = 0; id < 100; id++)
			assert_int_equal(produce(fixture, id), PRODUCER_TAKEN);
		commit(fixture, position);
		WAIT_UNTIL(fixture, fixture->committed == n);
		assert_true(published(fixture) == 100 * n);
		assert_int_equal(fixture->arrived, 100 * n);
	}
	assert_int_equal(fixture->acked_count, 0);
	assert_true(*metrics_cell(fixture->metrics, METRIC_TRANSACTIONS, NULL) ==
				3);

	producer_close(fixture->producer);
	open_transactional(fixture);
	assert_string_equal(buf_str(&fixture->position), "p3");
	assert_int_equal(fixture->failures, 0);
}

/* A leader that was just elected does not know yet where the topic ends. */
static void
the_end_of_the_positions_is_asked_for_until_it_is_known(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	commit(fixture, "p1");
	WAIT_UNTIL(fixture, fixture->committed == 1);
	producer_close(fixture->producer);
	rd_kafka_mock_push_request_errors(fixture->cluster, LIST_OFFSETS_REQUEST, 3,
									  RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
									  RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
									  RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
	open_transactional(fixture);
	assert_string_equal(buf_str(&fixture->position), "p1");
	assert_int_equal(fixture->failures, 0);
}

/* The loop turns, and serves, while the broker is away. */
static void
opening_waits_for_a_broker_that_is_away(void **state)
{
	Fixture *fixture = *state;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	begin_opening(fixture);
	for (int i = 0; i < 100; i++)
		loop_turn(fixture->loop);
	assert_false(fixture->opened);
	assert_false(producer_is_known_up(fixture->producer));
	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	WAIT_UNTIL(fixture, fixture->opened);
	assert_true(producer_is_known_up(fixture->producer));
	assert_int_equal(fixture->failures, 0);
}

/* A call that lasts longer than one wait for it is resumed. */
static void
opening_takes_as_long_as_the_broker_does(void **state)
{
	Fixture *fixture = *state;

	rd_kafka_mock_broker_set_rtt(fixture->cluster, 1, 600);
	begin_opening(fixture);
	WAIT_UNTIL(fixture, fixture->opened || fixture->failures > 0);
	assert_int_equal(fixture->failures, 0);
}

static void
expect_failure(Fixture *fixture, const char *why)
{
	WAIT_UNTIL(fixture, fixture->failures > 0);
	if (strstr(buf_str(&fixture->failure), why) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", why, buf_str(&fixture->failure));
	assert_int_equal(fixture->failures, 1);
	assert_int_equal(fixture->committed, 0);
	assert_true(published(fixture) == 0);
}

static void
a_producer_that_may_not_be_opened_reports_the_reason(void **state)
{
	Fixture *fixture = *state;

	rd_kafka_mock_push_request_errors(
		fixture->cluster, INIT_PRODUCER_REQUEST, 1,
		RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
	begin_opening(fixture);
	expect_failure(fixture, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
	assert_false(fixture->opened);
}

/*
 * None of them is a success: the next producer finds out how the transaction
 * ended.
 */
static void
whatever_ends_a_commit_ends_the_producer(void **state)
{
	static const struct
	{
		int16_t				request;
		rd_kafka_resp_err_t error;
		const char		   *why;
	} cases[] = {
		{KAFKA_END_TXN, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, "FENCED"},
		{KAFKA_END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
		 "INVALID_TXN_STATE"},
		{KAFKA_END_TXN, RD_KAFKA_RESP_ERR_UNKNOWN, "UNKNOWN"},
		{KAFKA_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
		 "TOPIC_AUTHORIZATION_FAILED"},
		{KAFKA_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
		 "FENCED"},
		{KAFKA_PRODUCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
		 "authorization failed"},
	};
	Fixture *fixture = *state;

	for (size_t i = 0; i < Lengthof(cases); i++)
	{
		fixture->failures = 0;
		open_transactional(fixture);
		rd_kafka_mock_push_request_errors(fixture->cluster, cases[i].request, 1,
										  cases[i].error);
		assert_int_equal(produce(fixture, 1), PRODUCER_TAKEN);
		commit(fixture, "p");
		expect_failure(fixture, cases[i].why);
		rd_kafka_mock_clear_request_errors(fixture->cluster, cases[i].request);
	}
}

/*
 * Only librdkafka's log names it: this fails where a version writes another
 * line (log_text.h).
 */
static void
a_topic_that_is_not_admitted_to_a_transaction_is_known(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, KAFKA_ADD_PARTITIONS, 1,
		RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	assert_int_equal(produce(fixture, 1), PRODUCER_TAKEN);
	WAIT_UNTIL(fixture, fixture->failures > 0);
	assert_true(fixture->topic_refused);
}

/*
 * librdkafka repeats a request whose connection was lost, without reporting it:
 * the first one may still arrive.  If it commits, it would then commit the
 * records that the next transaction has sent by then.
 */
static void
what_librdkafka_sent_again_is_the_producer_s_last(void **state)
{
	static const struct
	{
		int16_t				request;
		rd_kafka_resp_err_t error;
		int					committed;
		const char		   *why;
	} cases[] = {
		{KAFKA_END_TXN, RD_KAFKA_RESP_ERR__TRANSPORT, 0,
		 "the request to commit was sent again"},
		{KAFKA_END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 0,
		 "the request to commit was sent again"},
		{KAFKA_PRODUCE, RD_KAFKA_RESP_ERR__TRANSPORT, 1,
		 "a request of the transaction was not answered"},
		{KAFKA_ADD_PARTITIONS, RD_KAFKA_RESP_ERR__TRANSPORT, 1,
		 "a request of the transaction was not answered"},
	};
	Fixture *fixture = *state;

	for (size_t i = 0; i < Lengthof(cases); i++)
	{
		fixture->failures = fixture->committed = 0;
		open_transactional(fixture);
		rd_kafka_mock_push_request_errors(fixture->cluster, cases[i].request, 1,
										  cases[i].error);
		assert_int_equal(produce(fixture, 1), PRODUCER_TAKEN);
		commit(fixture, "p");
		WAIT_UNTIL(fixture, fixture->failures > 0 || fixture->committed > 1);
		assert_non_null(strstr(buf_str(&fixture->failure), cases[i].why));
		assert_int_equal(fixture->failures, 1);
		assert_int_equal(fixture->committed, cases[i].committed);
		assert_false(fixture->topic_blamed);
	}
	fixture->failures = 0;
	open_transactional(fixture);
	assert_string_equal(buf_str(&fixture->position), "p");
}

/* A broker that asks for a retry later has answered. */
static void
what_the_broker_puts_off_is_no_loss(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, KAFKA_ADD_PARTITIONS, 2,
		RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
		RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, KAFKA_PRODUCE, 1,
		RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
	for (int n = 1; n <= 2; n++)
	{
		assert_int_equal(produce(fixture, 1), PRODUCER_TAKEN);
		commit(fixture, "p");
		WAIT_UNTIL(fixture, fixture->committed == n);
	}
	assert_int_equal(fixture->failures, 0);
}

/* The position's topic has no events that could be held. */
static void
a_position_that_is_refused_is_no_topic_s_fault(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	rd_kafka_mock_push_request_errors(fixture->cluster, KAFKA_PRODUCE, 1,
									  RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
	commit(fixture, "p");
	expect_failure(fixture, "MSG_SIZE_TOO_LARGE");
	assert_false(fixture->topic_blamed);

	/* nor where it may not be written to at all */
	fixture->failures = 0;
	open_transactional(fixture);
	rd_kafka_mock_push_request_errors(
		fixture->cluster, KAFKA_ADD_PARTITIONS, 1,
		RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	commit(fixture, "p");
	expect_failure(fixture, "TOPIC_AUTHORIZATION_FAILED");
	assert_false(fixture->topic_blamed);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test_topic(what_is_committed_counts_and_its_position_is_read_back),
		test_topic(the_end_of_the_positions_is_asked_for_until_it_is_known),
		test_topic(opening_waits_for_a_broker_that_is_away),
		test_topic(opening_takes_as_long_as_the_broker_does),
		test_topic(a_producer_that_may_not_be_opened_reports_the_reason),
		test_topic(whatever_ends_a_commit_ends_the_producer),
		test_topic(a_topic_that_is_not_admitted_to_a_transaction_is_known),
		test_topic(what_librdkafka_sent_again_is_the_producer_s_last),
		test_topic(what_the_broker_puts_off_is_no_loss),
		test_topic(a_position_that_is_refused_is_no_topic_s_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
