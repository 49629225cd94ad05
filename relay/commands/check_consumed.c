/*
 * check_consumed.c - the topics of [inbox], and the consumer group
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"
#include "common/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_GROUP_MS	3000
#define CHECK_FUTURE_MS 10000

#define KNOWN (HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS)

/* ---- the group --------------------------------------------------------- */

static const char *
check_group_name(const Check *check)
{
	return check->config->group[0] != '\0' ? check->config->group
										   : check->hello.inbox_group;
}

/*
 * What Kafka has is read before what the database has: a relay that runs
 * commits to the database first.
 */
static void
check_group(Check *check)
{
	const char		   *group = check_group_name(check);
	rd_kafka_resp_err_t error;

	if (check->config->topics[0] == NULL)
	{
		check_pass(check, "inbox: no topics to consume");
		return;
	}
	error = kafka_describe_group(check->client, group, "pgstock-relay-",
								 CHECK_GROUP_MS, &check->group);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		check->committed = kafka_describe_offsets(check->client, group,
												  CHECK_GROUP_MS);
	if (error == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
	{
		check_advise(check, "Allow the relay's principal Read on this group.");
		check_find(check, "inbox: consumer group %s: %s", group,
				   rd_kafka_err2str(error));
	}
	else
		check_pass(check, "inbox: consumer group %s", group);
	check->offsets = api_exec_offsets(check->pg, check->config->topics);
}

static void
check_group_members(Check *check)
{
	if (check->group.strangers == 0)
		return;
	check_advise(check, "Give that application another group.id, or set "
						"[inbox] group to a name that no other client has.");
	check_find(check,
			   "group %s: %zu of its %zu members are not relays, such as "
			   "client.id \"%s\"",
			   check_group_name(check), check->group.strangers,
			   check->group.members, check->group.stranger);
}

/* -1: the database does not know the topic. */
static int64_t
check_stored_offset(const PGresult *offsets, const char *topic, int partition)
{
	int64_t offset = -1;

	for (int row = 0; row < PQntuples(offsets); row++)
	{
		if (strcmp(PQgetvalue(offsets, row, 0), topic) != 0)
			continue;
		if (!PQgetisnull(offsets, row, 1) &&
			api_int(offsets, row, 1) == partition)
			return api_int(offsets, row, 2);
		offset = 0;
	}
	return offset;
}

static bool
check_is_consumed(const Config *config, const char *topic)
{
	for (char **own = config->topics; *own != NULL; own++)
		if (strcmp(*own, topic) == 0)
			return true;
	return false;
}

/* One of them suffices to see it. */
static void
check_group_offsets(Check *check)
{
	for (int i = 0; check->committed != NULL && i < check->committed->cnt; i++)
	{
		const rd_kafka_topic_partition_t *c = &check->committed->elems[i];
		int64_t stored = check_stored_offset(check->offsets, c->topic,
											 c->partition);

		if (c->offset <= stored || !check_is_consumed(check->config, c->topic))
			continue;
		check_advise(check, "If another database or application uses the "
							"group, set [inbox] group to a name of its own; "
							"where this database begins is set by [inbox] "
							"first_offset and \"pgstock-relay rewind\".");
		check_find(check,
				   "group %s: offset %" PRId64 " is committed in partition "
				   "%" PRId32 " of %s, and this database %s offset %" PRId64,
				   check_group_name(check), c->offset, c->partition, c->topic,
				   stored < 0 ? "has not read that topic, not even"
							  : "has read up to",
				   Max(stored, 0));
		return;
	}
}

static void
check_partitions(Check *check)
{
	int partitions = 0;

	for (char **name = check->config->topics; *name != NULL; name++)
	{
		const struct rd_kafka_metadata_topic *topic = check_topic(check, *name);

		if (topic != NULL)
			partitions = Max(partitions, topic->partition_cnt);
	}
	if (partitions == 0 || check->group.members <= (size_t) partitions)
		return;
	check_advise(check,
				 "kafka-topics.sh --bootstrap-server %s --alter --topic TOPIC "
				 "--partitions %zu; records of a key change their partition "
				 "then.",
				 check_servers(check), check->group.members);
	check_find(check, "group %s: %zu relays, and at most %d partitions a topic",
			   check_group_name(check), check->group.members, partitions);
}

/* ---- what a start would consume ---------------------------------------- */

typedef struct Consumed
{
	int64_t count;	   /* messages that a start would consume */
	int64_t missing;   /* offsets that were deleted before they were read */
	int		recreated; /* partitions that end before where they were read to */
	bool	known;	   /* the database knows the topic */
} Consumed;

/* Adds the messages of a partition that a start would consume. */
static rd_kafka_resp_err_t
check_add_consumed(Check *check, const char *topic, int partition,
				   Consumed *consumed)
{
	int64_t from = check_stored_offset(check->offsets, topic, partition);
	int64_t first;
	int64_t end;
	rd_kafka_resp_err_t error = check_find_range(check, topic, partition,
												 &first, &end);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return error;
	consumed->known |= from >= 0;
	if (from > end)
	{
		consumed->recreated++;
		from = first;
	}
	else if (from >= 0)
		consumed->missing += Max(first - from, 0);
	else if (check->config->first_offset == FIRST_OFFSET_LATEST)
		from = end;
	consumed->count += Max(end - Max(from, first), 0);
	return error;
}

static void
check_report_consumed(Check *check, const char *topic, int partitions,
					  const Consumed *consumed)
{
	Assert(consumed->count >= 0 && consumed->missing >= 0);
	Assert(consumed->known ||
		   (consumed->missing == 0 && consumed->recreated == 0));
	check_pass(check,
			   "topic %s: %d partitions, a start would consume %" PRId64
			   " messages%s",
			   topic, partitions, consumed->count,
			   consumed->known ? ""
			   : check->config->first_offset >= 0
				   ? " or fewer, by first_offset"
				   : "; the database knows none of them yet");
	if (consumed->recreated > 0)
		check_pass(check,
				   "topic %s: %d partitions end before the place up to which "
				   "they were read: recreated, or without their end; a start "
				   "reads all that they have",
				   topic, consumed->recreated);
	if (consumed->missing > 0)
		check_pass(check,
				   "topic %s: %" PRId64 " messages were deleted before they "
				   "were read, by retention or by hand; a start reads on "
				   "behind them",
				   topic, consumed->missing);
}

static void
check_topic_in(Check *check, const struct rd_kafka_metadata_topic *topic)
{
	Consumed			consumed = {0};
	rd_kafka_resp_err_t error = topic->err;
	int					i;

	for (i = 0; error == 0 && i < topic->partition_cnt; i++)
		error = check_add_consumed(check, topic->topic, topic->partitions[i].id,
								   &consumed);
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		check_report_consumed(check, topic->topic, topic->partition_cnt,
							  &consumed);
		return;
	}
	check_advise(check, "Allow the relay's principal Read on this topic, or "
						"see the broker's log.");
	if (i == 0)
		check_find(check, "topic %s: %s", topic->topic,
				   rd_kafka_err2str(error));
	else
		check_find(check, "topic %s: partition %d gave no offsets: %s",
				   topic->topic, topic->partitions[i - 1].id,
				   rd_kafka_err2str(error));
}

