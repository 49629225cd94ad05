/*
 * test_producer_close.c - a transactional producer is closed at any time
 *
 * Its stories wait, and are repeated.  So they are apart from
 * test_transaction.c, and from those that are closed while they commit
 * (test_producer_close_commit.c): the three run beside each other.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_transactions.h"

/* Turns the loop for so long. */
static void
turn_for(Fixture *fixture, int64_t us)
{
	int64_t until = loop_now(fixture->loop) + us;

	WAIT_UNTIL(fixture, loop_now(fixture->loop) >= until);
}

/*
 * Each ends about a second after it was given up; all that time there is one
 * that was given up later.
 */
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
 * client is destroyed (client_quiesce in kafka/watched_client.c), and aborts
 * the process.
 */
static void
a_producer_may_be_closed_right_after_its_first_event(void **state)
{
	Fixture *fixture = *state;

	for (int i = 0; i < 50; i++)
	{
		open_transactional(fixture);
		assert_int_equal(produce(fixture, (uint64_t) i), PRODUCER_TAKEN);
		producer_close(fixture->producer);
	}
	assert_int_equal(fixture->failures, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test_topic(producers_that_were_given_up_go_while_others_wait),
		test_topic(a_producer_may_be_closed_right_after_its_first_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
