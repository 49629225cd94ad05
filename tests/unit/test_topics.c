/*
 * test_topics.c - the topics of a producer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "kafka/topics.h"

static Topic *
find(Topics *topics, int number)
{
	char name[16];

	snprintf(name, sizeof(name), "topic%d", number);
	return topics_find(topics, (Slice){name, strlen(name)});
}

/* Without a broker: nothing is sent. */
static rd_kafka_t *
open_producer(Topics *topics)
{
	char		reason[KAFKA_ERROR_MAX];
	rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, NULL, reason,
										sizeof(reason));

	assert_non_null(producer);
	topics_open(topics, producer, NULL);
	return producer;
}

static void
close_producer(Topics *topics, rd_kafka_t *producer)
{
	topics_close(topics);
	rd_kafka_destroy(producer);
}

/* An application may name as many as it likes. */
static void
a_producer_has_a_limited_number_of_topics(void **state UNUSED)
{
	Loop	   *loop = loop_new();
	Metrics	   *metrics = metrics_new(&metric_table);
	Topics	   *topics = topics_new(loop, metrics);
	rd_kafka_t *producer = open_producer(topics);
	Topic	   *first = find(topics, 0);

	assert_non_null(first);
	for (int i = 1; i < TOPICS_MAX; i++)
	{
		assert_false(topics_are_full(topics));
		assert_non_null(find(topics, i));
	}
	assert_true(topics_are_full(topics));
	assert_null(find(topics, TOPICS_MAX));
	assert_true(topics_state(topics, (Slice){"further", 7}) == TOPIC_DOUBTED);
	assert_ptr_equal(find(topics, 0), first);
	topics_want(topics, "further", false);
	assert_null(topics_find(topics, (Slice){"further", 7}));
	close_producer(topics, producer);

	/* the next producer knows only those that are wanted */
	producer = open_producer(topics);
	assert_false(topics_are_full(topics));
	assert_true(topics_state(topics, (Slice){"further", 7}) == TOPIC_TRUSTED);
	assert_non_null(find(topics, TOPICS_MAX));
	close_producer(topics, producer);
	topics_free(topics);
	metrics_free(metrics);
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_producer_has_a_limited_number_of_topics),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
