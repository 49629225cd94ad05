/*
 * arguments.c - the command line: one table for parse and help
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "commands/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BIT(argument) (1U << (argument))
#define COMMON                                                              \
	(BIT(ARG_CONFIG) | BIT(ARG_POSTGRES) | BIT(ARG_KAFKA) | BIT(ARG_HELP) | \
	 BIT(ARG_VERSION))
#define OFFLINE BIT(ARGS) /* asks the database alone */
#define FILTERS                                                             \
	(BIT(ARG_STATE) | BIT(ARG_TOPIC) | BIT(ARG_SINCE) | BIT(ARG_SQLSTATE) | \
	 BIT(ARG_ORDER))
#define FILTERS_SYNOPSIS                               \
	"[--state STATE] [--topic TOPIC] [--since TIME]\n" \
	"      [--sqlstate CODE] [--order ID]"
#define MANY 1000000 /* operands; the system has its own limit */

static const struct
{
	const char *name;
	unsigned	allowed; /* besides COMMON; and OFFLINE */
	unsigned	required;
	int			operands_min;
	int			operands_max;
	const char *synopsis;
	const char *help; /* what it does, one sentence a line */
} commands[COMMANDS] = {
	[COMMAND_RUN] = {"run", 0, 0, 0, 0, "", "Runs until SIGTERM."},
	[COMMAND_CHECK] = {"check", 0, 0, 0, 0, "",
					   "Looks whether run would work, and says what is "
					   "missing."},
	[COMMAND_STATUS] = {"status", BIT(ARG_JSON), 0, 0, 0, "[--json]",
						"Says who leads, what is pending, failed and consumed; "
						"no relay need run.\n"
						"Exit code 1 if the database cannot be asked."},
	[COMMAND_CONFIG] = {"config", 0, 0, 0, 0, "",
						"Prints a sample configuration; with --config, the one "
						"in force, secrets masked."},
	[COMMAND_ADOPT] = {"adopt", BIT(ARG_EXECUTE) | OFFLINE, 0, 0, 0,
					   "[--execute]",
					   "After a restore: shows what would be published; with "
					   "--execute goes on from there."},
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
					   "Compares the outbox with its topics and names what is "
					   "missing or doubled.\n"
					   "Exit code 1 if anything is."},
	[COMMAND_DISCARD] = {"discard", BIT(ARG_REASON) | OFFLINE, BIT(ARG_REASON),
						 1, MANY, "EVENT_ID... --reason TEXT",
						 "Gives up events of held topics that the broker never "
						 "takes; what waits\nbehind them goes on."},
	[COMMAND_FAILED_LIST] = {"failed list", FILTERS | OFFLINE, 0, 0, 0,
							 FILTERS_SYNOPSIS, "Lists failed messages."},
	[COMMAND_FAILED_SHOW] = {"failed show", OFFLINE, 0, 1, 1, "ID",
							 "Shows all that is known of one."},
	[COMMAND_FAILED_RETRY] = {"failed retry",
							  FILTERS | BIT(ARG_REASON) | OFFLINE, 0, 0, MANY,
							  "ID... [--reason TEXT] | [--reason TEXT]\n"
							  "      " FILTERS_SYNOPSIS,
							  "Tries again at once: those with these ids, or "
							  "all that the filter finds."},
	[COMMAND_FAILED_DISCARD] = {"failed discard", BIT(ARG_REASON) | OFFLINE,
								BIT(ARG_REASON), 1, MANY, "ID... --reason TEXT",
								"Gives up for good; what waits behind it goes "
								"on."},
	[COMMAND_FAILED_HANDLED] = {"failed handled", BIT(ARG_NOTE) | OFFLINE,
								BIT(ARG_NOTE), 1, MANY, "ID... --note TEXT",
								"Notes that a person has dealt with an "
								"archived one."},
	[COMMAND_FAILED_EXPORT] = {"failed export",
							   FILTERS | BIT(ARG_CSV) | OFFLINE, BIT(ARG_CSV),
							   0, 0, "--csv " FILTERS_SYNOPSIS,
							   "Writes them to standard output, safe to open "
							   "as a spreadsheet."},
};

