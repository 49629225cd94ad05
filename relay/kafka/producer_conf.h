/*
 * producer_conf.h - what the producer wants of librdkafka, and must have
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_PRODUCER_CONF_H
#define PGSTOCK_KAFKA_PRODUCER_CONF_H

#include "kafka/client.h"

typedef struct ProducerNeeds
{
	int			max_event_bytes;
	int			batch_bytes_max;  /* of one request */
	const char *transactional_id; /* NULL: idempotent */
	bool		probes;			  /* a missing topic is not waited for */
} ProducerNeeds;

/* The caller owns the answer until rd_kafka_new() takes it. */
rd_kafka_conf_t *producer_conf_new(const Config		   *config,
								   const ProducerNeeds *needs);

#endif
