/*
 * audit_run.h - one run of "audit", for its files
 *
 * audit.c above audit_topics.c above audit_outbox.c; audit_compare.c is pure.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_AUDIT_RUN_H
#define PGSTOCK_COMMANDS_AUDIT_RUN_H

#include "commands/audit_compare.h"
#include "commands/command.h"

/* What a raw copy has behind the first one's headers: see relay_replay(). */
#define AUDIT_COPY_HEADER_LEN (2 + 9 + 4 + EVENT_SEQ_LEN)

typedef struct AuditTopic
{
	char   *name; /* owned */
	bool	raw;  /* has raw events */
	int64_t events;
	int64_t copies;
	int64_t pending;
	int64_t missing;
	int64_t doubled;
	int64_t removed;  /* by retention, as it seems */
	int64_t unknown;  /* in the topic, not in the outbox */
	int64_t other;	  /* records that are not of this comparison */
	int64_t repaired; /* the original is lost, a copy is there */
} AuditTopic;

typedef struct AuditRun
{
	Command				command;
	const char		   *from_time; /* NULL: does not matter */
	int64_t				after_seq;
	int64_t				to_seq;
	int64_t				first_seq; /* from here on the outbox is complete */
	Audit				audit;
	AuditCopies			copies;
	AuditTopic		   *topics;
	size_t				topic_count;
	AuditPartition	   *partitions;
	size_t				partition_count;
	AuditPartition	   *reading; /* the partition of the last message */
	rd_kafka_resp_err_t trouble; /* of the broker, the last one */
	Buf					packed;	 /* headers of the last raw one */
	char				source[160];
} AuditRun;

/* ---- audit_outbox.c ---- */

/* The counts of a topic, created by the first call. */
AuditTopic *audit_find_topic(AuditRun *c, const char *name, size_t len);

/*
 * Expects a record for each row of the outbox from that point on; false, and
 * reported why, if the outbox could not be read.
 */
bool audit_expect_outbox(AuditRun *c, const Point *from) MUST_CHECK;

/*
 * Walks the outbox again, and prints the rows whose records are missing or
 * doubled.
 */
bool audit_judge_outbox(AuditRun *c) MUST_CHECK;

/* ---- audit_topics.c ---- */

/*
 * Reads the topics up to their present ends, and prints records of this
 * database that the outbox lacks; false, and reported why, if that failed.
 */
bool audit_read_topics(AuditRun *c, rd_kafka_t *client) MUST_CHECK;

#endif
