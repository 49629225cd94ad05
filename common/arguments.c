/*
 * arguments.c - a command line of commands and options: its parser
 *
 * By getopt_long(3), so that abbreviations, "--name=value", "-xvalue" and "--"
 * are what users of GNU programs know.  What getopt leaves to the program is
 * judged here: which command takes an option, and whether a value is legal.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/arguments.h"

#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/rfc3339.h"
#include "common/spelling.h"

/*
 * What getopt_long() returns for an option: its letter, or this and its index,
 * which is no character.
 */
#define INDEX_FROM 256

typedef struct ArgumentParser
{
	const ArgumentTable *table;
	Arguments			*arguments;
	Buf					*error;
	struct option		 known[ARGUMENTS_MAX + 1];
	char				 letters[3 * ARGUMENTS_MAX + 2];
} ArgumentParser;

/* ---- values ------------------------------------------------------------ */

void
arguments_add_choices(const char *const *choices, const char *last, Buf *text)
{
	for (int i = 0; choices[i] != NULL; i++)
	{
		if (i > 0)
			buf_add_str(text, choices[i + 1] == NULL ? last : ", ");
		buf_add_str(text, choices[i]);
	}
}

static bool
arguments_is_choice(const char *const *choices, const char *text)
{
	for (; *choices != NULL; choices++)
		if (strcmp(*choices, text) == 0)
			return true;
	return false;
}

static bool
arguments_is_uuid(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	for (size_t i = 0; i < sizeof(form) - 1; i++)
		if (form[i] == 'x' ? !isxdigit((unsigned char) text[i])
						   : text[i] != form[i])
			return false;
	return text[sizeof(form) - 1] == '\0';
}

static bool
arguments_is_in_range(const ArgumentValue *value, const char *text, Buf *error)
{
	int64_t number;

	Assert(value->min >= 0 && value->min <= value->max);
	if (parse_number(text, &number) && number >= value->min &&
		number <= value->max)
		return true;
	if (value->max == INT64_MAX)
		buf_printf(error, "is not a number of at least %" PRId64, value->min);
	else
		buf_printf(error, "is not a number from %" PRId64 " to %" PRId64,
				   value->min, value->max);
	return false;
}

bool
arguments_check_value(const ArgumentValue *value, const char *text, Buf *error)
{
	int64_t ignored;

	Assert(error->len == 0);
	switch (value->type)
	{
		case ARGUMENT_FLAG:
			break;
		case ARGUMENT_TEXT:
		case ARGUMENT_FILE:
			if (text[0] == '\0')
				buf_add_str(error, "is empty");
			break;
		case ARGUMENT_CHOICE:
			if (arguments_is_choice(value->choices, text))
				break;
			buf_add_str(error, "is not ");
			arguments_add_choices(value->choices, " or ", error);
			break;
		case ARGUMENT_NUMBER:
			return arguments_is_in_range(value, text, error);
		case ARGUMENT_TIME:
			if (rfc3339_parse(text, &ignored) != RFC3339_VALID)
				buf_add_str(error, "is not a time such as " RFC3339_EXAMPLE);
			break;
		case ARGUMENT_POINT:
			if (!parse_number(text, &ignored) &&
				rfc3339_parse(text, &ignored) != RFC3339_VALID)
				buf_add_str(error, "is neither a number nor a time such "
								   "as " RFC3339_EXAMPLE);
			break;
		case ARGUMENT_UUID:
			if (!arguments_is_uuid(text))
				buf_add_str(error, "is not an event id, which is a UUID");
			break;
	}
	return error->len == 0;
}

/* The name of the value that is wrong goes before: "--since", or "ID". */
static bool
arguments_refuse_value(const ArgumentValue *value, const char *dashes,
					   const char *name, const char *text, Buf *error)
{
	Buf	 why = {0};
	bool good = arguments_check_value(value, text, &why);

	if (!good)
		buf_printf(error, "%s%s: \"%s\" %s", dashes, name, text, buf_str(&why));
	buf_free(&why);
	return !good;
}

/* ---- suggestions ------------------------------------------------------- */

