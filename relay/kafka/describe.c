/*
 * describe.c - what a broker says about topics, itself and a consumer group
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "kafka/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- settings ---------------------------------------------------------- */

typedef struct Setting
{
	char *resource;
	char *name;
	char *value;
} Setting;

struct KafkaSettings
{
	Setting *settings;
	size_t	 count;
};

static void
describe_add(KafkaSettings *to, const rd_kafka_ConfigResource_t *from)
{
	size_t count = 0;
	const rd_kafka_ConfigEntry_t *const
		*entries = rd_kafka_ConfigResource_configs(from, &count);

	to->settings = xrealloc(to->settings,
							(to->count + count) * sizeof(Setting));
	for (size_t i = 0; i < count; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (value == NULL) /* a secret, or not set */
			continue;
		to->settings[to->count++] = (Setting){
			.resource = xstrdup(rd_kafka_ConfigResource_name(from)),
			.name = xstrdup(rd_kafka_ConfigEntry_name(entries[i])),
			.value = xstrdup(value),
		};
	}
}

static void
describe_take(KafkaSettings *to, rd_kafka_event_t *event,
			  rd_kafka_resp_err_t *error)
{
	size_t							  count = 0;
	const rd_kafka_ConfigResource_t **found;

	if (event != NULL)
		*error = rd_kafka_event_error(event);
	if (event == NULL || *error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	found = rd_kafka_DescribeConfigs_result_resources(
		rd_kafka_event_DescribeConfigs_result(event), &count);
	for (size_t i = 0; i < count; i++)
		if (rd_kafka_ConfigResource_error(found[i]) != 0)
			*error = rd_kafka_ConfigResource_error(found[i]);
		else
			describe_add(to, found[i]);
}

/* Takes the resources over. */
static KafkaSettings *
describe_settings(rd_kafka_t *client, rd_kafka_ConfigResource_t **wanted,
				  size_t count, int wait_ms, rd_kafka_resp_err_t *error)
{
	KafkaSettings	 *settings = xcalloc(1, sizeof(KafkaSettings));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_event_t *event = NULL;

	*error = count > 0 ? RD_KAFKA_RESP_ERR__TIMED_OUT
					   : RD_KAFKA_RESP_ERR_NO_ERROR;
	if (count > 0)
	{
		rd_kafka_DescribeConfigs(client, wanted, count, NULL, queue);
		event = rd_kafka_queue_poll(queue, wait_ms);
		describe_take(settings, event, error);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy_array(wanted, count);
	rd_kafka_queue_destroy(queue);
	return settings;
}

KafkaSettings *
kafka_describe_topics(rd_kafka_t *client, char *const *topics, int wait_ms,
					  rd_kafka_resp_err_t *error)
{
	size_t						count = strings_count(topics);
	rd_kafka_ConfigResource_t **wanted = xcalloc(count + 1, sizeof(*wanted));
	KafkaSettings			   *settings;

	for (size_t i = 0; i < count; i++)
		wanted[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC,
												topics[i]);
	settings = describe_settings(client, wanted, count, wait_ms, error);
	free(wanted);
	return settings;
}

KafkaSettings *
kafka_describe_broker(rd_kafka_t *client, int32_t id, int wait_ms,
					  rd_kafka_resp_err_t *error)
{
	char					   name[16];
	rd_kafka_ConfigResource_t *wanted;

	snprintf(name, sizeof(name), "%d", id);
	wanted = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_BROKER, name);
	return describe_settings(client, &wanted, 1, wait_ms, error);
}

void
kafka_settings_free(KafkaSettings *settings)
{
	if (settings == NULL)
		return;
	for (size_t i = 0; i < settings->count; i++)
	{
		free(settings->settings[i].resource);
		free(settings->settings[i].name);
		free(settings->settings[i].value);
	}
	free(settings->settings);
	free(settings);
}

const char *
kafka_setting(const KafkaSettings *settings, const char *resource,
			  const char *name)
{
	for (size_t i = 0; settings != NULL && i < settings->count; i++)
		if (strcmp(settings->settings[i].resource, resource) == 0 &&
			strcmp(settings->settings[i].name, name) == 0)
			return settings->settings[i].value;
	return NULL;
}

/* ---- a consumer group -------------------------------------------------- */

static void
describe_add_members(const rd_kafka_ConsumerGroupDescription_t *from,
					 const char *prefix, KafkaGroup *to)
{
	to->members = rd_kafka_ConsumerGroupDescription_member_count(from);
	for (size_t i = 0; i < to->members; i++)
	{
		const char *client = rd_kafka_MemberDescription_client_id(
			rd_kafka_ConsumerGroupDescription_member(from, i));

		if (strncmp(client, prefix, strlen(prefix)) == 0)
			continue;
		to->strangers++;
		snprintf(to->stranger, sizeof(to->stranger), "%s", client);
	}
	Assert(to->strangers <= to->members);
}

rd_kafka_resp_err_t
kafka_describe_group(rd_kafka_t *client, const char *group, const char *prefix,
					 int wait_ms, KafkaGroup *to)
{
	rd_kafka_queue_t   *queue = rd_kafka_queue_new(client);
	rd_kafka_resp_err_t error;
	rd_kafka_event_t   *event;
	const rd_kafka_ConsumerGroupDescription_t **found;
	const rd_kafka_error_t					   *fault;
	size_t										count = 0;

	*to = (KafkaGroup){0};
	rd_kafka_DescribeConsumerGroups(client, &group, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, wait_ms);
	error = event != NULL ? rd_kafka_event_error(event)
						  : RD_KAFKA_RESP_ERR__TIMED_OUT;
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		found = rd_kafka_DescribeConsumerGroups_result_groups(
			rd_kafka_event_DescribeConsumerGroups_result(event), &count);
		Assert(count == 1);
		fault = rd_kafka_ConsumerGroupDescription_error(found[0]);
		if (fault != NULL)
			error = rd_kafka_error_code(fault);
		else
			describe_add_members(found[0], prefix, to);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	return error;
}

rd_kafka_topic_partition_list_t *
kafka_describe_offsets(rd_kafka_t *client, const char *group, int wait_ms)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_ListConsumerGroupOffsets_t
		*wanted = rd_kafka_ListConsumerGroupOffsets_new(group, NULL);
	rd_kafka_topic_partition_list_t *offsets = NULL;
	const rd_kafka_group_result_t  **found;
	rd_kafka_event_t				*event;
	size_t							 count = 0;

	rd_kafka_ListConsumerGroupOffsets(client, &wanted, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, wait_ms);
	if (event != NULL &&
		rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		found = rd_kafka_ListConsumerGroupOffsets_result_groups(
			rd_kafka_event_ListConsumerGroupOffsets_result(event), &count);
		if (count == 1 && rd_kafka_group_result_error(found[0]) == NULL)
			offsets = rd_kafka_topic_partition_list_copy(
				rd_kafka_group_result_partitions(found[0]));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ListConsumerGroupOffsets_destroy(wanted);
	rd_kafka_queue_destroy(queue);
	return offsets;
}
