/*
 * command_table.c - the table of the relay's commands and options
 *
 * The only place that lists them: parser, help, manual page and completion are
 * made of it, and dev/check-commands compares the documents with it.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/command_line.h"
#include "config/config.h"
#include "extension/protocol/failed_state.h"

#define BIT(argument) ARGUMENT_BIT(argument)
#define ASKING		  (BIT(ARG_HELP) | BIT(ARG_VERSION))
#define GENERAL		  (BIT(ARG_CONFIG) | BIT(ARG_POSTGRES) | BIT(ARG_KAFKA))
#define FILTERS                                                \
	(BIT(ARG_STATE) | BIT(ARG_FAILED_TOPIC) | BIT(ARG_SINCE) | \
	 BIT(ARG_SQLSTATE) | BIT(ARG_ORDER))
#define MANY 1000000 /* operands; the system has its own limit */

#define FLAG                  \
	{                         \
		.type = ARGUMENT_FLAG \
	}
#define TEXT(name)                             \
	{                                          \
		.type = ARGUMENT_TEXT, .label = (name) \
	}
#define A_FILE(name)                           \
	{                                          \
		.type = ARGUMENT_FILE, .label = (name) \
	}
#define A_TIME                                 \
	{                                          \
		.type = ARGUMENT_TIME, .label = "TIME" \
	}
#define POINT(name)                             \
	{                                           \
		.type = ARGUMENT_POINT, .label = (name) \
	}
#define FAILED_ID_OPERAND                                                  \
	{                                                                      \
		.type = ARGUMENT_NUMBER, .label = "ID", .min = 1, .max = INT64_MAX \
	}

static const char *const origins[] = {"restored", "copy", NULL};

