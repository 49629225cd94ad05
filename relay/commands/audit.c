/*
 * audit.c - compares the outbox and its topics, names what does not agree
 *
 * The outbox is walked first, then the topics are read up to where they end at
 * that moment: what was acknowledged by then is there.  What was pending may be
 * there or not.  Only if something does not agree is the outbox walked again,
 * to name it.  Memory: audit_compare.h, and a page.
 *
 * An event of the topics that the outbox does not have is named if its
 * ce_sequence lies where the outbox has rows; the database is asked again, for
 * it may have been committed during the walk.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/audit_compare.h"
#include "commands/command.h"
#include "common/safe_text.h"
#include "db/api_command.h"

#define PAGE_ROWS	 10000
#define STALL_TRIES	 20 /* of STALL_MS each, without a message */
#define STALL_MS	 1000
#define PROGRESS_ROW 100000

typedef struct Topic
{
	char   *name; /* owned */
	bool	raw;  /* has raw events */
	int64_t events;
	int64_t copies;
	int64_t pending;
	int64_t missing;
	int64_t doubled;
	int64_t removed; /* by retention, as it seems */
	int64_t unknown; /* in the topic, not in the outbox */
	int64_t other;	 /* records that are not of this comparison */
	int64_t mended;	 /* lost, and there as a copy */
} Topic;

typedef struct Comparison
{
	Command				command;
	const char		   *from_time; /* NULL: does not matter */
	int64_t				after_seq;
	int64_t				to_seq;
	int64_t				first_seq; /* from here on the outbox is complete */
	Audit				audit;
	AuditCopies			copies;
	Topic			   *topics;
	size_t				topic_count;
	AuditPartition	   *partitions;
	size_t				partition_count;
	AuditPartition	   *reading; /* the partition of the last message */
	rd_kafka_resp_err_t trouble; /* of the broker, the last one */
	Buf					packed;	 /* headers of the last raw one */
	char				source[160];
} Comparison;

static Topic *
find_topic(Comparison *c, const char *name, size_t len)
{
	for (size_t i = 0; i < c->topic_count; i++)
		if (strlen(c->topics[i].name) == len &&
			memcmp(c->topics[i].name, name, len) == 0)
			return &c->topics[i];
	c->topics = xrealloc(c->topics, (c->topic_count + 1) * sizeof(Topic));
	c->topics[c->topic_count] = (Topic){
		.name = xasprintf("%.*s", (int) len, name),
	};
	return &c->topics[c->topic_count++];
}

/* ---- the outbox -------------------------------------------------------- */

static uint64_t
row_key(const ApiAuditRow *row)
{
	if (row->format == 'r')
		return audit_raw_key(row->topic, row->key, row->payload, row->headers);
	return audit_event_key(row->topic, row->id.data, row->copy_of);
}

/* What a raw copy has behind the first one's headers: see relay_replay(). */
#define COPY_HEADER_LEN (2 + 9 + 4 + EVENT_SEQ_LEN)

/* The key of the event that it is a copy of, or of itself. */
static uint64_t
first_key(const ApiAuditRow *row)
{
	Slice headers = row->headers;

	if (row->format != 'r')
		return audit_event_key(row->topic, row->id.data, (Slice){NULL, 0});
	if (row->copy && headers.len >= COPY_HEADER_LEN)
		headers.len -= COPY_HEADER_LEN;
	return audit_raw_key(row->topic, row->key, row->payload, headers);
}

static void
expect_row(Comparison *c, const ApiAuditRow *row)
{
	Topic *topic = find_topic(c, row->topic.data, row->topic.len);

	c->first_seq = Min(c->first_seq, row->seq);
	if (row->copy)
	{
		topic->copies++;
		audit_copy_expect(&c->copies, first_key(row));
	}
	else
		topic->events++;
	topic->pending += row->pending;
	topic->raw = topic->raw || row->format == 'r';
	audit_expect(&c->audit, row_key(row), row->pending);
}

static void
name_row(const char *what, const ApiAuditRow *row, uint32_t times)
{
	char id[EVENT_UUID_LEN + 1] = "";
	char created[EVENT_TIME_LEN + 1] = "";
	Buf	 line = {0};

	event_uuid_text(id, row->id.data);
	event_time_text(created, row->created_us);
	buf_printf(&line,
			   "%s topic=%.*s seq=%" PRId64 " event_id=%s type=%.*s "
			   "created=%s",
			   what, (int) row->topic.len, row->topic.data, row->seq, id,
			   (int) row->type.len, row->type.data, created);
	if (row->copy)
		buf_printf(&line, " replay_of=%.*s", (int) row->copy_of.len,
				   row->copy_of.data);
	if (times > 1)
		buf_printf(&line, " times=%u", times);
	safe_line(stdout, "%s", buf_str(&line));
	buf_free(&line);
}

