/*
 * audit_topics.c - the topics' part of "audit"
 *
 * An event of a topic that the outbox lacks is printed if its ce_sequence lies
 * where the outbox has rows; the database is queried again first, for the event
 * may have been committed during the walk.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/audit_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/progress.h"
#include "common/safe_text.h"
#include "db/api_command.h"

#define STALL_TRIES	 20 /* of STALL_MS each, without a message */
#define STALL_MS	 1000
#define PROGRESS_ROW 1000

/* Stock events have topics also where the outbox has none of them left. */
static bool
audit_add_stock_topics(AuditRun *c)
{
	PGresult *topics = command_check_result(api_exec(c->command.pg, API_TOPICS,
													 NULL),
											"topics");

	for (int row = 0; topics != NULL && row < PQntuples(topics); row++)
		audit_find_topic(c, PQgetvalue(topics, row, 0),
						 strlen(PQgetvalue(topics, row, 0)));
	PQclear(topics);
	return topics != NULL;
}

/* With the right that is missing, if it is one. */
static void
audit_report_topic(const char *topic, int32_t partition,
				   rd_kafka_resp_err_t error)
{
	bool  denied = error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
	char *where = partition < 0 ? xstrdup("")
								: xasprintf(", partition %d", partition);

	command_report("topic \"%s\"%s: %s%s", topic, where,
				   rd_kafka_err2str(error),
				   denied
					   ? ": allow the relay's principal Describe and Read on "
						 "this topic"
					   : "");
	free(where);
}

static bool
audit_add_partition(AuditRun *c, rd_kafka_t *client, const char *topic,
					int32_t id)
{
	AuditPartition		partition = {.topic = topic,
									 .id = id,
									 .first_seq = INT64_MAX};
	rd_kafka_resp_err_t error;

	error = kafka_find_range(client, topic, id, &partition.low, &partition.end,
							 COMMAND_BROKER_MS);
	if (error != 0)
	{
		audit_report_topic(topic, id, error);
		return false;
	}
	Assert(partition.low >= 0 && partition.end >= 0);
	partition.done = partition.low >= partition.end;
	c->partitions = xrealloc(c->partitions,
							 (c->partition_count + 1) * sizeof(AuditPartition));
	c->partitions[c->partition_count++] = partition;
	return true;
}

/*
 * The list of all topics leaves out those that the relay may not see; a request
 * for one topic returns that error.
 */
static bool
audit_topic_is_missing(rd_kafka_t *client, const char *name)
{
	const struct rd_kafka_metadata *metadata = command_get_metadata(client,
																	name);
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	if (metadata == NULL)
		return false;
	if (metadata->topic_cnt == 1)
		error = metadata->topics[0].err;
	rd_kafka_metadata_destroy(metadata);
	if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
		return true;
	audit_report_topic(name, -1, error);
	return false;
}

/* A topic that is not there has no partitions: all its events are missing. */
static bool
audit_add_partitions(AuditRun *c, rd_kafka_t *client)
{
	const struct rd_kafka_metadata *metadata = command_get_metadata(client,
																	NULL);
	bool							good = metadata != NULL;

	for (size_t i = 0; good && i < c->topic_count; i++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_find_topic(metadata, c->topics[i].name);

		if (topic == NULL)
			good = audit_topic_is_missing(client, c->topics[i].name);
		for (int p = 0; topic != NULL && good && p < topic->partition_cnt; p++)
			good = audit_add_partition(c, client, c->topics[i].name,
									   topic->partitions[p].id);
	}
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	return good;
}

static AuditPartition *
audit_partition_of(AuditRun *c, const rd_kafka_message_t *message)
{
	const char *name = rd_kafka_topic_name(message->rkt);

	/* messages of a partition arrive in runs */
	if (c->reading != NULL && c->reading->id == message->partition &&
		strcmp(c->reading->topic, name) == 0)
		return c->reading;
	for (size_t i = 0; i < c->partition_count; i++)
		if (c->partitions[i].id == message->partition &&
			strcmp(c->partitions[i].topic, name) == 0)
			c->reading = &c->partitions[i];
	/* only these are assigned */
	Assert(c->reading != NULL && c->reading->id == message->partition);
	Assert(strcmp(c->reading->topic, name) == 0);
	return c->reading;
}

/* ---- records ----------------------------------------------------------- */

static Slice
audit_slice(const char *text)
{
	return (Slice){text, strlen(text)};
}

/* Whether the outbox should have it and does not; -1 if the query failed. */
static int
audit_is_unknown(AuditRun *c, const AuditRecord *record, char *id)
{
	PGresult *held;
	int		  unknown;

	if (!record->has_id || record->seq < c->first_seq ||
		record->seq > c->to_seq ||
		!audit_is_ours(record, audit_slice(c->source),
					   audit_slice(c->command.hello.incarnation)))
		return 0;
	event_uuid_text(id, record->id);
	held = command_check_result(api_exec_audit_holds(c->command.pg, record->seq,
													 id),
								"outbox");
	unknown = held == NULL ? -1 : !api_bool(held, 0, 0);
	PQclear(held);
	return unknown;
}

