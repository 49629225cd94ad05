/*
 * check_parts.h - the parts of "check"; "adopt" uses those about the database
 *
 * check.c above check_topics.c and check_transactions.c, these above
 * check_broker.c and check_database.c, all above check_report.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_CHECK_PARTS_H
#define PGSTOCK_COMMANDS_CHECK_PARTS_H

#include "commands/command.h"

typedef struct Check
{
	const Config *config;
	PGconn		 *pg;	   /* NULL: no database */
	rd_kafka_t	 *client;  /* NULL: no broker */
	KafkaTrouble  trouble; /* of client */
	int64_t		  until;   /* errors that pass are retried; 0: not begun */
	ApiHello	  hello;
	ExitCode	  code;
} Check;

/* ---- check_report.c ---- */

void check_pass(const char *format, ...) PRINTF_LIKE(1, 2);

/* todo: the next step, a sentence */
void check_fail(Check *check, const char *todo, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* NULL if the call fails, which is reported. */
PGresult *check_call(Check *check, ApiCall call, const PgParam *params,
					 const char *what, const char *todo) MUST_CHECK;

/* ---- check_database.c ---- */

/* False, and reported, if there is no database, or no extension of this API. */
bool check_database(Check *check) MUST_CHECK;
bool check_extension(Check *check) MUST_CHECK;

void check_notifications(Check *check);
void check_upkeep(Check *check);

/* kafka: the position topic's, data NULL: none */
void check_position(Check *check, Slice kafka);

/* ---- check_broker.c ---- */

/*
 * Whether to try again: the errors of a broker that starts, or about a topic
 * that was just created, pass.  False: this one does not, or check->until is
 * over; the first call sets that, and it belongs to the caller's loop.
 */
bool check_again(Check *check, rd_kafka_resp_err_t error) MUST_CHECK;

/* The broker's metadata, with the topics of [inbox] once they have leaders;
 * NULL, and reported why. */
const struct rd_kafka_metadata *check_broker(Check *check);

/* Whether the broker would create the topic; it does not.  Takes topic over. */
void check_topic_creation(Check *check, const char *name,
						  rd_kafka_NewTopic_t *topic);

/* As kafka_find_range(), for a topic that may be new. */
rd_kafka_resp_err_t check_find_range(Check *check, const char *topic,
									 int partition, int64_t *first,
									 int64_t *end) MUST_CHECK;

/* ---- check_topics.c, check_transactions.c ---- */

void check_topics_out(Check *check, const struct rd_kafka_metadata *metadata);
void check_topics_in(Check *check, const struct rd_kafka_metadata *metadata);
void check_transactions(Check *check, const struct rd_kafka_metadata *metadata);

#endif