static void
check_missing_topic_in(Check *check, const char *name)
{
	rd_kafka_resp_err_t error = check_topic_error(check, name);

	if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
	{
		check_advise(check, "Allow the relay's principal Read on this topic.");
		check_find(check, "topic %s: %s", name, rd_kafka_err2str(error));
		return;
	}
	check_advise(check,
				 "Correct [inbox] topics, or create it: kafka-topics.sh "
				 "--bootstrap-server %s --create --topic %s --partitions 3",
				 check_servers(check), name);
	check_find(check, "topic %s: missing", name);
}

static void
check_topics_in(Check *check)
{
	for (char **name = check->config->topics; *name != NULL; name++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_find_entry(check->metadata, *name);

		if (topic != NULL)
			check_topic_in(check, topic);
		else
			check_missing_topic_in(check, *name);
	}
}

/* ---- settings ---------------------------------------------------------- */

static void
check_retention(Check *check)
{
	int64_t remembered_ms = check->config->dedup_retention_us / MS_US;

	for (char **topic = check->config->topics; *topic != NULL; topic++)
	{
		int64_t kept_ms = check_setting_number(check, *topic, "retention.ms",
											   0);
		char   *setting;

		if (kept_ms >= 0 && kept_ms <= remembered_ms)
			continue;
		setting = xasprintf("retention.ms=%" PRId64, remembered_ms);
		if (kept_ms > 0)
			check_advise(check,
						 "Set [inbox] dedup_retention = %" PRId64 "h, or: ",
						 (kept_ms + 3599999) / 3600000);
		check_advise_setting(check, *topic, setting);
		check_find(check,
				   "topic %s: retention.ms=%" PRId64 "%s, longer than [inbox] "
				   "dedup_retention, %" PRId64 " ms",
				   *topic, kept_ms, kept_ms < 0 ? " (for ever)" : "",
				   remembered_ms);
		free(setting);
	}
}

static void
check_timestamps(Check *check)
{
	check_find_topics(check, check_has_broker_times, CHECK_CONSUMED,
					  "message.timestamp.type=CreateTime",
					  "message.timestamp.type=LogAppendTime");
}

