/*
 * witness.c - records that were applied, read once more
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/witness.h"

#include <stdlib.h>
#include <string.h>

#include "kafka/record.h"

#define SLICE_MS 50 /* between two looks at *stop */

rd_kafka_conf_t *
witness_conf(const Config *config)
{
	return kafka_conf_new(config, (KafkaProperties){{NULL, NULL}},
						  (KafkaProperties){
							  {"log.queue", "false"},
							  {"log_level", "0"},
							  {"allow.auto.create.topics", "false"},
							  {"enable.auto.commit", "false"},
							  {"auto.offset.reset", "error"},
							  {"check.crcs", "true"},
							  /* one batch of each is enough */
							  {"queued.min.messages", "1"},
							  {"max.partition.fetch.bytes", "1"},
							  {"fetch.wait.max.ms", "10"},
							  {NULL, NULL},
						  });
}

static void
witness_take(Witness *witness, const rd_kafka_message_t *message)
{
	Buf		   headers = {0};
	ApiMessage record;

	(void) record_read(message, &headers, &record);
	Assert(witness->found < 0); /* one record for each */
	witness->found = message->offset;
	witness->fingerprint = fingerprint_of(&record);
	buf_free(&headers);
}

/* Whether an outstanding witness has arrived, or cannot arrive. */
static bool
witness_take_first(Witness *witnesses, bool *waits, size_t count,
				   const rd_kafka_message_t *message)
{
	for (size_t i = 0; i < count; i++)
	{
		if (!waits[i] || message->rkt == NULL ||
			message->partition != witnesses[i].id ||
			strcmp(rd_kafka_topic_name(message->rkt), witnesses[i].topic) != 0)
			continue;
		waits[i] = false;
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			witness_take(&witnesses[i], message);
		witnesses[i].ended = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
		return true;
	}
	return false;
}

static void
witness_read_all(rd_kafka_queue_t *queue, Witness *witnesses, bool *waits,
				 size_t count, const atomic_bool *stop)
{
	size_t left = 0;

	for (size_t i = 0; i < count; i++)
		left += waits[i];
	Assert(left <= count);
	for (int i = 0; i < WITNESS_MS / SLICE_MS && left > 0 && !*stop;)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, SLICE_MS);

		if (message == NULL)
		{
			i++;
			continue;
		}
		left -= witness_take_first(witnesses, waits, count, message);
		rd_kafka_message_destroy(message);
	}
}

void
witness_read(rd_kafka_t *client, Witness *witnesses, size_t count,
			 const atomic_bool *stop)
{
	rd_kafka_queue_t  *queue = rd_kafka_queue_new(client);
	rd_kafka_topic_t **handles = xcalloc(count + 1, sizeof(*handles));
	bool			  *waits = xcalloc(count + 1, sizeof(bool));

	for (size_t i = 0; i < count; i++)
	{
		witnesses[i].found = -1;
		witnesses[i].ended = false;
		handles[i] = rd_kafka_topic_new(client, witnesses[i].topic, NULL);
		Assert(handles[i] != NULL);
		waits[i] = rd_kafka_consume_start_queue(handles[i], witnesses[i].id,
												witnesses[i].offset,
												queue) == 0;
	}
	witness_read_all(queue, witnesses, waits, count, stop);
	for (size_t i = 0; i < count; i++)
	{
		rd_kafka_consume_stop(handles[i], witnesses[i].id);
		rd_kafka_topic_destroy(handles[i]);
	}
	rd_kafka_queue_destroy(queue);
	free(handles);
	free(waits);
}