/* Options of one name differ in what they mean, by command. */
static const ArgumentOption options[ARGS] = {
	[ARG_CONFIG] = {"config", A_FILE("FILE"), NULL, "configuration file", 'c'},
	[ARG_POSTGRES] = {"postgres", TEXT("CONNINFO"), NULL,
					  "in place of conninfo in [postgres], without a password",
					  'd'},
	[ARG_KAFKA] = {"kafka", TEXT("BROKERS"), NULL,
				   "in place of bootstrap.servers in [kafka]", 'b'},
	[ARG_HELP] = {"help", FLAG, NULL, "print this help and exit", 'h'},
	[ARG_VERSION] = {"version", FLAG, NULL,
					 "print the versions of the program and its libraries and "
					 "exit",
					 'V'},
	[ARG_EXECUTE] = {"execute", FLAG, NULL,
					 "publish from this database from now on", 0},
	[ARG_AS] = {"as",
				{ARGUMENT_CHOICE, "ORIGIN", origins, 0, 0},
				NULL,
				"restored: the original is gone; copy: it goes on, and "
				"publishes what was pending",
				0},
	[ARG_JSON] = {"json", FLAG, NULL, "print one JSON object on one line", 'j'},
	[ARG_WATCH] = {"watch",
				   {ARGUMENT_NUMBER, "SECONDS", NULL, 1, 3600},
				   "2",
				   "repeat every so many seconds until q or Ctrl-C is pressed",
				   'w'},
	[ARG_OUTPUT] = {"output", A_FILE("FILE"), NULL,
					"write to this file; default: standard output", 0},
	[ARG_DRY_RUN] = {"dry-run", FLAG, NULL,
					 "count the events, and publish none", 'n'},
	[ARG_REDRIVE_DRY_RUN] = {"dry-run", FLAG, NULL,
							 "list the dead letters, and send none", 'n'},
	[ARG_CSV] = {"csv", FLAG, NULL, "print comma-separated values", 0},
	[ARG_REPLAY_FROM] = {"from", POINT("TIME|SEQ"), NULL,
						 "the first event, by its time or its seq", 'f'},
	[ARG_AUDIT_FROM] = {"from", POINT("TIME|SEQ"), NULL,
						"ignore earlier events; default: where the outbox "
						"begins",
						'f'},
	[ARG_REDRIVE_FROM] = {"from", POINT("TIME|OFFSET"), NULL,
						  "the first dead letter; default: the one behind "
						  "those of the last run",
						  'f'},
	[ARG_REPLAY_TO] = {"to", POINT("TIME|SEQ"), NULL,
					   "the last event, included; default: the latest", 0},
	[ARG_REWIND_TO] = {"to", POINT("TIME|OFFSET"), NULL,
					   "the first message to read again", 0},
	[ARG_REPLAY_TOPIC] = {"topic", TEXT("TOPIC"), NULL,
						  "events of this topic only", 't'},
	[ARG_REWIND_TOPIC] = {"topic", TEXT("TOPIC"), NULL,
						  "the topic to read again", 't'},
	[ARG_SNAPSHOT_TOPIC] =
		{"topic", TEXT("TOPIC"), NULL,
		 "in place of topic in [levels]; default: " TOPIC_LEVELS, 't'},
	[ARG_REDRIVE_TOPIC] = {"topic", TEXT("TOPIC"), NULL,
						   "the topic of the dead letters", 't'},
	[ARG_PARTITION] = {"partition",
					   {ARGUMENT_NUMBER, "N", NULL, 0, INT32_MAX},
					   NULL,
					   "dead letters of this partition only",
					   'p'},
	[ARG_MAX] = {"max",
				 {ARGUMENT_NUMBER, "N", NULL, 1, INT64_MAX},
				 NULL,
				 "send back so many dead letters at most; default: all",
				 'm'},
	[ARG_LIMIT] = {"limit",
				   {ARGUMENT_NUMBER, "N", NULL, 1, 1000000},
				   NULL,
				   "leave a dead letter that was sent back so often already; "
				   "default: 3",
				   'l'},
	[ARG_STATE] = {"state",
				   {ARGUMENT_CHOICE, "STATE", failed_state_texts, 0, 0},
				   NULL,
				   "messages in this state",
				   's'},
	[ARG_FAILED_TOPIC] = {"topic", TEXT("TOPIC"), NULL,
						  "messages of this topic", 't'},
	[ARG_SINCE] = {"since", A_TIME, NULL,
				   "messages that first failed at this time or later", 0},
	[ARG_REPORT_SINCE] = {"since", A_TIME, NULL,
						  "from this time on; default: seven days before its "
						  "end",
						  0},
	[ARG_REPORT_UNTIL] = {"until", A_TIME, NULL,
						  "up to this time; default: now", 0},
	[ARG_SQLSTATE] = {"sqlstate", TEXT("CODE"), NULL,
					  "messages whose last try failed with this SQLSTATE", 0},
	[ARG_ORDER] = {"order", TEXT("ID"), NULL, "messages of this order", 'o'},
	[ARG_REASON] = {"reason", TEXT("TEXT"), NULL,
					"the reason, recorded in stock_admin_actions", 'r'},
	[ARG_NOTE] = {"note", TEXT("TEXT"), NULL,
				  "what was done, recorded in stock_admin_actions", 0},
};
_Static_assert(ARGS <= ARGUMENTS_MAX, "a bit for each option");

