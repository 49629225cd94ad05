/*
 * check_published.c - the topics that are published to, dead letters included
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/check_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kafka/topics.h"

/*
 * Beside key, value and headers of an event: the relay's own headers, and the
 * frame of a batch.
 */
#define CHECK_RECORD_BYTES 4096

#define CHECK_OLD_MS (INT64_C(86400) * 1000)

#define KNOWN (HAVE_EXTENSION | HAVE_BROKER | HAVE_ANSWERS)

static bool
check_is_of_levels(const Check *check, const char *topic)
{
	return strcmp(check->config->levels_topic, topic) == 0;
}

static void
check_topic_out(Check *check, const char *name)
{
	const struct rd_kafka_metadata_topic
		*topic = command_find_entry(check->metadata, name);

	if (topic == NULL)
		check_topic_creation(check, name,
							 topics_new_topic(name,
											  check_is_of_levels(check, name)));
	else
		check_pass(check, "topic %s: %d partitions", name,
				   topic->partition_cnt);
}

static void
check_topic_creations(Check *check)
{
	for (char **topic = check->published; *topic != NULL; topic++)
		check_topic_out(check, *topic);
}

/* ---- what the topics accept -------------------------------------------- */

static void
check_topic_bytes(Check *check)
{
	int64_t needed = check->hello.max_event_bytes + CHECK_RECORD_BYTES;

	Assert(check->hello.max_event_bytes > 0 && check->published != NULL);
	for (char **topic = check->published; *topic != NULL; topic++)
	{
		int64_t max = check_setting_number(check, *topic, "max.message.bytes",
										   INT64_MAX);
		char   *setting;

		if (max >= needed)
			continue;
		setting = xasprintf("max.message.bytes=%" PRId64, needed);
		check_advise_setting(check, *topic, setting);
		check_advise(check, " (or message.max.bytes of the brokers); or ALTER "
							"SYSTEM SET pgstock.max_event_bytes to less.");
		check_find(check,
				   "topic %s: max.message.bytes=%" PRId64 ", and "
				   "pgstock.max_event_bytes is %d",
				   *topic, max, check->hello.max_event_bytes);
		free(setting);
	}
}

/* A dead letter is the message that was consumed, and says why. */
static void
check_dead_letter_bytes(Check *check)
{
	for (char **topic = check->config->topics; *topic != NULL; topic++)
	{
		char   *dlq = config_dlq_topic(check->config, *topic);
		int64_t from = check_setting_number(check, *topic, "max.message.bytes",
											0);
		int64_t to = check_setting_number(check, dlq, "max.message.bytes",
										  INT64_MAX);
		char   *setting = xasprintf("max.message.bytes=%" PRId64, from);

		if (to < from)
		{
			check_advise_setting(check, dlq, setting);
			check_find(check,
					   "topic %s: max.message.bytes=%" PRId64
					   ", less than the %" PRId64 " of %s",
					   dlq, to, from, *topic);
		}
		free(setting);
		free(dlq);
	}
}

static bool
check_refuses_old_events(const Check *check, const char *topic)
{
	return check_setting_number(check, topic, "message.timestamp.before.max.ms",
								INT64_MAX) < CHECK_OLD_MS;
}

static void
check_old_events(Check *check)
{
	check_find_topics(check, check_refuses_old_events, CHECK_PUBLISHED,
					  "message.timestamp.before.max.ms=9223372036854775807",
					  "message.timestamp.before.max.ms is less than a day");
}

/* ---- how many copies --------------------------------------------------- */

static int
check_replicas(const Check *check, const char *name)
{
	const struct rd_kafka_metadata_topic *topic = check_topic(check, name);
	int									  replicas = INT32_MAX;

	for (int i = 0; topic != NULL && i < topic->partition_cnt; i++)
		replicas = Min(replicas, topic->partitions[i].replica_cnt);
	return replicas;
}

static bool
check_has_few_replicas(const Check *check, const char *topic)
{
	return check_replicas(check, topic) <
		   Max(2, Min(3, check->metadata->broker_cnt));
}

static void
check_topic_replicas(Check *check)
{
	Buf topics = {0};

	check_list_topics(check, check->published, check_has_few_replicas, &topics);
	check_list_topics(check, check->config->topics, check_has_few_replicas,
					  &topics);
	if (topics.len > 0)
	{
		check_advise(check, "Run at least three brokers with "
							"default.replication.factor=3, and move these "
							"topics with kafka-reassign-partitions.sh.");
		check_find(check, "topic %s: fewer than %d replicas", buf_str(&topics),
				   Max(2, Min(3, check->metadata->broker_cnt)));
	}
	buf_free(&topics);
}

