/*
 * mock_transactions.h - a transactional producer on the mock cluster
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_MOCK_TRANSACTIONS_H
#define PGSTOCK_MOCK_TRANSACTIONS_H

#include "mock_cluster.h"

#define INCARNATION "11111111-2222-4333-8444-555555555555"

static inline void
begin_opening(Fixture *fixture)
{
	Buf error = {0};

	fixture->opened = false;
	if (!producer_open(fixture->producer, fixture->config, 1000000, INCARNATION,
					   &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

static inline void
open_transactional(Fixture *fixture)
{
	begin_opening(fixture);
	WAIT_UNTIL(fixture, fixture->opened);
}

static inline int
set_up_topic(void **state)
{
	int failed = set_up(state);

	rd_kafka_mock_topic_create(((Fixture *) *state)->cluster,
							   "pgstock-position-" INCARNATION, 1, 1);
	return failed;
}

static inline void
commit(Fixture *fixture, const char *position)
{
	assert_int_equal(producer_commit(fixture->producer,
									 (Slice){position, strlen(position)}),
					 PRODUCER_TAKEN);
}

#define test_topic(name) \
	cmocka_unit_test_setup_teardown(name, set_up_topic, tear_down)

#endif