static void
judge_row(Comparison *c, const ApiAuditRow *row)
{
	Topic		*topic = find_topic(c, row->topic.data, row->topic.len);
	AuditVerdict verdict = audit_judge(&c->audit, row_key(row));

	if (verdict.missing > 0 &&
		audit_may_be_removed(c->partitions, c->partition_count, row->topic,
							 row->seq))
		topic->removed += verdict.missing;
	else if (verdict.missing > 0 && audit_has_copy(&c->copies, first_key(row),
												   row->copy ? row->seq : -1))
		topic->mended += verdict.missing;
	else if (verdict.missing > 0)
	{
		topic->missing += verdict.missing;
		name_row("missing", row, verdict.missing);
	}
	if (verdict.doubled > 0)
	{
		topic->doubled += verdict.doubled;
		name_row("doubled", row, verdict.doubled + 1);
	}
}

static bool
walk_outbox(Comparison *c, void (*take)(Comparison *, const ApiAuditRow *))
{
	int64_t after = c->after_seq;
	int64_t count = 0;
	int		rows;

	do
	{
		PGresult *page = command_checked(api_exec_audit_page(c->command.pg,
															 c->from_time,
															 after, c->to_seq,
															 PAGE_ROWS),
										 "outbox");

		if (page == NULL)
			return false;
		rows = PQntuples(page);
		for (int i = 0; i < rows; i++)
		{
			ApiAuditRow row;

			api_audit_row(page, i, &row);
			after = row.seq;
			take(c, &row);
		}
		PQclear(page);
		count += rows;
		command_progress("events of the outbox", count);
	} while (rows > 0);
	return true;
}

static bool
begin_outbox(Comparison *c, const Point *from)
{
	PGresult *position = command_checked(api_exec(c->command.pg, API_POSITION,
												  NULL),
										 "position");
	PGresult *range = NULL;
	bool	  good = false;

	if (position != NULL)
		range = command_checked(api_exec(c->command.pg, API_OUTBOX_RANGE, NULL),
								"outbox");
	if (range != NULL)
	{
		int64_t first = api_text(range, 0, 0) != NULL
							? api_int(range, 0, 0)
							: api_int(range, 0, 1) + 1;

		c->after_seq = Max(first, from->number) - 1;
		c->to_seq = api_int(range, 0, 1);
		c->from_time = from->moment_us >= 0 ? from->text : NULL;
		/* by time it is the first row that was written then */
		c->first_seq = c->from_time == NULL ? c->after_seq + 1 : INT64_MAX;
		good = walk_outbox(c, expect_row);
	}
	audit_sort(&c->audit);
	audit_copies_sort(&c->copies);
	PQclear(range);
	PQclear(position);
	return good;
}

/* ---- the topics -------------------------------------------------------- */

/* Stock events have topics also where the outbox has none of them left. */
static bool
add_stock_topics(Comparison *c)
{
	PGresult *topics = command_checked(api_exec(c->command.pg, API_TOPICS,
												NULL),
									   "topics");

	for (int row = 0; topics != NULL && row < PQntuples(topics); row++)
		find_topic(c, PQgetvalue(topics, row, 0),
				   strlen(PQgetvalue(topics, row, 0)));
	PQclear(topics);
	return topics != NULL;
}

/* With the right that is missing, if it is one. */
static void
say_topic_error(const char *topic, int32_t partition, rd_kafka_resp_err_t error)
{
	bool  denied = error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
	char *where = partition < 0 ? xstrdup("")
								: xasprintf(", partition %d", partition);

	command_say("topic \"%s\"%s: %s%s", topic, where, rd_kafka_err2str(error),
				denied ? ": allow the relay's principal Describe and Read on "
						 "this topic"
					   : "");
	free(where);
}

static bool
add_partition(Comparison *c, rd_kafka_t *client, const char *topic, int32_t id)
{
	AuditPartition		partition = {.topic = topic,
									 .id = id,
									 .first_seq = INT64_MAX};
	rd_kafka_resp_err_t error;

	error = kafka_find_range(client, topic, id, &partition.low, &partition.end,
							 COMMAND_BROKER_MS);
	if (error != 0)
	{
		say_topic_error(topic, id, error);
		return false;
	}
	partition.done = partition.low >= partition.end;
	c->partitions = xrealloc(c->partitions,
							 (c->partition_count + 1) * sizeof(AuditPartition));
	c->partitions[c->partition_count++] = partition;
	return true;
}