/* The nearest to a misspelt word so far. */
typedef struct ArgumentNearest
{
	const char *word;
	const char *name; /* NULL: none is near */
	unsigned	distance;
} ArgumentNearest;

/* A word that is half another one is no misspelling. */
static void
arguments_look_near(ArgumentNearest *nearest, const char *name)
{
	size_t	 len = strlen(nearest->word);
	unsigned distance = spelling_distance(nearest->word, name);

	if (len >= 2 && strncmp(nearest->word, name, len) == 0)
		distance = Min(distance, 1);
	if (distance <= (len + 1) / 2 &&
		(nearest->name == NULL || distance < nearest->distance))
	{
		nearest->name = name;
		nearest->distance = distance;
	}
}

static void
arguments_suggest(const ArgumentNearest *nearest, const char *dashes,
				  Buf *error)
{
	if (nearest->name != NULL)
		buf_printf(error, ": the nearest is \"%s%s\"", dashes, nearest->name);
}

static void
arguments_refuse_command(const ArgumentTable *table, char **words,
						 const char *group, Buf *error)
{
	bool			second = group != NULL;
	char		   *whole = xasprintf("%s%s%s", words[0], second ? " " : "",
							  second ? words[1] : "");
	ArgumentNearest nearest = {.word = whole};

	for (int i = 0; i < table->command_count; i++)
	{
		const char *name = table->commands[i].name;

		if (group == NULL || arguments_begin_with(name, group))
			arguments_look_near(&nearest, name);
	}
	buf_printf(error, "unknown command \"%s\"", whole);
	arguments_suggest(&nearest, "", error);
	free(whole);
}

/* Of a group: which words may follow. */
static void
arguments_ask_second(const ArgumentTable *table, const char *group, Buf *error)
{
	const char *names[ARGUMENTS_MAX + 1] = {NULL};
	int			count = 0;

	for (int i = 0; i < table->command_count && count < ARGUMENTS_MAX; i++)
		if (arguments_begin_with(table->commands[i].name, group))
			names[count++] = table->commands[i].name + strlen(group) + 1;
	Assert(count > 0);
	buf_printf(error, "\"%s\" needs another word: ", group);
	arguments_add_choices(names, " or ", error);
}

/* ---- options ----------------------------------------------------------- */

static int
arguments_find_name(const ArgumentTable *table, const char *name)
{
	for (int i = 0; i < table->option_count; i++)
		if (strcmp(table->options[i].name, name) == 0)
			return i;
	Assert(!"an option of the table");
}

/* getopt's view of the table: each name once. */
static void
arguments_list_options(ArgumentParser *parser)
{
	const ArgumentTable *table = parser->table;
	char				*letter = parser->letters;
	int					 count = 0;

	Assert(table->option_count <= ARGUMENTS_MAX);
	*letter++ = ':'; /* no message of getopt's, and ':' for a missing value */
	for (int i = 0; i < table->option_count; i++)
	{
		const ArgumentOption *option = &table->options[i];
		int takes = option->value.type == ARGUMENT_FLAG ? no_argument
					: option->fallback != NULL			? optional_argument
														: required_argument;

		if (arguments_find_name(table, option->name) != i)
			continue;
		parser->known[count++] = (struct option){
			.name = option->name,
			.has_arg = takes,
			.val = INDEX_FROM + i,
		};
		if (option->letter == 0)
			continue;
		*letter++ = option->letter;
		for (int colons = 0; colons < takes; colons++)
			*letter++ = ':';
	}
	Assert(letter < parser->letters + sizeof(parser->letters));
	*letter = '\0';
}

/* The index of an option by what getopt_long() returned; -1: none has it. */
static int
arguments_index(const ArgumentTable *table, int found)
{
	Assert(found < INDEX_FROM + table->option_count);
	if (found >= INDEX_FROM)
		return found - INDEX_FROM;
	for (int i = 0; i < table->option_count; i++)
		if (found != 0 && table->options[i].letter == found)
			return i;
	return -1;
}