bool
check_min_isr_is_low(int replicas, int64_t min_isr)
{
	return replicas > 1 && min_isr < 2;
}

static bool
check_is_written_to_one(const Check *check, const char *topic)
{
	return check_min_isr_is_low(check_replicas(check, topic),
								check_setting_number(check, topic,
													 "min.insync.replicas", 2));
}

static void
check_min_isr(Check *check)
{
	check_find_topics(check, check_is_written_to_one, CHECK_PUBLISHED,
					  "min.insync.replicas=2", "min.insync.replicas=1");
}

static void
check_isr_is_possible(Check *check)
{
	for (char **topic = check->published; *topic != NULL; topic++)
	{
		int		replicas = check_replicas(check, *topic);
		int64_t needed = check_setting_number(check, *topic,
											  "min.insync.replicas", 0);

		if (needed <= replicas)
			continue;
		check_advise_setting(check, *topic, "min.insync.replicas=1");
		check_advise(check, ", or give the topic more replicas.");
		check_find(check,
				   "topic %s: min.insync.replicas=%" PRId64
				   ", and it has %d replicas",
				   *topic, needed, replicas);
	}
}

static bool
check_elects_unclean(const Check *check, const char *topic)
{
	const char *value = check_setting(check, topic,
									  "unclean.leader.election.enable");

	return value != NULL && strcmp(value, "true") == 0;
}

static void
check_unclean_election(Check *check)
{
	check_find_topics(check, check_elects_unclean, CHECK_BOTH,
					  "unclean.leader.election.enable=false",
					  "unclean.leader.election.enable=true");
}

/* ---- what the topics keep ---------------------------------------------- */

static bool
check_is_compacted(const Check *check, const char *topic)
{
	const char *value = check_setting(check, topic, "cleanup.policy");

	return value != NULL && strstr(value, "compact") != NULL &&
		   !check_is_of_levels(check, topic);
}

/* With "compact,delete" a level that does not change is deleted, too. */
static bool
check_loses_levels(const Check *check, const char *topic)
{
	const char *value = check_setting(check, topic, "cleanup.policy");

	return value != NULL && strcmp(value, "compact") != 0 &&
		   check_is_of_levels(check, topic);
}

static void
check_levels(Check *check)
{
	check_find_topics(check, check_loses_levels, CHECK_PUBLISHED,
					  "cleanup.policy=compact",
					  "the level stream goes to it, and cleanup.policy is not "
					  "compact");
}

static void
check_compaction(Check *check)
{
	check_find_topics(check, check_is_compacted, CHECK_BOTH,
					  "cleanup.policy=delete", "cleanup.policy=compact");
}

static const CheckRow rows[] = {
	{"topic_creation", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_topic_creations,
	 "Events of a topic that the broker refuses are held in the database."},
	{"topic_bytes", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_topic_bytes,
	 "A larger event is refused, and all later ones of its topic are held."},
	{"dead_letter_bytes", CHECK_WARNING, EXIT_CLEAN, KNOWN,
	 check_dead_letter_bytes,
	 "The dead letter of a larger message is refused, and its topic held."},
	{"old_events", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_old_events,
	 "After a longer outage the broker refuses events by their time, and the "
	 "topic is held."},
	{"replicas", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_topic_replicas,
	 "The loss of one broker's disk loses events that the relay has marked as "
	 "published."},
	{"min_isr", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_min_isr,
	 "An event counts as published while one broker has it, and is lost with "
	 "that broker."},
	{"isr_impossible", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_isr_is_possible,
	 "The broker refuses each record with NOT_ENOUGH_REPLICAS."},
	{"unclean_election", CHECK_WARNING, EXIT_CLEAN, KNOWN,
	 check_unclean_election,
	 "A replica that lacks the latest records may become leader, and they are "
	 "lost."},
	{"broker_clock", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_broker_clock,
	 "Retention, and the age of cancellations where messages have its time, "
	 "are counted by that clock; if it is an hour behind, Kafka 4 refuses "
	 "events as of the future."},
	{"compaction", CHECK_WARNING, EXIT_CLEAN, KNOWN, check_compaction,
	 "Kafka deletes all but the latest record of a key, so events and "
	 "messages are lost to those that have not read them."},
	{"levels_compaction", CHECK_ERROR, EXIT_RUNTIME, KNOWN, check_levels,
	 "Kafka deletes the levels of products that have not changed for the "
	 "topic's retention, so its readers lack them."},
};

const CheckGroup check_published_group = {rows, Lengthof(rows)};