/* ---- times ------------------------------------------------------------- */

static void
check_add_times(const Check *check, char *const *topics, int64_t time_ms,
				rd_kafka_topic_partition_list_t *to)
{
	for (; *topics != NULL; topics++)
	{
		const struct rd_kafka_metadata_topic *t = check_topic(check, *topics);

		for (int i = 0; t != NULL && i < t->partition_cnt; i++)
			rd_kafka_topic_partition_list_add(to, *topics, t->partitions[i].id)
				->offset = time_ms;
	}
}

/*
 * Kafka has no request for a broker's time; but records have the time of their
 * producer or of the broker, and none of the future should be found.
 */
static void
check_message_times(Check *check)
{
	int64_t time_ms = clock_wall() / MS_US + CHECK_FUTURE_MS;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		1);
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;

	check_add_times(check, check->published, time_ms, list);
	check_add_times(check, check->config->topics, time_ms, list);
	if (list->cnt > 0)
		error = kafka_find_offsets(check->client, list, COMMAND_BROKER_MS);
	for (int i = 0; error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
	{
		const rd_kafka_topic_partition_t *p = &list->elems[i];

		if (p->offset < 0)
			continue;
		check_advise(check,
					 "Synchronize the clocks of this host, of the database "
					 "server and of %s (NTP, chronyc tracking).",
					 check_has_broker_times(check, p->topic)
						 ? "the brokers, whose time it is"
						 : "that record's producer");
		check_find(check,
				   "topic %s: offset %" PRId64 " of partition %" PRId32 " is "
				   "more than %d s ahead of this host's clock",
				   p->topic, p->offset, p->partition, CHECK_FUTURE_MS / 1000);
		break;
	}
	rd_kafka_topic_partition_list_destroy(list);
}

/* ---- what becomes of the messages -------------------------------------- */

static void
check_loop(Check *check)
{
	for (char **topic = check->published; *topic != NULL; topic++)
	{
		if (!check_is_consumed(check->config, *topic))
			continue;
		check_advise(check, "Remove %s from [inbox] topics.", *topic);
		check_find(check, "topic %s: it is consumed, and published to", *topic);
	}
}

static void
check_handlers(Check *check)
{
	const char *topics = check_fact(check, "no_handler");
	const char *bindings = check_fact(check, "bindings");

	if (topics == NULL && bindings != NULL)
		check_pass(check, "%s", bindings);
	if (topics == NULL)
		return;
	check_advise(check,
				 "Correct [inbox] topics, or SELECT "
				 "%s.bind_topic('TOPIC', 'HANDLER'); for a function of your "
				 "own register_handler does the same.",
				 check->server.schema);
	check_find(check, "topic %s: no handler in database %s", topics,
			   PQdb(check->pg));
}

static void
check_bindings(Check *check)
{
	const char *topics = check_fact(check, "unconsumed");

	if (topics == NULL)
		return;
	check_advise(check,
				 "Add them to [inbox] topics, or SELECT "
				 "%s.unbind_topic('TOPIC').",
				 check->server.schema);
	check_find(check,
			   "topic %s: it is bound in database %s and not in "
			   "[inbox] topics",
			   topics, PQdb(check->pg));
}

static const CheckRow rows[] = {
	{"group", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_group,
	 "The relay joins the group to be assigned partitions."},
	{"topic_missing", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_topics_in,
	 "The relay never creates a topic to consume, because a misspelled name "
	 "would create an empty one."},
	{"group_members", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_group_members,
	 "Partitions that they are assigned are not consumed for this database."},
	{"group_offsets", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_group_offsets,
	 "The relay continues at the database's offsets and ignores those of the "
	 "group, which another database or an earlier use has moved."},
	{"partitions", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_partitions,
	 "A partition is consumed by one relay, so the others stand by."},
	{"retention", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_retention,
	 "A message that is read again after its id was forgotten is applied "
	 "again."},
	{"timestamps", CHECK_NOTE, EXIT_CLEAN, KNOWN, check_timestamps,
	 "A message without a time of its own counts as made when it reached the "
	 "broker, so a late cancellation is not seen to be stale."},
	{"message_times", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_message_times,
	 "Retention and the age of cancellations are counted by these times."},
	{"loop", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_loop,
	 "The relay reads back what it has published itself."},
	{"handlers", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_handlers,
	 "Messages of a topic without a handler are skipped for good."},
	{"bindings", CHECK_NOTE, EXIT_CLEAN, KNOWN, check_bindings,
	 "Nothing is consumed from a topic that [inbox] topics does not name."},
};

const CheckGroup check_consumed_group = {rows, Lengthof(rows)};