/* In the order of ArgumentId. */
static const struct option known[] = {
	{"config", required_argument, NULL, 0},
	{"postgres", required_argument, NULL, 0},
	{"kafka", required_argument, NULL, 0},
	{"help", no_argument, NULL, 0},
	{"version", no_argument, NULL, 0},
	{"execute", no_argument, NULL, 0},
	{"json", no_argument, NULL, 0},
	{"dry-run", no_argument, NULL, 0},
	{"csv", no_argument, NULL, 0},
	{"from", required_argument, NULL, 0},
	{"to", required_argument, NULL, 0},
	{"topic", required_argument, NULL, 0},
	{"state", required_argument, NULL, 0},
	{"since", required_argument, NULL, 0},
	{"sqlstate", required_argument, NULL, 0},
	{"order", required_argument, NULL, 0},
	{"reason", required_argument, NULL, 0},
	{"note", required_argument, NULL, 0},
	{NULL, 0, NULL, 0},
};
_Static_assert(Lengthof(known) == ARGS + 1, "a name for each argument");

/* ---- parsing ----------------------------------------------------------- */

static bool
parse_options(int argc, char **argv, Arguments *arguments, Buf *error)
{
	int index = 0;
	int found;

	optind = 0; /* from the start, also if it was used before */
	while ((found = getopt_long(argc, argv, ":", known, &index)) == 0)
		arguments->values[index] = optarg != NULL ? optarg : "";
	if (found == -1)
		return true;
	if (found == ':')
		buf_printf(error, "option \"%s\" needs a value", argv[optind - 1]);
	else
		buf_printf(error, "unknown option \"%s\"", argv[optind - 1]);
	return false;
}

/* How many of the words are those of the name; 0 if not all of the name's. */
static int
words_match(const char *name, char **words, int count)
{
	int matched = 0;

	while (name[0] != '\0' && matched < count)
	{
		size_t len = strcspn(name, " ");

		if (strlen(words[matched]) != len ||
			strncmp(words[matched], name, len) != 0)
			return 0;
		matched++;
		name += len + (name[len] == ' ');
	}
	return name[0] == '\0' ? matched : 0;
}

static bool
begins_with_word(const char *name, const char *word)
{
	size_t len = strlen(word);

	return strncmp(name, word, len) == 0 && name[len] == ' ';
}

static bool
find_command(char **words, int count, Arguments *arguments, Buf *error)
{
	int matched = 0;

	for (int i = 0; i < COMMANDS && matched == 0; i++)
	{
		matched = words_match(commands[i].name, words, count);
		if (matched > 0)
			arguments->command = (CommandId) i;
		else if (begins_with_word(commands[i].name, words[0]))
			arguments->group = words[0];
	}
	arguments->operands = words + matched;
	arguments->operand_count = count - matched;
	if (matched > 0)
		arguments->group = NULL;
	else if (arguments->group == NULL)
		buf_printf(error, "unknown command \"%s\"", words[0]);
	else if (count > 1)
		buf_printf(error, "unknown command \"%s %s\"", words[0], words[1]);
	else
		buf_printf(error, "\"%s\" what?", words[0]);
	return matched > 0;
}

static bool
check_use(const Arguments *arguments, Buf *error)
{
	CommandId command = arguments->command;
	unsigned  allowed = COMMON | commands[command].allowed;

	for (int i = 0; i < ARGS; i++)
	{
		if (arguments->values[i] != NULL && !(allowed & BIT(i)))
		{
			buf_printf(error, "\"%s\" takes no --%s", commands[command].name,
					   known[i].name);
			return false;
		}
		if (arguments->values[i] == NULL &&
			(commands[command].required & BIT(i)))
		{
			buf_printf(error, "\"%s\" needs --%s", commands[command].name,
					   known[i].name);
			return false;
		}
	}
	if (arguments->operand_count > commands[command].operands_max)
		buf_printf(error, "\"%s\" does not know what to do with \"%s\"",
				   commands[command].name,
				   arguments->operands[commands[command].operands_max]);
	else if (arguments->operand_count < commands[command].operands_min)
		buf_printf(error, "\"%s\" needs an id", commands[command].name);
	return error->len == 0;
}