/* A long option that is unknown, or an abbreviation of several. */
static void
arguments_refuse_long(ArgumentParser *parser, const char *word)
{
	char		   *name = xasprintf("%.*s", (int) strcspn(word, "="), word);
	ArgumentNearest nearest = {.word = name + strspn(name, "-")};
	int				matches = 0;

	for (const struct option *known = parser->known; known->name; known++)
	{
		matches += strncmp(known->name, nearest.word, strlen(nearest.word)) ==
				   0;
		arguments_look_near(&nearest, known->name);
	}
	if (matches > 1 && nearest.word[0] != '\0')
	{
		buf_printf(parser->error, "option \"%s\" may be one of several:", name);
		for (const struct option *known = parser->known; known->name; known++)
			if (strncmp(known->name, nearest.word, strlen(nearest.word)) == 0)
				buf_printf(parser->error, " --%s", known->name);
	}
	else
	{
		buf_printf(parser->error, "unknown option \"%s\"", name);
		arguments_suggest(&nearest, "--", parser->error);
	}
	free(name);
}

/* What getopt_long() refused: found is ':' or '?'. */
static void
arguments_refuse_option(ArgumentParser *parser, int found, char **argv)
{
	int index = arguments_index(parser->table, optopt);

	if (index >= 0 && found == ':')
		buf_printf(parser->error, "option \"--%s\" needs a value: %s",
				   parser->table->options[index].name,
				   parser->table->options[index].value.label);
	else if (index >= 0)
		buf_printf(parser->error, "option \"--%s\" takes no value",
				   parser->table->options[index].name);
	else if (optopt != 0)
		buf_printf(parser->error, "unknown option \"-%c\"", optopt);
	else
		arguments_refuse_long(parser, argv[optind - 1]);
}

/* False, and the error, if it was given before: one would be ignored. */
static bool
arguments_take(ArgumentParser *parser, int index, int argc, char **argv)
{
	const ArgumentOption *option = &parser->table->options[index];
	const char			**value = &parser->arguments->values[index];
	bool				  flag = option->value.type == ARGUMENT_FLAG;

	if (*value != NULL && !flag)
	{
		buf_printf(parser->error, "option \"--%s\" is given twice",
				   option->name);
		return false;
	}
	*value = optarg;
	/* getopt takes an optional value only where it is part of the word */
	if (optarg == NULL && option->fallback != NULL && optind < argc &&
		isdigit((unsigned char) argv[optind][0]))
		*value = argv[optind++];
	if (*value == NULL)
		*value = flag ? "" : option->fallback;
	Assert(*value != NULL);
	return true;
}

/*
 * To the end also after an error, for the command may stand behind it; the
 * first error is reported.
 */
static bool
arguments_parse_options(ArgumentParser *parser, int argc, char **argv)
{
	bool good = true;
	int	 found;

	arguments_list_options(parser);
	optind = 0; /* from the start, also if it was used before */
	while ((found = getopt_long(argc, argv, parser->letters, parser->known,
								NULL)) != -1)
	{
		if (!good)
			continue;
		if (found == ':' || found == '?')
		{
			arguments_refuse_option(parser, found, argv);
			good = false;
		}
		else
			good = arguments_take(parser, arguments_index(parser->table, found),
								  argc, argv);
	}
	Assert(good == (parser->error->len == 0));
	return good;
}

/* ---- commands ---------------------------------------------------------- */

/* How many of the words are those of the name; 0 if not all of the name's. */
static int
arguments_match_words(const char *name, char **words, int count)
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

bool
arguments_begin_with(const char *name, const char *word)
{
	size_t len = strlen(word);

	return strncmp(name, word, len) == 0 && name[len] == ' ';
}

bool
arguments_find_command(const ArgumentTable *table, char **words, int count,
					   Arguments *arguments, Buf *error)
{
	int matched = 0;

	Assert(count > 0 && error->len == 0);
	arguments->command = table->command_count;
	arguments->group = NULL;
	for (int i = 0; i < table->command_count && matched == 0; i++)
	{
		const char *name = table->commands[i].name;

		matched = arguments_match_words(name, words, count);
		if (matched > 0)
			arguments->command = i;
		else if (arguments_begin_with(name, words[0]))
			arguments->group = words[0];
	}
	arguments->operands = words + matched;
	arguments->operand_count = count - matched;
	if (matched > 0)
		arguments->group = NULL;
	else if (arguments->group != NULL && count == 1)
		arguments_ask_second(table, arguments->group, error);
	else
		arguments_refuse_command(table, words, arguments->group, error);
	Assert((matched > 0) == (error->len == 0));
	return matched > 0;
}

