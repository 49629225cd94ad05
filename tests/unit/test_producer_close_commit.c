/*
 * test_producer_close_commit.c - a transactional producer is closed while it
 * commits; test_producer_close.c has the other moments
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "mock_transactions.h"

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

/* The race of test_producer_close.c, with a commit under way. */
static void
a_producer_may_be_closed_right_after_its_first_commit(void **state)
{
	Fixture *fixture = *state;

	for (int i = 0; i < 50; i++)
	{
		open_transactional(fixture);
		assert_int_equal(produce(fixture, (uint64_t) i), PRODUCER_TAKEN);
		commit(fixture, "lost");
		producer_close(fixture->producer);
	}
	assert_int_equal(fixture->failures, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test_topic(a_producer_may_be_closed_while_it_commits_or_opens),
		test_topic(a_producer_may_be_closed_right_after_its_first_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