bool
arguments_parse(int argc, char **argv, Arguments *arguments, Buf *error)
{
	Buf	 second = {0}; /* one mistake is enough */
	bool options;
	bool asks;
	bool named = false;

	*arguments = (Arguments){.command = COMMANDS};
	options = parse_options(argc, argv, arguments, error);
	asks = arguments->values[ARG_HELP] != NULL ||
		   arguments->values[ARG_VERSION] != NULL;
	if (optind < argc)
		named = find_command(argv + optind, argc - optind, arguments,
							 options ? error : &second);
	else if (options && !asks)
		buf_add_str(error, "no command is named");
	buf_free(&second);
	if (!options)
		return false;
	if (asks && (named || arguments->group != NULL || optind == argc))
	{
		buf_clear(error);
		return true;
	}
	return named && check_use(arguments, error);
}

bool
arguments_are_offline(const Arguments *arguments)
{
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

static void
add_usage(Buf *text, CommandId command)
{
	const char *help = commands[command].help;

	buf_printf(text, "  %s%s%s\n", commands[command].name,
			   commands[command].synopsis[0] != '\0' ? " " : "",
			   commands[command].synopsis);
	while (help[0] != '\0')
	{
		size_t len = strcspn(help, "\n");

		buf_printf(text, "      %.*s\n", (int) len, help);
		help += len + (help[len] == '\n');
	}
}

void
arguments_usage(const Arguments *arguments, Buf *text)
{
	bool all = arguments->command == COMMANDS && arguments->group == NULL;
	bool offline = arguments->command != COMMANDS &&
				   arguments_are_offline(arguments);

	buf_add_str(text, all ? intro : "Usage: pgstock-relay\n");
	for (int i = 0; i < COMMANDS; i++)
		if (all || arguments->command == (CommandId) i ||
			(arguments->group != NULL &&
			 begins_with_word(commands[i].name, arguments->group)))
			add_usage(text, (CommandId) i);
	if (all)
		buf_add_str(text, outro);
	else
		buf_printf(text, "with --config FILE, or --postgres CONNINFO%s\n",
				   offline ? "" : " and --kafka BROKERS");
	(void) buf_str(text);
}

/* ---- values ------------------------------------------------------------ */

bool
parse_number(const char *text, int64_t *number)
{
	char *end;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0;
}

/* Up to six digits behind a point; more are cut off. */
static const char *
parse_fraction(const char *text, int64_t *us)
{
	int64_t unit = SEC_US / 10;

	*us = 0;
	if (text[0] != '.' || !isdigit((unsigned char) text[1]))
		return text;
	for (text++; isdigit((unsigned char) text[0]); text++)
	{
		*us += (text[0] - '0') * unit;
		unit /= 10;
	}
	return text;
}

bool
parse_moment(const char *text, int64_t *us)
{
	struct tm	utc = {0};
	struct tm	zone = {0};
	int64_t		fraction;
	const char *end = strptime(text, "%Y-%m-%d", &utc);

	if (end == NULL || (end[0] != 'T' && end[0] != ' '))
		return false;
	end = strptime(end + 1, "%H:%M:%S", &utc);
	if (end == NULL)
		return false;
	end = strptime(parse_fraction(end, &fraction), "%z", &zone);
	if (end == NULL || end[0] != '\0' || !is_day(&utc))
		return false;
	*us = ((int64_t) timegm(&utc) - zone.tm_gmtoff) * SEC_US + fraction;
	return *us >= 0;
}
