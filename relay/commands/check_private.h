/*
 * check_private.h - between check.c and its parts
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_CHECK_PRIVATE_H
#define PGSTOCK_COMMANDS_CHECK_PRIVATE_H

#include "common/exit_code.h"
#include "db/api.h"
#include "kafka/trouble.h"

#define BROKER_WAIT_MS 8000 /* for one answer, and for what passes */

typedef struct Check
{
	const Config *config;
	PGconn		 *pg;	   /* NULL: no database */
	rd_kafka_t	 *client;  /* NULL: no broker */
	KafkaTrouble  trouble; /* of client */
	int64_t		  until;   /* what passes is waited for; 0: not begun */
	ApiHello	  hello;
	ExitCode	  code;
} Check;

void check_good(const char *format, ...) PRINTF_LIKE(1, 2);

/* todo: the next step, a sentence */
void check_bad(Check *check, const char *todo, const char *format, ...)
	PRINTF_LIKE(3, 4);

/*
 * What a broker answers while it starts, or of a topic that was just made,
 * passes.  False: it does not, or check->until is over; that is set by the
 * first call and belongs to the caller's loop.
 */
bool check_again(Check *check, rd_kafka_resp_err_t error) MUST_CHECK;

/* All that the broker knows, with the topics of [inbox] once they have leaders;
 * NULL, and told why. */
const struct rd_kafka_metadata *check_broker(Check *check);

const struct rd_kafka_metadata_topic *
check_find_topic(const struct rd_kafka_metadata *metadata, const char *name);

/* Asks the broker whether it would make the topic, without making it.  Takes
 * topic over. */
void check_creation(Check *check, const char *name, rd_kafka_NewTopic_t *topic);

/* As kafka_find_range(), for a topic that may be new. */
rd_kafka_resp_err_t check_find_range(Check *check, const char *topic,
									 int partition, int64_t *first,
									 int64_t *end) MUST_CHECK;

#endif