/* The list of all topics leaves out those that the relay may not see; asked by
 * its name, the broker says so. */
static bool
is_absent(rd_kafka_t *client, const char *name)
{
	const struct rd_kafka_metadata *metadata = command_metadata(client, name);
	rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	if (metadata == NULL)
		return false;
	if (metadata->topic_cnt == 1)
		error = metadata->topics[0].err;
	rd_kafka_metadata_destroy(metadata);
	if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
		error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
		return true;
	say_topic_error(name, -1, error);
	return false;
}

/* A topic that is not there has no partitions: all its events are missing. */
static bool
add_partitions(Comparison *c, rd_kafka_t *client)
{
	const struct rd_kafka_metadata *metadata = command_metadata(client, NULL);
	bool							good = metadata != NULL;

	for (size_t i = 0; good && i < c->topic_count; i++)
	{
		const struct rd_kafka_metadata_topic
			*topic = command_topic(metadata, c->topics[i].name);

		if (topic == NULL)
			good = is_absent(client, c->topics[i].name);
		for (int p = 0; topic != NULL && good && p < topic->partition_cnt; p++)
			good = add_partition(c, client, c->topics[i].name,
								 topic->partitions[p].id);
	}
	if (metadata != NULL)
		rd_kafka_metadata_destroy(metadata);
	return good;
}

static AuditPartition *
partition_of(Comparison *c, const rd_kafka_message_t *message)
{
	const char *name = rd_kafka_topic_name(message->rkt);

	/* they come in runs */
	if (c->reading != NULL && c->reading->id == message->partition &&
		strcmp(c->reading->topic, name) == 0)
		return c->reading;
	for (size_t i = 0; i < c->partition_count; i++)
		if (c->partitions[i].id == message->partition &&
			strcmp(c->partitions[i].topic, name) == 0)
			c->reading = &c->partitions[i];
	Assert(c->reading != NULL);
	return c->reading;
}

/* ---- records ----------------------------------------------------------- */

static Slice
slice_of(const char *text)
{
	return (Slice){text, strlen(text)};
}

/* Whether the outbox should have it and does not; -1 if nobody can tell. */
static int
is_unknown(Comparison *c, const AuditRecord *record, char *id)
{
	PGresult *held;
	int		  unknown;

	if (!record->has_id || record->seq < c->first_seq ||
		record->seq > c->to_seq ||
		!audit_is_ours(record, slice_of(c->source),
					   slice_of(c->command.hello.incarnation)))
		return 0;
	event_uuid_text(id, record->id);
	held = command_checked(api_exec_audit_holds(c->command.pg, record->seq, id),
						   "outbox");
	unknown = held == NULL ? -1 : !api_bool(held, 0, 0);
	PQclear(held);
	return unknown;
}

static bool
see_raw(Comparison *c, const rd_kafka_message_t *message,
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
	if (record->copy_of.data != NULL && len >= COPY_HEADER_LEN)
		audit_copy_see(&c->copies,
					   audit_raw_key(slice_of(topic), key, value,
									 (Slice){c->packed.data,
											 len - COPY_HEADER_LEN}),
					   -1);
	return audit_see(&c->audit, audit_raw_key(slice_of(topic), key, value,
											  (Slice){c->packed.data, len}));
}

static bool
see_record(Comparison *c, const rd_kafka_message_t *message,
		   AuditPartition *partition)
{
	Slice				name = {partition->topic, strlen(partition->topic)};
	Topic			   *topic = find_topic(c, name.data, name.len);
	rd_kafka_headers_t *headers = NULL;
	AuditRecord			record;
	char				id[EVENT_UUID_LEN + 1] = "";
	int					unknown;

	if (rd_kafka_message_headers(message, &headers) != 0)
		headers = NULL;
	audit_read_headers(headers, &record);
	if (partition->first_seq == INT64_MAX && record.seq >= 0)
		partition->first_seq = record.seq;
	if (topic->raw && see_raw(c, message, headers, &record))
		return true;
	if (record.has_id && record.copy_of.data != NULL)
		audit_copy_see(&c->copies,
					   audit_event_key(name, record.id, (Slice){NULL, 0}),
					   record.seq);
	if (record.has_id &&
		audit_see(&c->audit, audit_event_key(name, record.id, record.copy_of)))
		return true;
	unknown = is_unknown(c, &record, id);
	if (unknown < 0)
		return false;
	topic->unknown += unknown;
	topic->other += !unknown;
	if (unknown)
		safe_line(stdout,
				  "unknown topic=%s partition=%d offset=%" PRId64
				  " seq=%" PRId64 " event_id=%s",
				  partition->topic, partition->id, message->offset, record.seq,
				  id);
	return true;
}

