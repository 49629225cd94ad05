/*
 * producer_conf.c - the producer's properties for librdkafka
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/producer_conf.h"

#include <stdio.h>
#include <stdlib.h>

#include "kafka/producer.h"

/* room for the relay's own headers and the record's frame */
#define MESSAGE_OVERHEAD (64 * 1024)

/* batch.size in [kafka] is an upper bound: the broker may accept less. */
static int
producer_conf_batch_bytes(const Config *config, int batch_max)
{
	const char *wanted = config_kafka_get(config, "batch.size");

	return wanted == NULL ? batch_max
						  : (int) Min(strtol(wanted, NULL, 10), batch_max);
}

/*
 * No linger: a lone event leaves at once; under load batches form by themselves
 * while requests are on the wire.
 *
 * One request on the wire to a broker: with more, a partition that has just
 * come up may refuse the first batch and take the second (the broker accepts
 * any first sequence number of a producer that it does not know), and
 * librdkafka then reports the first one as delivered with the second.
 *
 * A transaction needs no guarantee of its own against gaps, for a failed record
 * fails all of it, and its records wait no longer than itself.  Where a topic
 * was deleted, the request to its coordinator is repeated, and only the refresh
 * of the topics' metadata ends that.
 */
rd_kafka_conf_t *
producer_conf_new(const Config *config, const ProducerNeeds *needs)
{
	char in_flight[16];
	char batch_bytes[16];
	char message_bytes[16];
	char queue_kbytes[16];
	char timeout[16];
	int	 message_max = needs->max_event_bytes + MESSAGE_OVERHEAD;
	bool once = needs->transactional_id != NULL;

	Assert(needs->max_event_bytes > 0 && needs->batch_bytes_max > 0);
	snprintf(in_flight, sizeof(in_flight), "%d", PRODUCER_IN_FLIGHT_MAX + once);
	snprintf(batch_bytes, sizeof(batch_bytes), "%d",
			 producer_conf_batch_bytes(config, needs->batch_bytes_max));
	snprintf(timeout, sizeof(timeout), "%d", KAFKA_TRANSACTION_MS);
	snprintf(message_bytes, sizeof(message_bytes), "%d", message_max);
	snprintf(queue_kbytes, sizeof(queue_kbytes), "%d",
			 Max(8192, 2 * message_max / 1024));
	return kafka_conf_new(config,
						  (KafkaProperties){
							  {"linger.ms", "0"},
							  {"partitioner", "murmur2_random"},
							  {"sticky.partitioning.linger.ms", "0"},
							  {"queue.buffering.max.kbytes", queue_kbytes},
							  {"topic.metadata.refresh.fast.interval.ms", "50"},
							  {"topic.metadata.propagation.max.ms",
							   needs->probes ? "500" : "1500"},
							  {"topic.metadata.refresh.interval.ms",
							   once ? "5000" : "300000"},
							  {NULL, NULL},
						  },
						  (KafkaProperties){
							  {"acks", "all"},
							  {"batch.size", batch_bytes},
							  {"enable.idempotence", "true"},
							  {"max.in.flight", "1"},
							  {"message.max.bytes", message_bytes},
							  {"queue.buffering.max.messages", in_flight},
							  {once ? "transactional.id"
									: "enable.gapless.guarantee",
							   once ? needs->transactional_id : "true"},
							  {once ? "transaction.timeout.ms"
									: "message.timeout.ms",
							   once ? timeout : "0"},
							  {NULL, NULL},
						  });
}
