/*
 * partition.c - the partitions that the group assigned to this consumer
 *
 * Below consumer.c, which reads them, and consumer_offsets.c, which decides
 * where each of them is read from.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/consumer_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "consumer"

/*
 * Placing one partition again pauses all others for a moment, so a partition
 * with a permanently damaged batch must not cause it all the time.
 */
#define FAILURES_AT_ONCE 3
#define HOLD_US			 (30 * SEC_US)

void
consumer_forget_partitions(Consumer *consumer)
{
	/* a message at hand is of a partition that is ours */
	Assert(consumer->count == 0);
	Assert((consumer->partitions == NULL) == (consumer->partition_count == 0));
	for (size_t i = 0; i < consumer->partition_count; i++)
		free(consumer->partitions[i].topic);
	free(consumer->partitions);
	consumer->partitions = NULL;
	consumer->partition_count = 0;
	metrics_forget(consumer->metrics, METRIC_LAG);
}

/* From the start, so that a rate sees the first of them. */
static void
partition_show_metrics(const Consumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		const Partition *partition = &consumer->partitions[i];
		char			 id[16];

		snprintf(id, sizeof(id), "%d", partition->id);
		(void) metrics_cell(consumer->metrics, METRIC_MISSING, "topic",
							partition->topic, "partition", id, NULL);
		(void) metrics_cell(consumer->metrics, METRIC_HISTORIES, "topic",
							partition->topic, "partition", id, NULL);
		(void) metrics_cell(consumer->metrics, METRIC_DAMAGED, "topic",
							partition->topic, NULL);
	}
}

void
consumer_set_partitions(Consumer							  *consumer,
						const rd_kafka_topic_partition_list_t *list)
{
	consumer_forget_partitions(consumer);
	if (list->cnt == 0)
		return;
	consumer->partition_count = (size_t) list->cnt;
	consumer->partitions = xcalloc(consumer->partition_count,
								   sizeof(Partition));
	for (int i = 0; i < list->cnt; i++)
		consumer->partitions[i] = (Partition){
			.topic = xstrdup(list->elems[i].topic),
			.id = list->elems[i].partition,
			.end = -1,
			.drained_to = -1,
		};
	partition_show_metrics(consumer);
}

Partition *
consumer_partition(Consumer *consumer, const char *topic, int32_t id)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (consumer->partitions[i].id == id &&
			strcmp(consumer->partitions[i].topic, topic) == 0)
			return &consumer->partitions[i];
	return NULL;
}

void
consumer_assign(Consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_resp_err_t error;

	Assert(consumer->client != NULL);
	error = rd_kafka_assign(consumer->client, list);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		log_warning("could not assign partitions: %s", rd_kafka_err2str(error));
}

static bool
partition_is_assigned(const Consumer *consumer, const Partition *partition)
{
	return partition >= consumer->partitions &&
		   partition < consumer->partitions + consumer->partition_count;
}

void
consumer_disturb(Consumer *consumer, Partition *partition, const char *what)
{
	Assert(partition == NULL || partition_is_assigned(consumer, partition));
	consumer->disturbed = true;
	buf_clear(&consumer->trouble);
	if (partition != NULL)
		buf_printf(&consumer->trouble, "%s/%d ", partition->topic,
				   partition->id);
	buf_add_str(&consumer->trouble, what);
	buf_str(&consumer->trouble);
	for (size_t i = 0; i < consumer->partition_count; i++)
		if (partition == NULL || partition == &consumer->partitions[i])
			consumer->partitions[i].ignored = true;
}

void
consumer_hold(const Consumer *consumer, Partition *partition)
{
	Assert(partition_is_assigned(consumer, partition));
	if (++partition->failures >= FAILURES_AT_ONCE)
		partition->hold_to = loop_now(consumer->loop) + HOLD_US;
}
