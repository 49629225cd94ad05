/*
 * describe.h - what a broker says about topics, itself and a consumer group
 *
 * Calls that wait, for commands.  Each needs a right of its own
 * (DescribeConfigs on topics and cluster, Describe on the group), which a relay
 * does without.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_KAFKA_DESCRIBE_H
#define PGSTOCK_KAFKA_DESCRIBE_H

#include "kafka/client.h"

/* ---- settings ---------------------------------------------------------- */

typedef struct KafkaSettings KafkaSettings;

/*
 * The settings of all these topics, or of the broker with that id.  Of a topic
 * that fails there are none, and *error is one of the reasons.
 */
KafkaSettings *kafka_describe_topics(rd_kafka_t *client, char *const *topics,
									 int wait_ms, rd_kafka_resp_err_t *error);
KafkaSettings *kafka_describe_broker(rd_kafka_t *client, int32_t id,
									 int wait_ms, rd_kafka_resp_err_t *error);
void		   kafka_settings_free(KafkaSettings *settings); /* NULL is fine */

/* resource: the topic's name, or the broker's id; NULL: not known */
const char *kafka_setting(const KafkaSettings *settings, const char *resource,
						  const char *name);

/* ---- a consumer group -------------------------------------------------- */

typedef struct KafkaGroup
{
	size_t members;
	size_t strangers;	  /* those whose client.id does not begin so */
	char   stranger[128]; /* one of them */
} KafkaGroup;

/* prefix: of the client.id of members that are expected */
rd_kafka_resp_err_t kafka_describe_group(rd_kafka_t *client, const char *group,
										 const char *prefix, int wait_ms,
										 KafkaGroup *to) MUST_CHECK;

/*
 * Its committed offsets of all partitions; NULL: no answer.  Freed by the
 * caller.
 */
rd_kafka_topic_partition_list_t *kafka_describe_offsets(rd_kafka_t *client,
														const char *group,
														int wait_ms) MUST_CHECK;

#endif
