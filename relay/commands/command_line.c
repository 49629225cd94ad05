/*
 * command_line.c - the relay's commands and their options
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/command_line.h"

#define BIT(argument) ARGUMENT_BIT(argument)
#define ASKING		  (BIT(ARG_HELP) | BIT(ARG_VERSION))
#define GENERAL		  (BIT(ARG_CONFIG) | BIT(ARG_POSTGRES) | BIT(ARG_KAFKA))
#define OFFLINE		  BIT(ARGS) /* no option: the command needs no broker */
#define FILTERS                                                             \
	(BIT(ARG_STATE) | BIT(ARG_TOPIC) | BIT(ARG_SINCE) | BIT(ARG_SQLSTATE) | \
	 BIT(ARG_ORDER))
#define FILTERS_SYNOPSIS                               \
	"[--state STATE] [--topic TOPIC] [--since TIME]\n" \
	"      [--sqlstate CODE] [--order ID]"
#define MANY 1000000 /* operands; the system has its own limit */

static const ArgumentCommand commands[COMMANDS] = {
	[COMMAND_RUN] = {"run", 0, 0, 0, 0, "", "Runs until SIGTERM."},
	[COMMAND_CHECK] = {"check", BIT(ARG_JSON), 0, 0, 0, "[--json]",
					   "Checks whether run would work, and prints what is "
					   "wrong, why it\nmatters and what to do.\n"
					   "Exit code 0 if nothing worse than a warning was "
					   "found."},
	[COMMAND_STATUS] = {"status", BIT(ARG_JSON), 0, 0, 0, "[--json]",
						"Prints which relay leads, what is pending, failed and "
						"consumed;\nno relay need run.\n"
						"Exit code 1 if the database cannot be queried."},
	[COMMAND_CONFIG] = {"config", 0, 0, 0, 0, "",
						"Prints a sample configuration; with --config, the one "
						"in force,\nsecrets masked."},
	[COMMAND_ADOPT] = {"adopt", BIT(ARG_EXECUTE) | OFFLINE, 0, 0, 0,
					   "[--execute]",
					   "After a restore: prints what would be published; with "
					   "--execute\nthe relay publishes from there."},
	[COMMAND_REPLAY] = {"replay",
						BIT(ARG_FROM) | BIT(ARG_TO) | BIT(ARG_TOPIC) |
							BIT(ARG_DRY_RUN) | BIT(ARG_REASON) | OFFLINE,
						BIT(ARG_FROM), 0, 0,
						"--from TIME|SEQ [--to TIME|SEQ] [--topic TOPIC]\n"
						"      [--reason TEXT] [--dry-run]",
						"Publishes events again that the outbox still has; "
						"--to is included.\n"
						"They keep their id; header replay_of marks them.\n"
						"--dry-run only counts them."},
	[COMMAND_REWIND] = {"rewind",
						BIT(ARG_TOPIC) | BIT(ARG_TO) | BIT(ARG_REASON),
						BIT(ARG_TOPIC) | BIT(ARG_TO), 0, 0,
						"--topic TOPIC --to TIME|OFFSET [--reason TEXT]",
						"Has messages of a topic read again; no relay may "
						"consume it meanwhile.\n"
						"Those whose ids are remembered are duplicates."},
	[COMMAND_AUDIT] = {"audit", BIT(ARG_FROM), 0, 0, 0, "[--from TIME|SEQ]",
					   "Compares the outbox with its topics and lists what is "
					   "missing or doubled.\n"
					   "Exit code 1 if anything is."},
	[COMMAND_DISCARD] = {"discard", BIT(ARG_REASON) | OFFLINE, BIT(ARG_REASON),
						 1, MANY, "EVENT_ID... --reason TEXT",
						 "Gives up events of held topics that the broker never "
						 "accepts; the events\nbehind them are published."},
	[COMMAND_FAILED_LIST] = {"failed list", FILTERS | OFFLINE, 0, 0, 0,
							 FILTERS_SYNOPSIS, "Lists failed messages."},
	[COMMAND_FAILED_SHOW] = {"failed show", OFFLINE, 0, 1, 1, "ID",
							 "Shows all details of one."},
	[COMMAND_FAILED_RETRY] = {"failed retry",
							  FILTERS | BIT(ARG_REASON) | OFFLINE, 0, 0, MANY,
							  "ID... [--reason TEXT] | [--reason TEXT]\n"
							  "      " FILTERS_SYNOPSIS,
							  "Tries again at once: those with these ids, or "
							  "all that the filter finds."},
	[COMMAND_FAILED_DISCARD] = {"failed discard", BIT(ARG_REASON) | OFFLINE,
								BIT(ARG_REASON), 1, MANY, "ID... --reason TEXT",
								"Gives up for good; the messages behind it are "
								"tried."},
	[COMMAND_FAILED_HANDLED] = {"failed handled", BIT(ARG_NOTE) | OFFLINE,
								BIT(ARG_NOTE), 1, MANY, "ID... --note TEXT",
								"Marks archived ones as handled by a person."},
	[COMMAND_FAILED_EXPORT] = {"failed export",
							   FILTERS | BIT(ARG_CSV) | OFFLINE, BIT(ARG_CSV),
							   0, 0, "--csv " FILTERS_SYNOPSIS,
							   "Writes them to standard output, safe to open "
							   "as a spreadsheet."},
};