static bool
audit_see_raw(AuditRun *c, const rd_kafka_message_t *message,
			  const rd_kafka_headers_t *headers, const AuditRecord *record)
{
	const char *topic = rd_kafka_topic_name(message->rkt);
	Slice		key = {message->key, message->key_len};
	Slice		value = {message->payload, message->len};
	size_t		len;

	buf_clear(&c->packed);
	if (headers != NULL && !headers_pack(headers, &c->packed))
		return false;
	len = c->packed.len;
	if (record->copy_of.data != NULL && len >= AUDIT_COPY_HEADER_LEN)
		audit_copy_see(&c->copies,
					   audit_raw_key(audit_slice(topic), key, value,
									 (Slice){c->packed.data,
											 len - AUDIT_COPY_HEADER_LEN}),
					   -1);
	return audit_see(&c->audit, audit_raw_key(audit_slice(topic), key, value,
											  (Slice){c->packed.data, len}));
}

static bool
audit_see_record(AuditRun *c, const rd_kafka_message_t *message,
				 AuditPartition *partition)
{
	Slice				name = {partition->topic, strlen(partition->topic)};
	AuditTopic		   *topic = audit_find_topic(c, name.data, name.len);
	rd_kafka_headers_t *headers = NULL;
	AuditRecord			record;
	char				id[EVENT_UUID_LEN + 1] = "";
	int					unknown;

	Assert(message->err == RD_KAFKA_RESP_ERR_NO_ERROR && !partition->done);
	if (rd_kafka_message_headers(message, &headers) != 0)
		headers = NULL;
	audit_read_headers(headers, &record);
	if (partition->first_seq == INT64_MAX && record.seq >= 0)
		partition->first_seq = record.seq;
	if (topic->raw && audit_see_raw(c, message, headers, &record))
		return true;
	if (record.has_id && record.copy_of.data != NULL)
		audit_copy_see(&c->copies,
					   audit_event_key(name, record.id, (Slice){NULL, 0}),
					   record.seq);
	if (record.has_id &&
		audit_see(&c->audit, audit_event_key(name, record.id, record.copy_of)))
		return true;
	unknown = audit_is_unknown(c, &record, id);
	if (unknown < 0)
		return false;
	topic->unknown += unknown;
	topic->other += !unknown;
	if (unknown)
	{
		progress_hide();
		safe_line(stdout,
				  "unknown topic=%s partition=%d offset=%" PRId64
				  " seq=%" PRId64 " event_id=%s",
				  partition->topic, partition->id, message->offset, record.seq,
				  id);
	}
	return true;
}

static bool
audit_see_message(AuditRun *c, const rd_kafka_message_t *message)
{
	AuditPartition *partition;
	bool			good = true;

	if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
	{
		audit_report_topic(message->rkt != NULL
							   ? rd_kafka_topic_name(message->rkt)
							   : "?",
						   -1, message->err);
		return false;
	}
	if (message->err == RD_KAFKA_RESP_ERR__BAD_MSG)
	{
		command_report(
			"a batch did not match its checksum, so its records are "
			"not known: %s; run it again, and if that does not help, "
			"look at the broker's disks",
			rd_kafka_message_errstr(message));
		return false;
	}
	if (message->err != 0 && message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		c->trouble = message->err;
		return true; /* the client tries again; a stall ends it */
	}
	partition = audit_partition_of(c, message);
	if (partition->done)
		return true;
	if (message->err == 0 && message->offset < partition->end)
		good = audit_see_record(c, message, partition);
	/* the last ones may be no records, but the marks of a transaction */
	if (message->offset + (message->err == 0) >= partition->end)
		partition->done = true;
	return good;
}

/* Those to read: the marks of transactions have offsets and are no records. */
static int64_t
audit_count_offsets(const AuditRun *c)
{
	int64_t total = 0;

	for (size_t i = 0; i < c->partition_count; i++)
		total += Max(c->partitions[i].end - c->partitions[i].low, 0);
	return total;
}

static bool
audit_is_complete(const AuditRun *c)
{
	for (size_t i = 0; i < c->partition_count; i++)
		if (!c->partitions[i].done)
			return false;
	return true;
}

static bool
audit_poll_messages(AuditRun *c, rd_kafka_t *client)
{
	int64_t total = audit_count_offsets(c);
	int64_t count = 0;
	int		stalled = 0;
	bool	good = true;

	progress_begin("records of the topics");
	while (good && !audit_is_complete(c))
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client, STALL_MS);

		if (message == NULL && ++stalled < STALL_TRIES)
		{
			progress_wait("the broker", stalled * STALL_MS * MS_US);
			continue;
		}
		if (message == NULL)
		{
			command_report_broker(
				client, "the broker returns no more messages, though there are",
				c->trouble != 0 ? c->trouble : RD_KAFKA_RESP_ERR__TIMED_OUT);
			return false;
		}
		if (message->err == 0)
			stalled = 0;
		good = audit_see_message(c, message);
		rd_kafka_message_destroy(message);
		if (++count % PROGRESS_ROW == 0)
			progress_update(count, command_share(0, count, total));
	}
	return good;
}

static bool
audit_read_partitions(AuditRun *c, rd_kafka_t *client)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(
		(int) c->partition_count);
	rd_kafka_resp_err_t error;
	bool				good;

	for (size_t i = 0; i < c->partition_count; i++)
		if (!c->partitions[i].done)
			rd_kafka_topic_partition_list_add(list, c->partitions[i].topic,
											  c->partitions[i].id)
				->offset = c->partitions[i].low;
	rd_kafka_poll_set_consumer(client);
	error = rd_kafka_assign(client, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (error != 0)
		command_report_broker(client, "could not read the topics", error);
	good = error == 0 && audit_poll_messages(c, client);
	rd_kafka_assign(client, NULL);
	return good;
}

bool
audit_read_topics(AuditRun *c, rd_kafka_t *client)
{
	return audit_add_stock_topics(c) && audit_add_partitions(c, client) &&
		   audit_read_partitions(c, client);
}
