/*
 * command.h - commands that do one thing and end, and what they share
 *
 * They wait for their peers; the loop and its rules are not theirs.  What they
 * were asked for goes to standard output, all else to standard error.
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

typedef struct Command
{
	const Config *config;
	PGconn		 *pg;
	ApiHello	  hello;
	KafkaTrouble  trouble; /* of command_broker() */
	ExitCode	  code;	   /* why there is no pg */
} Command;

/* "pgstock-relay: ..." on standard error */
void command_say(const char *format, ...) PRINTF_LIKE(1, 2);

/* False, said why and with a code, if the database or its extension is not
 * there.  command_close() in either case. */
bool command_open(Command *command, const Config *config) MUST_CHECK;
void command_close(Command *command);

/* An answer as it is; NULL, and said why, for an error.  result is taken. */
PGresult *command_checked(PGresult *result, const char *what) MUST_CHECK;

/* The relay's consumer group. */
const char *command_group(const Command *command);

/* A client of the broker; it joins no group, whose name is but for the broker's
 * access lists.  NULL and said why. */
rd_kafka_t *command_broker(Command *command) MUST_CHECK;

/* What the broker knows of a topic, or of all for NULL; NULL and said why. */
const struct rd_kafka_metadata *command_metadata(rd_kafka_t *client,
												 const char *topic) MUST_CHECK;
const struct rd_kafka_metadata_topic *
command_topic(const struct rd_kafka_metadata *metadata, const char *name);

/*
 * A number or a moment, as SEQ|TIME and OFFSET|TIME are: the one that it is not
 * becomes -1.  False, and said why, if it is neither.
 */
typedef struct Point
{
	const char *text;
	int64_t		number;
	int64_t		moment_us;
} Point;

bool command_point(const char *option, const char *text, const char *number,
				   Point *point) MUST_CHECK;

/* The usage of the command on standard error, and the exit code for it. */
ExitCode command_misused(const Arguments *arguments);

/* A counter on standard error while that is a terminal; every call tells. */
void command_progress(const char *what, int64_t count);
void command_progress_end(void);

#endif
