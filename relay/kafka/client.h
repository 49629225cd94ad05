/*
 * client.h - librdkafka's configuration, and its events on our loop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_CLIENT_H
#define PGSTOCK_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "common/loop.h"
#include "config/config.h"
#include "config/kafka_property.h"

/* Requests, by their numbers in Kafka's protocol. */
#define KAFKA_PRODUCE		 0
#define KAFKA_ADD_PARTITIONS 24
#define KAFKA_END_TXN		 26

/* A name and a value each, NULL at the end. */
typedef const char *const KafkaProperties[][2];

/*
 * The relay's wishes, then what [kafka] says, then what the relay must have.
 * The caller owns the answer until rd_kafka_new() takes it.
 */
rd_kafka_conf_t *kafka_conf_new(const Config *config, KafkaProperties wishes,
								KafkaProperties musts);

/* A client with a given configuration, which it takes over; NULL and the
 * reason in error (KAFKA_ERROR_MAX bytes) if that fails. */
rd_kafka_t *kafka_client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf,
							 char *error) MUST_CHECK;

/*
 * In place of each offset, which is a time in ms or RD_KAFKA_OFFSET_BEGINNING
 * or END, the offset that is there; END: nothing is as late as that.
 */
rd_kafka_resp_err_t kafka_find_offsets(rd_kafka_t					   *client,
									   rd_kafka_topic_partition_list_t *list,
									   int wait_ms) MUST_CHECK;

/* The offset of a partition that comes next; with the first one. */
rd_kafka_resp_err_t kafka_find_end(rd_kafka_t *client, const char *topic,
								   int32_t partition, int64_t *end,
								   int wait_ms) MUST_CHECK;
rd_kafka_resp_err_t kafka_find_range(rd_kafka_t *client, const char *topic,
									 int32_t partition, int64_t *first,
									 int64_t *end, int wait_ms) MUST_CHECK;

/* From now on the queue wakes the loop, also for what it holds already. */
void kafka_queue_wakes(rd_kafka_queue_t *queue, LoopWake *wake);

/* Passes a log event of librdkafka on to our log. */
void kafka_log_event(rd_kafka_event_t *event, const char *module);

/*
 * What the broker has against a record or its topic: others may do well.  Of
 * what a client says by itself, only that there is no such topic.
 */
bool kafka_is_refusal(rd_kafka_resp_err_t error);

#endif
