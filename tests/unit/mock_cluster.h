/*
 * mock_cluster.h - producer and consumer on librdkafka's mock cluster
 *
 * The mock cluster lives inside a client of its own and returns the errors that
 * a test sets.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_MOCK_CLUSTER_H
#define PGSTOCK_MOCK_CLUSTER_H

#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/load.h"
#include "kafka/consumer.h"
#include "kafka/producer.h"

#include <librdkafka/rdkafka_mock.h>

#define TOPIC	 "events"
#define KEYS	 7
#define LIMIT_US (30 * SEC_US)

typedef struct Fixture
{
	rd_kafka_t				*owner; /* of the mock cluster */
	rd_kafka_mock_cluster_t *cluster;
	Config					*config;
	Loop					*loop;
	LoopTimer				*tick; /* so that waiting has an end */
	Metrics					*metrics;
	Producer				*producer;
	uint64_t  acked[PRODUCER_IN_FLIGHT_MAX + 16]; /* in this order */
	int		  acked_count;
	Buf		  failure; /* of the producer, the last one */
	int		  failures;
	bool	  topic_refused; /* as the last failure said */
	bool	  topic_blamed;	 /* this one or another */
	bool	  opened;		 /* transactional */
	Buf		  position;
	int		  arrived;
	int		  committed;
	Consumer *consumer;
	bool	  readable;
	int		  assigned; /* rebalances that gave partitions */
	int		  revoked;
	bool	  surveyed;
} Fixture;

static inline void
on_acked(void *arg, uint64_t id)
{
	Fixture *fixture = arg;

	assert_true(fixture->acked_count < (int) Lengthof(fixture->acked));
	fixture->acked[fixture->acked_count++] = id;
}

static inline void
on_arrived(void *arg, uint64_t id UNUSED)
{
	((Fixture *) arg)->arrived++;
}

static inline void
on_served(void *arg UNUSED)
{
}

static inline void
on_failed(void *arg, const char *topic, const char *why)
{
	Fixture *fixture = arg;

	fixture->topic_blamed = topic != NULL;
	fixture->topic_refused = topic != NULL && strcmp(topic, TOPIC) == 0;
	buf_clear(&fixture->failure);
	buf_add_str(&fixture->failure, why);
	buf_str(&fixture->failure);
	fixture->failures++;
	producer_close(fixture->producer);
}

static inline void
on_opened(void *arg, Slice position)
{
	Fixture *fixture = arg;

	fixture->opened = true;
	buf_clear(&fixture->position);
	buf_add(&fixture->position, position.data, position.len);
	buf_str(&fixture->position);
}

static inline void
on_committed(void *arg)
{
	((Fixture *) arg)->committed++;
}

static inline void
on_readable(void *arg)
{
	((Fixture *) arg)->readable = true;
}

static inline void
on_rebalance(void *arg, bool assigned)
{
	Fixture *fixture = arg;

	fixture->assigned += assigned;
	fixture->revoked += !assigned;
}

static inline void
on_surveyed(void *arg)
{
	((Fixture *) arg)->surveyed = true;
}

static inline void
on_tick(void *arg)
{
	Fixture *fixture = arg;

	loop_timer_set(fixture->tick, loop_now(fixture->loop) + 20 * MS_US);
}

static inline int
set_up(void **state)
{
	static const ProducerHandlers producer_handlers = {
		.acked = on_acked,
		.arrived = on_arrived,
		.served = on_served,
		.failed = on_failed,
		.opened = on_opened,
		.committed = on_committed,
	};
	static const ConsumerHandlers consumer_handlers = {
		on_readable,
		on_rebalance,
		on_surveyed,
	};
	Fixture			*fixture = xcalloc(1, sizeof(Fixture));
	char			 error[KAFKA_ERROR_MAX];
	Buf				 reason = {0};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	ConfigOverrides	 from = {0};

	log_configure(LEVEL_ERROR, LOG_TEXT);
	rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
	fixture->owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error,
								  sizeof(error));
	fixture->cluster = rd_kafka_mock_cluster_new(fixture->owner, 1);
	rd_kafka_mock_topic_create(fixture->cluster, TOPIC, 2, 1);
	from.kafka = rd_kafka_mock_cluster_bootstraps(fixture->cluster);
	fixture->config = config_load(&from, &reason);
	assert_non_null(fixture->config);
	strings_free(fixture->config->topics);
	fixture->config->topics = strings_split(TOPIC);
	fixture->loop = loop_new();
	fixture->tick = loop_timer_new(fixture->loop, on_tick, fixture);
	on_tick(fixture);
	fixture->metrics = metrics_new(&metric_table);
	fixture->producer = producer_new(fixture->loop, fixture->metrics,
									 &producer_handlers, fixture);
	fixture->consumer = consumer_new(fixture->loop, fixture->metrics,
									 &consumer_handlers, fixture);
	buf_free(&reason);
	*state = fixture;
	return 0;
}

static inline int
tear_down(void **state)
{
	Fixture *fixture = *state;

	consumer_free(fixture->consumer);
	producer_free(fixture->producer);
	metrics_free(fixture->metrics);
	loop_timer_free(fixture->tick);
	loop_free(fixture->loop);
	config_free(fixture->config);
	rd_kafka_mock_cluster_destroy(fixture->cluster);
	rd_kafka_destroy(fixture->owner);
	buf_free(&fixture->failure);
	buf_free(&fixture->position);
	free(fixture);
	return 0;
}

static inline void
open_producer(Fixture *fixture)
{
	Buf error = {0};

	if (!producer_open(fixture->producer, fixture->config, 1000000, NULL,
					   &error))
		fail_msg("%s", buf_str(&error));
	buf_free(&error);
}

static inline ProducerResult
produce(Fixture *fixture, uint64_t id)
{
	char key[16];
	char value[16];
	int	 key_len = snprintf(key, sizeof(key), "key-%d", (int) (id % KEYS));
	int	 len = snprintf(value, sizeof(value), "%d", (int) id);
	const EventRow row = {
		.seq = (int64_t) id,
		.id = {"0123456789abcdef", 16},
		.topic = {TOPIC, strlen(TOPIC)},
		.key = {key, (size_t) key_len},
		.type = {"t", 1},
		.payload = {value, (size_t) len},
		.format = 'j',
	};

	return producer_send(fixture->producer, &row, id,
						 HEADERS_CLOUDEVENTS | HEADERS_PLAIN,
						 (EventSource){{"/pgstock/x", 10}, {"x", 1}});
}

#define WAIT_UNTIL(fixture, condition)                         \
	do                                                         \
	{                                                          \
		int64_t limit_ = loop_now((fixture)->loop) + LIMIT_US; \
		while (!(condition))                                   \
		{                                                      \
			assert_true(loop_now((fixture)->loop) < limit_);   \
			loop_turn((fixture)->loop);                        \
		}                                                      \
	} while (0)

#define test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
