/*
 * rewind.c - messages of a topic, to be read again
 *
 * The database has the offsets that the relays read from, but a relay reads
 * them only when it is assigned partitions.  So none may consume the topic
 * meanwhile: the group's members are listed first.  A message that was applied
 * and whose id is still remembered is a duplicate when it is read again.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/progress.h"
#include "common/safe_text.h"
#include "db/api_command.h"

/* ---- consumers --------------------------------------------------------- */

static bool
rewind_member_reads(const rd_kafka_MemberDescription_t *member,
					const char						   *topic)
{
	const rd_kafka_MemberAssignment_t
		*assignment = rd_kafka_MemberDescription_assignment(member);
	const rd_kafka_topic_partition_list_t
		*partitions = assignment != NULL
						  ? rd_kafka_MemberAssignment_partitions(assignment)
						  : NULL;

	for (int i = 0; partitions != NULL && i < partitions->cnt; i++)
		if (strcmp(partitions->elems[i].topic, topic) == 0)
			return true;
	return false;
}

static bool
rewind_group_is_free(const rd_kafka_ConsumerGroupDescription_t *group,
					 const char								   *topic)
{
	size_t members = rd_kafka_ConsumerGroupDescription_member_count(group);
	rd_kafka_consumer_group_state_t
		state = rd_kafka_ConsumerGroupDescription_state(group);

	for (size_t i = 0; i < members; i++)
	{
		const rd_kafka_MemberDescription_t
			*member = rd_kafka_ConsumerGroupDescription_member(group, i);

		/* while the group rebalances, any member may get any partition */
		if (state == RD_KAFKA_CONSUMER_GROUP_STATE_STABLE &&
			!rewind_member_reads(member, topic))
			continue;
		command_report(
			"relay \"%s\" at %s consumes topic \"%s\", or is about "
			"to: stop it first; after a kill the group forgets it in "
			"10 s",
			rd_kafka_MemberDescription_client_id(member),
			rd_kafka_MemberDescription_host(member), topic);
		return false;
	}
	return true;
}

static bool
rewind_topic_is_free(Command *command, rd_kafka_t *client, const char *topic)
{
	const char		 *group = command_group(command);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_event_t *event;
	const rd_kafka_ConsumerGroupDescription_t **groups;
	size_t										count = 0;
	bool										is_free = false;

	rd_kafka_DescribeConsumerGroups(client, &group, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, COMMAND_BROKER_MS);
	if (event == NULL || rd_kafka_event_error(event) != 0)
	{
		char *what = xasprintf("could not describe consumer group \"%s\"",
							   group);

		command_report_broker(client, what,
							  event != NULL ? rd_kafka_event_error(event)
											: RD_KAFKA_RESP_ERR__TIMED_OUT);
		free(what);
	}
	else
	{
		groups = rd_kafka_DescribeConsumerGroups_result_groups(
			rd_kafka_event_DescribeConsumerGroups_result(event), &count);
		Assert(count == 1);
		is_free = rewind_group_is_free(groups[0], topic);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	return is_free;
}

/* ---- offsets ----------------------------------------------------------- */

/* Into the range of offsets that the partition has, its end included. */
static rd_kafka_resp_err_t
rewind_clamp(rd_kafka_t *client, rd_kafka_topic_partition_t *partition)
{
	int64_t				first;
	int64_t				end;
	rd_kafka_resp_err_t error = kafka_find_range(client, partition->topic,
												 partition->partition, &first,
												 &end, COMMAND_BROKER_MS);

	if (partition->offset < 0 || partition->offset > end)
		partition->offset = end; /* END: nothing is as late as that */
	partition->offset = Max(partition->offset, first);
	/* where the range is known, a number: the database stores no END */
	Assert(error != RD_KAFKA_RESP_ERR_NO_ERROR || partition->offset >= 0);
	return error;
}

static bool
rewind_find_targets(rd_kafka_t							 *client,
					const struct rd_kafka_metadata_topic *topic,
					const Point *to, ApiBatch *targets)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		topic->partition_cnt);
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;

	for (int i = 0; i < topic->partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, topic->topic,
										  topic->partitions[i].id)
			->offset = to->number >= 0 ? to->number : to->moment_us / 1000;
	if (to->number < 0)
		error = kafka_find_offsets(client, list, COMMAND_BROKER_MS);
	api_batch_begin(targets);
	progress_begin("partitions");
	for (int i = 0; error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
	{
		error = rewind_clamp(client, &list->elems[i]);
		progress_update(i + 1, command_share(0, i + 1, list->cnt));
		api_batch_add(targets,
					  &(ApiMessage){
						  .topic = {topic->topic, strlen(topic->topic)},
						  .partition = list->elems[i].partition,
						  .offset = list->elems[i].offset,
						  .timestamp_ms = -1,
					  });
	}
	progress_end();
	rd_kafka_topic_partition_list_destroy(list);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		command_report_broker(client, "could not find offsets", error);
	return error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* ---- the command ------------------------------------------------------- */

static bool
rewind_move(Command *command, const char *topic, ApiBatch *targets,
			const char *why)
{
	int64_t	  sum = 0;
	PGresult *moved = command_check_result(api_exec_rewind(command->pg, topic,
														   targets, why),
										   "rewind");

	if (moved == NULL)
		return false;
	for (int row = 0; row < PQntuples(moved); row++)
	{
		int64_t was = api_int(moved, row, 1);
		int64_t now = api_int(moved, row, 2);

		sum += was - now;
		safe_line(stdout, "%s/%s: %" PRId64 " -> %" PRId64 "%s", topic,
				  PQgetvalue(moved, row, 0), was, now,
				  was == now ? " (unchanged)" : "");
	}
	if (PQntuples(moved) == 0)
		puts("nothing of this topic has been consumed yet");
	else
		printf("%" PRId64 " offsets will be read again; ids that are still "
			   "remembered are duplicates\n",
			   sum);
	PQclear(moved);
	return true;
}

static bool
rewind_topic(Command *command, rd_kafka_t *client, const Arguments *arguments,
			 const Point *to)
{
	const char					   *topic = arguments->values[ARG_REWIND_TOPIC];
	const char					   *reason = arguments->values[ARG_REASON];
	const struct rd_kafka_metadata *metadata = command_get_metadata(client,
																	topic);
	const struct rd_kafka_metadata_topic *found = NULL;
	ApiBatch							  targets = {0};
	char *why = xasprintf("to %s%s%s", to->text, reason != NULL ? ": " : "",
						  reason != NULL ? reason : "");
	bool  good;

	if (metadata != NULL)
		found = command_find_topic(metadata, topic);
	if (metadata != NULL && found == NULL)
		command_report("there is no topic \"%s\"", topic);
	good = found != NULL && rewind_topic_is_free(command, client, topic) &&
		   rewind_find_targets(client, found, to, &targets) &&
		   rewind_move(command, topic, &targets, why);
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	api_batch_free(&targets);
	free(why);
	return good;
}

ExitCode
cmd_rewind(const Arguments *arguments, const Config *config)
{
	Command		command;
	Point		to = command_point(arguments->values[ARG_REWIND_TO]);
	rd_kafka_t *client;
	ExitCode	code;

	if (command_open(&command, config))
	{
		client = command_open_broker(&command);
		if (client == NULL || !rewind_topic(&command, client, arguments, &to))
			command.code = EXIT_RUNTIME;
		if (client != NULL)
			rd_kafka_destroy(client);
	}
	code = command.code;
	command_close(&command);
	return code;
}