static const ArgumentOption options[ARGS] = {
	[ARG_CONFIG] = {"config", true},
	[ARG_POSTGRES] = {"postgres", true},
	[ARG_KAFKA] = {"kafka", true},
	[ARG_HELP] = {"help", false},
	[ARG_VERSION] = {"version", false},
	[ARG_EXECUTE] = {"execute", false},
	[ARG_JSON] = {"json", false},
	[ARG_DRY_RUN] = {"dry-run", false},
	[ARG_CSV] = {"csv", false},
	[ARG_FROM] = {"from", true},
	[ARG_TO] = {"to", true},
	[ARG_TOPIC] = {"topic", true},
	[ARG_STATE] = {"state", true},
	[ARG_SINCE] = {"since", true},
	[ARG_SQLSTATE] = {"sqlstate", true},
	[ARG_ORDER] = {"order", true},
	[ARG_REASON] = {"reason", true},
	[ARG_NOTE] = {"note", true},
};
_Static_assert(ARGS < ARGUMENTS_MAX, "a bit for each option, and OFFLINE");

const ArgumentTable command_line = {
	.commands = commands,
	.command_count = COMMANDS,
	.options = options,
	.option_count = ARGS,
	.common = GENERAL | ASKING,
	.asking = ASKING,
};

bool
command_line_is_offline(const Arguments *arguments)
{
	Assert(arguments->command < COMMANDS);
	return (commands[arguments->command].allowed & OFFLINE) != 0;
}

/* ---- help -------------------------------------------------------------- */

static const char intro[] =
	"pgstock-relay publishes the events of pgstock's outbox to Kafka and\n"
	"applies messages from Kafka to stock.\n"
	"\n"
	"Usage: pgstock-relay COMMAND [OPTION]...\n"
	"\n"
	"Commands:\n";

static const char outro[] =
	"\n"
	"Options of every command:\n"
	"  --config FILE        configuration file\n"
	"  --postgres CONNINFO  in place of [postgres] conninfo, without password\n"
	"  --kafka BROKERS      in place of [kafka] bootstrap.servers\n"
	"  --help               print this, or the command's own, and end\n"
	"  --version            print the version and end\n"
	"\n"
	"TIME is such as 2026-01-31T12:00:00Z.\n"
	"Signals to run: TERM drains and ends, a second TERM ends at once, HUP\n"
	"reloads the configuration, USR1 writes the state to the log.\n"
	"Exit codes: 0 clean, 1 runtime, 2 usage or configuration, 3 incompatible\n"
	"extension.\n";

void
command_line_usage(const Arguments *arguments, Buf *text)
{
	bool named = arguments->command != COMMANDS;
	bool all = !named && arguments->group == NULL;
	bool offline = named && command_line_is_offline(arguments);

	buf_add_str(text, all ? intro : "Usage: pgstock-relay\n");
	arguments_add_usage(&command_line, arguments, text);
	if (all)
		buf_add_str(text, outro);
	else
		buf_printf(text, "with --config FILE, or --postgres CONNINFO%s\n",
				   offline ? "" : " and --kafka BROKERS");
	(void) buf_str(text);
}
