/*
 * kafka.h - librdkafka's configuration, and its events on our loop
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_H
#define PGSTOCK_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "config.h"
#include "loop.h"

#define KAFKA_ERROR_MAX 512 /* bytes of librdkafka's error texts */

/* A property and its value from [kafka]; what is wrong goes to *error. */
bool kafka_check_property(const char *property, const char *value,
						  Buf *error) MUST_CHECK;
bool kafka_property_is_secret(const char *property);

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

/* Waits for the broker's answer; without one the topic is not there. */
bool kafka_has_topic(rd_kafka_t *client, const char *topic, int wait_ms);

/* From now on the queue wakes the loop, also for what it holds already. */
void kafka_queue_wakes(rd_kafka_queue_t *queue, LoopWake *wake);

/* Passes a log event of librdkafka on to our log. */
void kafka_log_event(rd_kafka_event_t *event, const char *module);

#endif