static const ArgumentCommand commands[COMMANDS] = {
	[COMMAND_RUN] =
		{
			.name = "run",
			.heading = "The daemon",
			.summary = "publish events and apply messages, until SIGTERM",
			.help = "Publishes the events of the outbox to Kafka, and applies "
					"messages from Kafka to stock, until it receives SIGTERM.",
		},
	[COMMAND_CHECK] =
		{
			.name = "check",
			.summary = "check whether run would work",
			.help = "Checks each requirement of run, and common mistakes. It "
					"prints a line for each that is met, and for each that is "
					"not what is wrong, what to do and why it matters. The "
					"exit code is 0 if nothing worse than a warning was found.",
			.allowed = BIT(ARG_JSON),
		},
	[COMMAND_STATUS] =
		{
			.name = "status",
			.summary = "show leader, backlog, lag and failed messages",
			.help = "Shows which relay leads, what is pending, held and "
					"failed, and how far each partition is consumed. The worst "
					"is marked with \"!\". It queries the database and the "
					"broker; no relay needs to run. The exit code is 1 if the "
					"database cannot be queried.",
			.allowed = BIT(ARG_JSON) | BIT(ARG_WATCH),
		},
	[COMMAND_CONFIG] =
		{
			.name = "config",
			.summary = "print a sample configuration, or the one in force",
			.help = "Prints a sample configuration with every key and its "
					"default; with --config, the configuration in force, with "
					"secrets masked.",
		},
	[COMMAND_ADOPT] =
		{
			.name = "adopt",
			.heading = "Events, from PostgreSQL to Kafka",
			.summary = "continue after a restore, or in a copy",
			.help = "After a restore or a failover that lost commits: shows "
					"what would be published. With --execute, the relay "
					"publishes from this database. A copy whose original is "
					"another database of the cluster leaves what was pending "
					"to it, unless --as says otherwise.",
			.allowed = BIT(ARG_EXECUTE) | BIT(ARG_AS),
		},
	[COMMAND_AUDIT] =
		{
			.name = "audit",
			.summary = "compare the outbox with its topics",
			.help = "Compares the outbox with its topics, and lists each event "
					"that is missing, doubled or unknown. The exit code is 1 "
					"if there is one.",
			.allowed = BIT(ARG_AUDIT_FROM),
		},
	[COMMAND_REPLAY] =
		{
			.name = "replay",
			.summary = "publish events again",
			.help = "Publishes events again that are still in the outbox. "
					"They keep their id; the header replay_of marks them.",
			.allowed = BIT(ARG_REPLAY_FROM) | BIT(ARG_REPLAY_TO) |
					   BIT(ARG_REPLAY_TOPIC) | BIT(ARG_REASON) |
					   BIT(ARG_DRY_RUN),
			.required = BIT(ARG_REPLAY_FROM),
		},
	[COMMAND_SNAPSHOT] =
		{
			.name = "snapshot",
			.summary = "publish the levels of all products",
			.help = "Writes a record for the level of each product and "
					"location to the outbox, for the level stream's topic. "
					"The relay publishes them; reservations go on meanwhile.",
			.allowed = BIT(ARG_SNAPSHOT_TOPIC),
		},
	[COMMAND_DISCARD] =
		{
			.name = "discard",
			.summary = "give up events that the broker never accepts",
			.help = "Gives up events of held topics that the broker will never "
					"accept; the events behind them are published.",
			.allowed = BIT(ARG_REASON),
			.required = BIT(ARG_REASON),
			.operand = {.type = ARGUMENT_UUID, .label = "EVENT_ID"},
			.operands_min = 1,
			.operands_max = MANY,
		},
	[COMMAND_ORDER] =
		{
			.name = "order",
			.heading = "Orders",
			.summary = "show an order's history",
			.help = "Shows all that the database has about an order, in order "
					"of time: its reservations, movements, events with their "
					"state, incoming messages with their result, failures, and "
					"what administrators did. The exit code is 1 if there is "
					"nothing.",
			.allowed = BIT(ARG_JSON),
			.operand = {.type = ARGUMENT_TEXT, .label = "ID"},
			.operands_min = 1,
			.operands_max = 1,
		},
	[COMMAND_REPORT] =
		{
			.name = "report",
			.summary = "write a report on a week",
			.help = "Writes a report as JSON: orders, refusals, failed "
					"messages, latencies and the products that sold most, in "
					"the last seven days or another period.",
			.allowed = BIT(ARG_REPORT_SINCE) | BIT(ARG_REPORT_UNTIL) |
					   BIT(ARG_OUTPUT),
		},
	[COMMAND_REWIND] =
		{
			.name = "rewind",
			.heading = "Messages, from Kafka to PostgreSQL",
			.summary = "read messages of a topic again",
			.help = "Makes the relay read messages of a topic again. No relay "
					"may consume the topic meanwhile. Messages whose ids are "
					"remembered are duplicates; older ones take effect again.",
			.allowed = BIT(ARG_REWIND_TOPIC) | BIT(ARG_REWIND_TO) |
					   BIT(ARG_REASON),
			.required = BIT(ARG_REWIND_TOPIC) | BIT(ARG_REWIND_TO),
		},
	[COMMAND_REDRIVE] =
		{
			.name = "redrive",
			.summary = "send dead letters back to their topics",
			.help = "Sends dead letters from their topic in Kafka back to the "
					"topics that they came from, those behind the last run or, "
					"with --from, those from there on, again if need be. It "
					"can be interrupted at any time: no letter is lost or sent "
					"twice. A letter that cannot be sent back is named and "
					"left; the exit code is 1 if there is one.",
			.allowed = BIT(ARG_REDRIVE_TOPIC) | BIT(ARG_REDRIVE_FROM) |
					   BIT(ARG_PARTITION) | BIT(ARG_MAX) | BIT(ARG_LIMIT) |
					   BIT(ARG_REDRIVE_DRY_RUN),
			.required = BIT(ARG_REDRIVE_TOPIC),
		},
	[COMMAND_FAILED_LIST] =
		{
			.name = "failed list",
			.summary = "list failed messages",
			.help = "Lists failed messages, a line for each, separated by "
					"tabs.",
			.allowed = FILTERS,
		},
	[COMMAND_FAILED_SHOW] =
		{
			.name = "failed show",
			.summary = "show all details of a failed message",
			.help = "Shows all details of a failed message.",
			.operand = FAILED_ID_OPERAND,
			.operands_min = 1,
			.operands_max = 1,
		},
	[COMMAND_FAILED_RETRY] =
		{
			.name = "failed retry",
			.summary = "try failed messages again at once",
			.help = "Tries failed messages again at once: those with these "
					"ids, or all that match the filter and wait or are "
					"archived.",
			.allowed = FILTERS | BIT(ARG_REASON),
			.either = true,
			.operand = FAILED_ID_OPERAND,
			.operands_max = MANY,
		},
	[COMMAND_FAILED_DISCARD] =
		{
			.name = "failed discard",
			.summary = "give up failed messages for good",
			.help = "Gives up failed messages for good; the messages behind "
					"them are tried.",
			.allowed = BIT(ARG_REASON),
			.required = BIT(ARG_REASON),
			.operand = FAILED_ID_OPERAND,
			.operands_min = 1,
			.operands_max = MANY,
		},
	[COMMAND_FAILED_HANDLED] =
		{
			.name = "failed handled",
			.summary = "close messages that were dealt with by hand",
			.help = "Marks archived messages as handled by a person.",
			.allowed = BIT(ARG_NOTE),
			.required = BIT(ARG_NOTE),
			.operand = FAILED_ID_OPERAND,
			.operands_min = 1,
			.operands_max = MANY,
		},
	[COMMAND_FAILED_EXPORT] =
		{
			.name = "failed export",
			.summary = "write failed messages as CSV",
			.help = "Writes failed messages with all columns to standard "
					"output, safe to open as a spreadsheet.",
			.allowed = FILTERS | BIT(ARG_CSV),
			.required = BIT(ARG_CSV),
		},
	[COMMAND_HELP] =
		{
			.name = "help",
			.heading = "Help",
			.summary = "show the help of a command",
			.help = "Shows the help of a command, or the list of commands.",
			.operand = {.type = ARGUMENT_TEXT, .label = "COMMAND"},
			.operands_max = 2,
		},
};

const ArgumentTable command_line = {
	.program = "pgstock-relay",
	.about = "pgstock-relay publishes the events of pgstock's outbox to Kafka "
			 "and\napplies messages from Kafka to stock.",
	.notes = "TIME is such as 2026-01-31T12:00:00Z.\n"
			 "Exit codes: 0 success, 1 runtime failure, 2 command line or "
			 "configuration,\n3 incompatible extension.",
	.group_summary = "list and handle failed messages",
	.commands = commands,
	.command_count = COMMANDS,
	.options = options,
	.option_count = ARGS,
	.common = GENERAL | ASKING,
	.asking = ASKING,
	.filters = FILTERS,
};
