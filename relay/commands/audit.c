/*
 * audit.c - compares the outbox and its topics, prints what does not agree
 *
 * The outbox is walked first, then the topics are read up to where they end at
 * that moment: a record that was acknowledged by then is there.  One that was
 * pending may be there or not, and is counted apart.  Only if something does
 * not agree is the outbox walked again, to print it.  Memory: audit_compare.h,
 * and a page.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/audit_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands/commands.h"
#include "common/progress.h"
#include "common/safe_text.h"

static ExitCode
audit_report(const AuditRun *c)
{
	bool	clean = true;
	int64_t pending = 0;

	for (size_t i = 0; i < c->topic_count; i++)
	{
		const AuditTopic *topic = &c->topics[i];
		char			  repaired[64] = "";

		Assert(topic->name != NULL && topic->repaired <= topic->events);
		if (topic->repaired > 0)
			snprintf(repaired, sizeof(repaired),
					 "; %" PRId64 " there as a copy alone", topic->repaired);
		safe_line(stdout,
				  "topic %s: %" PRId64 " events, %" PRId64 " replayed copies, "
				  "%" PRId64 " pending, %" PRId64 " removed by retention, "
				  "%" PRId64 " other records; %" PRId64 " missing, %" PRId64
				  " doubled, %" PRId64 " unknown%s",
				  topic->name, topic->events, topic->copies, topic->pending,
				  topic->removed, topic->other, topic->missing, topic->doubled,
				  topic->unknown, repaired);
		pending += topic->pending;
		clean = clean && topic->missing == 0 && topic->doubled == 0 &&
				topic->unknown == 0;
	}
	if (pending > 0)
		safe_line(stdout,
				  "pending: %" PRId64 " events are not published yet; whether "
				  "they arrive was not compared",
				  pending);
	puts(clean ? "audit: clean" : "audit: outbox and topics do not agree");
	return clean ? EXIT_CLEAN : EXIT_RUNTIME;
}

_Static_assert(sizeof(((AuditRun *) NULL)->source) >=
				   sizeof("/pgstock/") + sizeof(((ApiHello *) NULL)->database),
			   "a source that is cut would be another database's");

static ExitCode
audit_compare(AuditRun *c, const Point *from)
{
	rd_kafka_t *client = command_open_broker(&c->command);
	bool		good;

	snprintf(c->source, sizeof(c->source), "/pgstock/%s",
			 c->command.hello.database);
	good = client != NULL && audit_expect_outbox(c, from) &&
		   audit_read_topics(c, client);
	if (client != NULL)
		rd_kafka_destroy(client);
	Assert(!good || c->audit.sorted);
	if (good && audit_has_faults(&c->audit))
		good = audit_judge_outbox(c);
	progress_end();
	return good ? audit_report(c) : EXIT_RUNTIME;
}

ExitCode
cmd_audit(const Arguments *arguments, const Config *config)
{
	Point	 from = command_point(arguments->values[ARG_AUDIT_FROM]);
	AuditRun c = {0};
	ExitCode code;

	if (command_open(&c.command, config))
		c.command.code = audit_compare(&c, &from);
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