static bool
see_message(Comparison *c, const rd_kafka_message_t *message)
{
	AuditPartition *partition;
	bool			good = true;

	if (message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
	{
		say_topic_error(message->rkt != NULL ? rd_kafka_topic_name(message->rkt)
											 : "?",
						-1, message->err);
		return false;
	}
	if (message->err == RD_KAFKA_RESP_ERR__BAD_MSG)
	{
		command_say("a batch did not match its checksum, so its records are "
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
	partition = partition_of(c, message);
	if (partition->done)
		return true;
	if (message->err == 0 && message->offset < partition->end)
		good = see_record(c, message, partition);
	/* the last ones may be no records, but the marks of a transaction */
	if (message->offset + (message->err == 0) >= partition->end)
		partition->done = true;
	return good;
}

static bool
all_done(const Comparison *c)
{
	for (size_t i = 0; i < c->partition_count; i++)
		if (!c->partitions[i].done)
			return false;
	return true;
}

static bool
poll_messages(Comparison *c, rd_kafka_t *client)
{
	int64_t count = 0;
	int		stalled = 0;
	bool	good = true;

	while (good && !all_done(c))
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(client, STALL_MS);

		if (message == NULL && ++stalled < STALL_TRIES)
			continue;
		if (message == NULL)
		{
			command_say("the broker gives no more messages, though there "
						"are%s%s",
						c->trouble != 0 ? ": " : "",
						c->trouble != 0 ? rd_kafka_err2str(c->trouble) : "");
			return false;
		}
		if (message->err == 0)
			stalled = 0;
		good = see_message(c, message);
		rd_kafka_message_destroy(message);
		if (++count % PROGRESS_ROW == 0)
			command_progress("records of the topics", count);
	}
	return good;
}

static bool
read_topics(Comparison *c, rd_kafka_t *client)
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
		command_say("could not read the topics: %s", rd_kafka_err2str(error));
	good = error == 0 && poll_messages(c, client);
	rd_kafka_assign(client, NULL);
	return good;
}

/* ---- the command ------------------------------------------------------- */

static ExitCode
report(const Comparison *c)
{
	bool clean = true;

	for (size_t i = 0; i < c->topic_count; i++)
	{
		const Topic *topic = &c->topics[i];
		char		 mended[64] = "";

		if (topic->mended > 0)
			snprintf(mended, sizeof(mended),
					 "; %" PRId64 " there as a copy alone", topic->mended);
		safe_line(stdout,
				  "topic %s: %" PRId64 " events, %" PRId64 " replayed copies, "
				  "%" PRId64 " pending, %" PRId64 " removed by retention, "
				  "%" PRId64 " other records; %" PRId64 " missing, %" PRId64
				  " doubled, %" PRId64 " unknown%s",
				  topic->name, topic->events, topic->copies, topic->pending,
				  topic->removed, topic->other, topic->missing, topic->doubled,
				  topic->unknown, mended);
		clean = clean && topic->missing == 0 && topic->doubled == 0 &&
				topic->unknown == 0;
	}
	puts(clean ? "audit: clean" : "audit: outbox and topics do not agree");
	return clean ? EXIT_CLEAN : EXIT_RUNTIME;
}

static ExitCode
compare(Comparison *c, const Point *from)
{
	rd_kafka_t *client = command_broker(&c->command);
	bool		good;

	snprintf(c->source, sizeof(c->source), "/pgstock/%s",
			 c->command.hello.database);
	good = client != NULL && begin_outbox(c, from) && add_stock_topics(c) &&
		   add_partitions(c, client) && read_topics(c, client);
	if (client != NULL)
		rd_kafka_destroy(client);
	if (good && audit_has_faults(&c->audit))
		good = walk_outbox(c, judge_row);
	command_progress_end();
	return good ? report(c) : EXIT_RUNTIME;
}

ExitCode
cmd_audit(const Arguments *arguments, const Config *config)
{
	const char *text = arguments->values[ARG_FROM];
	Point		from = {.number = -1, .moment_us = -1};
	Comparison	c = {0};
	ExitCode	code;

	if (text != NULL && !command_point("from", text, "a seq", &from))
		return command_misused(arguments);
	if (command_open(&c.command, config))
		c.command.code = compare(&c, &from);
	code = c.command.code;
	command_close(&c.command);
	audit_free(&c.audit);
	audit_copies_free(&c.copies);
	for (size_t i = 0; i < c.topic_count; i++)
		free(c.topics[i].name);
	free(c.topics);
	free(c.partitions);
	buf_free(&c.packed);
	return code;
}
