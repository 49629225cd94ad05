/*
 * test_transaction.c - the transactional producer, on librdkafka's mock cluster
 *
 * The mock cluster has no commit markers and fences no producer:
 * tests/e2e/test_transactional.py checks what a reader sees and how a fenced
 * producer ends.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_cluster.h"

#include "config/metric_table.h"

#define INCARNATION "11111111-2222-4333-8444-555555555555"

/* numbers in Kafka's protocol */
#define LIST_OFFSETS_REQUEST  2
#define INIT_PRODUCER_REQUEST 22

static void
begin_opening(Fixture *fixture)
{
	Buf error = {0};

	fixture->opened = false;
	if (!producer_open(fixture->producer, fixture->config, 1000000, INCARNATION,
					   &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

static void
open_transactional(Fixture *fixture)
{
	begin_opening(fixture);
	WAIT_UNTIL(fixture, fixture->opened);
}

static int
set_up_topic(void **state)
{
	int failed = set_up(state);

	rd_kafka_mock_topic_create(((Fixture *) *state)->cluster,
							   "pgstock-position-" INCARNATION, 1, 1);
	return failed;
}

static void
commit(Fixture *fixture, const char *position)
{
	assert_int_equal(producer_commit(fixture->producer,
									 (Slice){position, strlen(position)}),
					 PRODUCER_TAKEN);
}

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

/* None of them is a success: the next producer finds out how the transaction
 * ended. */
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

/* Only librdkafka's log names it: this fails where a version writes another
 * line (log_text.h). */
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

/* No caller needs its answer, and its successor need not wait for it. */
static void
a_producer_may_be_closed_while_it_commits_or_opens(void **state)
{
	Fixture *fixture = *state;

	open_transactional(fixture);
	assert_int_equal(produce(fixture, 1), PRODUCER_TAKEN);
	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	commit(fixture, "lost");
	producer_close(fixture->producer);
	begin_opening(fixture);
	producer_close(fixture->producer);
	rd_kafka_mock_broker_set_up(fixture->cluster, 1);
	open_transactional(fixture);
	assert_int_equal(produce(fixture, 2), PRODUCER_TAKEN);
	commit(fixture, "p");
	WAIT_UNTIL(fixture, fixture->committed == 1);
	assert_int_equal(fixture->failures, 0);
}

/* Turns the loop for so long. */
static void
turn_for(Fixture *fixture, int64_t us)
{
	int64_t until = loop_now(fixture->loop) + us;

	WAIT_UNTIL(fixture, loop_now(fixture->loop) >= until);
}

/* Each ends about a second after it was given up; all that time there is one
 * that was given up later. */
static void
producers_that_were_given_up_go_while_others_wait(void **state)
{
	Fixture *fixture = *state;
	int		 threads = 0;

	rd_kafka_mock_broker_set_down(fixture->cluster, 1);
	for (int i = 0; i < 14; i++)
	{
		begin_opening(fixture);
		turn_for(fixture, 300 * MS_US);
		producer_close(fixture->producer);
		if (i == 6)
			threads = rd_kafka_thread_cnt();
	}
	assert_true(rd_kafka_thread_cnt() < threads + 12); /* 4 a producer */
}

/*
 * The race: librdkafka registers the first partition of a transaction while the
 * client is destroyed (watched_client_quiesce in transaction.c), and aborts the
 * process.
 */
static void
a_producer_may_be_closed_right_after_its_first_event(void **state)
{
	Fixture *fixture = *state;

	for (int i = 0; i < 100; i++)
	{
		open_transactional(fixture);
		assert_int_equal(produce(fixture, (uint64_t) i), PRODUCER_TAKEN);
		if (i % 2 == 1)
			commit(fixture, "lost");
		producer_close(fixture->producer);
	}
	assert_int_equal(fixture->failures, 0);
}

#define test_topic(name) \
	cmocka_unit_test_setup_teardown(name, set_up_topic, tear_down)

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
		test_topic(a_producer_may_be_closed_while_it_commits_or_opens),
		test_topic(producers_that_were_given_up_go_while_others_wait),
		test_topic(a_producer_may_be_closed_right_after_its_first_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
