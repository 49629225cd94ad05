/*
 * audit_outbox.c - the outbox's part of "audit"
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

#define PAGE_ROWS 10000

AuditTopic *
audit_find_topic(AuditRun *c, const char *name, size_t len)
{
	for (size_t i = 0; i < c->topic_count; i++)
		if (strlen(c->topics[i].name) == len &&
			memcmp(c->topics[i].name, name, len) == 0)
			return &c->topics[i];
	c->topics = xrealloc(c->topics, (c->topic_count + 1) * sizeof(AuditTopic));
	c->topics[c->topic_count] = (AuditTopic){
		.name = xasprintf("%.*s", (int) len, name),
	};
	return &c->topics[c->topic_count++];
}

/* ---- the outbox -------------------------------------------------------- */

static uint64_t
audit_row_key(const ApiAuditRow *row)
{
	if (row->format == 'r')
		return audit_raw_key(row->topic, row->key, row->payload, row->headers);
	return audit_event_key(row->topic, row->id.data, row->copy_of);
}

/* The key of the event that it is a copy of, or of itself. */
static uint64_t
audit_first_key(const ApiAuditRow *row)
{
	Slice headers = row->headers;

	if (row->format != 'r')
		return audit_event_key(row->topic, row->id.data, (Slice){NULL, 0});
	if (row->copy && headers.len >= AUDIT_COPY_HEADER_LEN)
		headers.len -= AUDIT_COPY_HEADER_LEN;
	return audit_raw_key(row->topic, row->key, row->payload, headers);
}

static void
audit_expect_row(AuditRun *c, const ApiAuditRow *row)
{
	AuditTopic *topic = audit_find_topic(c, row->topic.data, row->topic.len);

	c->first_seq = Min(c->first_seq, row->seq);
	if (row->copy)
	{
		topic->copies++;
		audit_copy_expect(&c->copies, audit_first_key(row));
	}
	else
		topic->events++;
	topic->pending += row->pending;
	Assert(topic->pending <= topic->events + topic->copies);
	topic->raw = topic->raw || row->format == 'r';
	audit_expect(&c->audit, audit_row_key(row), row->pending);
}

static void
audit_print_row(const char *what, const ApiAuditRow *row, uint32_t times)
{
	char id[EVENT_UUID_LEN + 1] = "";
	char created[EVENT_TIME_LEN + 1] = "";
	Buf	 line = {0};

	Assert(times > 0);
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
	progress_hide();
	safe_line(stdout, "%s", buf_str(&line));
	buf_free(&line);
}

static void
audit_judge_row(AuditRun *c, const ApiAuditRow *row)
{
	AuditTopic	*topic = audit_find_topic(c, row->topic.data, row->topic.len);
	AuditVerdict verdict = audit_judge(&c->audit, audit_row_key(row));

	Assert(verdict.missing == 0 || verdict.doubled == 0);
	if (verdict.missing > 0 &&
		audit_may_be_removed(c->partitions, c->partition_count, row->topic,
							 row->seq))
		topic->removed += verdict.missing;
	else if (verdict.missing > 0 &&
			 audit_has_copy(&c->copies, audit_first_key(row),
							row->copy ? row->seq : -1))
		topic->repaired += verdict.missing;
	else if (verdict.missing > 0)
	{
		topic->missing += verdict.missing;
		audit_print_row("missing", row, verdict.missing);
	}
	if (verdict.doubled > 0)
	{
		topic->doubled += verdict.doubled;
		audit_print_row("doubled", row, verdict.doubled + 1);
	}
}

static bool
audit_walk_outbox(AuditRun *c, const char *what,
				  void (*take)(AuditRun *, const ApiAuditRow *))
{
	int64_t after = c->after_seq;
	int64_t begin = c->from_time == NULL ? after : -1;
	int64_t count = 0;
	int		rows;

	progress_begin(what);
	do
	{
		PGresult *page = command_check_result(api_exec_audit_page(c->command.pg,
																  c->from_time,
																  after,
																  c->to_seq,
																  PAGE_ROWS),
											  "outbox");

		if (page == NULL)
			return false;
		rows = PQntuples(page);
		for (int i = 0; i < rows; i++)
		{
			ApiAuditRow row;

			api_audit_row(page, i, &row);
			Assert(row.seq > after && row.seq <= c->to_seq);
			after = row.seq;
			take(c, &row);
		}
		PQclear(page);
		count += rows;
		/* the first page of a time shows where its events begin */
		if (begin < 0 || (c->from_time != NULL && count == rows))
			begin = c->first_seq - 1;
		progress_update(count, command_share(begin, after, c->to_seq));
	} while (rows > 0);
	return true;
}

bool
audit_expect_outbox(AuditRun *c, const Point *from)
{
	PGresult *position = command_check_result(api_exec(c->command.pg,
													   API_POSITION, NULL),
											  "position");
	PGresult *range = NULL;
	bool	  good = false;

	if (position != NULL)
		range = command_check_result(api_exec(c->command.pg, API_OUTBOX_RANGE,
											  NULL),
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
		good = audit_walk_outbox(c, "events of the outbox", audit_expect_row);
	}
	audit_sort(&c->audit);
	audit_copies_sort(&c->copies);
	PQclear(range);
	PQclear(position);
	return good;
}

bool
audit_judge_outbox(AuditRun *c)
{
	return audit_walk_outbox(c, "events compared", audit_judge_row);
}
