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
#define KAFKA_ADD_OFFSETS	 25
#define KAFKA_END_TXN		 26
#define KAFKA_TXN_OFFSETS	 28

/* A name and a value each, NULL at the end. */
typedef const char *const KafkaProperties[][2];

/*
 * The relay's defaults, then those of [kafka], then what the relay requires.
 * The caller owns the answer until rd_kafka_new() takes it.
 */
rd_kafka_conf_t *kafka_conf_new(const Config *config, KafkaProperties wishes,
								KafkaProperties musts);

/*
 * A client with a given configuration, which it takes over; NULL and the
 * reason in error (KAFKA_ERROR_MAX bytes) if that fails.
 */
rd_kafka_t *kafka_client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf,
							 char *error) MUST_CHECK;

/* Destroys a consumer without waiting: it does not leave its group. */
void kafka_consumer_end(rd_kafka_t *client);

/* Waits for these; false if a broker does not let one end in that time. */
bool kafka_consumers_ended(int seconds) MUST_CHECK;

/*
 * Gives a client the user and password of [kafka], for its next connection; one
 * that is open is kept.  Of no effect where SASL is not used.
 */
void kafka_set_credentials(rd_kafka_t *client, const Config *config);

/*
 * In place of each offset, which is a time in ms or RD_KAFKA_OFFSET_BEGINNING
 * or END, the offset that is there; END: nothing is as late as that.
 */
rd_kafka_resp_err_t kafka_find_offsets(rd_kafka_t					   *client,
									   rd_kafka_topic_partition_list_t *list,
									   int wait_ms) MUST_CHECK;

/* The next offset of a partition, and its first one. */
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
 * The topic that a log event calls refused, or NULL (log_text.h); freed by the
 * caller.
 */
char *kafka_refused_topic(rd_kafka_event_t *event) MUST_CHECK;

/*
 * Whether the broker refused this record or its topic, so that others may
 * succeed.  Of librdkafka's own errors, only an unknown topic or partition.
 */
bool kafka_is_refusal(rd_kafka_resp_err_t error);

#endif
