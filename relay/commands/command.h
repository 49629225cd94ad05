/*
 * command.h - commands that do one thing and end, and what they share
 *
 * They wait for their peers, without the loop and its rules.  Results are
 * printed to standard output, everything else to standard error.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_COMMANDS_COMMAND_H
#define PGSTOCK_COMMANDS_COMMAND_H

#include "commands/command_line.h"
#include "common/exit_code.h"
#include "config/config.h"
#include "db/api.h"
#include "kafka/trouble.h"

/* How long a command waits for an answer of the broker. */
#define COMMAND_BROKER_MS 8000
#define COMMAND_PAUSE_US  (100 * MS_US) /* between two tries */

typedef struct Command
{
	const Config *config;
	PGconn		 *pg;
	ApiHello	  hello;
	KafkaTrouble  trouble; /* of command_open_broker() */
	ExitCode	  code;	   /* why there is no pg */
} Command;

/* "pgstock-relay: ..." on standard error, above the line of progress */
void command_report(const char *format, ...) PRINTF_LIKE(1, 2);

/* From now on such lines are appended to a text; NULL: to standard error. */
void command_report_into(Buf *lines);

/*
 * False, with a code and reported why, if the database or its extension is not
 * there.  command_close() in either case.
 */
bool command_open(Command *command, const Config *config) MUST_CHECK;
void command_close(Command *command);

/* A result as it is; NULL, and reported why, for an error.  Takes it over. */
PGresult *command_check_result(PGresult *result, const char *what) MUST_CHECK;

/* The relay's consumer group. */
const char *command_group(const Command *command);

/*
 * A client of the broker, whose opaque is trouble.  It joins no group; the name
 * is for the broker's access lists, NULL for a client that reads no topic.
 * NULL, and *error, if that fails.
 */
rd_kafka_t *command_client_new(const Config *config, const char *group,
							   KafkaTrouble *trouble, Buf *error) MUST_CHECK;

/* The same for a command that is open; reports the error. */
rd_kafka_t *command_open_broker(Command *command) MUST_CHECK;

/*
 * What could not be done with a client of command_open_broker(), the error, its
 * cause if that is known, and the address.
 */
void command_report_broker(rd_kafka_t *client, const char *what,
						   rd_kafka_resp_err_t error);

/*
 * Between two tries; a terminal shows what it waits for, and how long: begun is
 * of clock_monotonic().
 */
void command_pause(const char *what, int64_t begun);

/*
 * Whether to try again, after a pause: errors pass of a broker that has just
 * started, and of any broker about a topic that has just been created.  False:
 * this one does not, or COMMAND_BROKER_MS are over; *until, 0 at first, is the
 * end of them.
 */
bool command_may_retry(rd_kafka_t *client, int64_t *until,
					   rd_kafka_resp_err_t error) MUST_CHECK;

/*
 * The broker's metadata of a topic, or of all for NULL, with retries; NULL, and
 * *why, if that fails.
 */
const struct rd_kafka_metadata *command_query_metadata(rd_kafka_t *client,
													   const char *topic,
													   Buf *why) MUST_CHECK;

/* The same; reports why. */
const struct rd_kafka_metadata *
command_get_metadata(rd_kafka_t *client, const char *topic) MUST_CHECK;

/*
 * NULL: it has none.  An entry may be one of an error: command_find_topic()
 * returns only a topic that exists and can be used.
 */
const struct rd_kafka_metadata_topic *
command_find_entry(const struct rd_kafka_metadata *metadata, const char *topic);
const struct rd_kafka_metadata_topic *
command_find_topic(const struct rd_kafka_metadata *metadata, const char *topic);

/*
 * A number or a moment, as SEQ|TIME and OFFSET|TIME are: the one that it is not
 * is -1.
 */
typedef struct Point
{
	const char *text;
	int64_t		number;
	int64_t		moment_us;
} Point;

/* Of an ARGUMENT_POINT; NULL: neither. */
Point command_point(const char *text);

/* The usage of the command on standard error, and the exit code for it. */
ExitCode command_print_usage(const Arguments *arguments);

/* The part of a walk from begin to end that lies before at: 0 to 1. */
double command_share(int64_t begin, int64_t at, int64_t end);

#endif