/* The command decides which of two options of one name was meant. */
static void
arguments_settle_names(const ArgumentTable *table, Arguments *arguments)
{
	uint64_t allowed = table->common |
					   table->commands[arguments->command].allowed;

	for (int i = 0; i < table->option_count; i++)
	{
		int first = arguments_find_name(table, table->options[i].name);

		if (i == first || !(allowed & ARGUMENT_BIT(i)))
			continue;
		Assert(!(allowed & ARGUMENT_BIT(first)));
		arguments->values[i] = arguments->values[first];
		arguments->values[first] = NULL;
	}
}

static bool
arguments_check_options(const ArgumentTable *table, const Arguments *arguments,
						Buf *error)
{
	const ArgumentCommand *command = &table->commands[arguments->command];

	Assert(arguments->command < table->command_count);
	Assert((command->required & ~command->allowed) == 0);
	for (int i = 0; i < table->option_count && error->len == 0; i++)
	{
		const ArgumentOption *option = &table->options[i];
		const char			 *value = arguments->values[i];

		if (value == NULL)
		{
			if (command->required & ARGUMENT_BIT(i))
				buf_printf(error, "\"%s\" needs --%s", command->name,
						   option->name);
		}
		else if (!((table->common | command->allowed) & ARGUMENT_BIT(i)))
			buf_printf(error, "\"%s\" takes no --%s", command->name,
					   option->name);
		else
			(void) arguments_refuse_value(&option->value, "--", option->name,
										  value, error);
	}
	return error->len == 0;
}

static bool
arguments_check_operands(const ArgumentTable *table, const Arguments *arguments,
						 Buf *error)
{
	const ArgumentCommand *command = &table->commands[arguments->command];
	int					   count = arguments->operand_count;
	bool				   filtered = false;

	Assert(command->operands_min <= command->operands_max);
	for (int i = 0; i < table->option_count; i++)
		filtered = filtered || ((table->filters & ARGUMENT_BIT(i)) &&
								arguments->values[i] != NULL);
	if (count > command->operands_max)
		buf_printf(error, "\"%s\" does not know what to do with \"%s\"",
				   command->name, arguments->operands[command->operands_max]);
	else if (count < command->operands_min)
		buf_printf(error, "\"%s\" needs %s %s", command->name,
				   strchr("AEIOU", command->operand.label[0]) ? "an" : "a",
				   command->operand.label);
	else if (command->either && filtered == (count > 0))
		buf_printf(error, "\"%s\" needs either %ss or a filter", command->name,
				   command->operand.label);
	for (int i = 0; i < count && error->len == 0; i++)
		(void) arguments_refuse_value(&command->operand, "",
									  command->operand.label,
									  arguments->operands[i], error);
	return error->len == 0;
}

bool
arguments_parse(const ArgumentTable *table, int argc, char **argv,
				Arguments *arguments, Buf *error)
{
	ArgumentParser parser;
	Buf			   second = {0}; /* of two mistakes the first is reported */
	bool		   options;
	bool		   asks = false;
	bool		   named = false;

	*arguments = (Arguments){.command = table->command_count};
	parser = (ArgumentParser){table, arguments, error, {{0}}, ""};
	options = arguments_parse_options(&parser, argc, argv);
	for (int i = 0; i < table->option_count; i++)
		asks = asks || ((table->asking & ARGUMENT_BIT(i)) &&
						arguments->values[i] != NULL);
	if (optind < argc)
		named = arguments_find_command(table, argv + optind, argc - optind,
									   arguments, options ? error : &second);
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
	if (!named)
		return false;
	arguments_settle_names(table, arguments);
	return arguments_check_options(table, arguments, error) &&
		   arguments_check_operands(table, arguments, error);
}
