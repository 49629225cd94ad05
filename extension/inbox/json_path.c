/*-------------------------------------------------------------------------
 *
 * inbox/json_path.c
 *	  Paths to a value in a JSON document, such as $.data.lines[0]['unit id'].
 *
 * Of JSONPath (RFC 9535) a path has members and indexes only, so it leads to
 * one value at most and its cost is its length.  Names are compared as UTF-8,
 * as jansson has them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "mb/pg_wchar.h"

#include "inbox/inbox.h"

#define JSON_PATH_STEPS_MAX 16
#define JSON_PATH_BYTES_MAX 500
#define JSON_PATH_INDEX_MAX 99999

/* A path while it is parsed. */
typedef struct PathParser
{
	const char *at;
	const char *fault; /* NULL: none yet */
	JsonPath   *path;
} PathParser;

static JsonStep *
json_path_add(PathParser *parser)
{
	JsonPath *path = parser->path;

	if (path->n == JSON_PATH_STEPS_MAX)
	{
		parser->fault = "has more than 16 steps";
		return NULL;
	}
	return &path->steps[path->n++];
}

static bool
json_path_is_name_char(char c)
{
	return isalnum((unsigned char) c) || c == '_' || c == '-' ||
		   IS_HIGHBIT_SET(c);
}

/* .name */
static void
json_path_parse_member(PathParser *parser)
{
	const char *name = ++parser->at;
	JsonStep   *step;

	while (json_path_is_name_char(*parser->at))
		parser->at++;
	if (parser->at == name)
	{
		parser->fault = *name == '*' || *name == '.'
							? "selects more than one value"
							: "has no name behind a period";
		return;
	}
	step = json_path_add(parser);
	if (step != NULL)
		step->name = pnstrdup(name, parser->at - name);
}

/* The rest of ['name'] or ["name"], from its quote on. */
static void
json_path_parse_quoted(PathParser *parser)
{
	char	  quote = *parser->at++;
	char	 *name = palloc(strlen(parser->at) + 1);
	int		  length = 0;
	JsonStep *step;

	while (*parser->at != quote && *parser->at != '\0')
	{
		if (*parser->at == '\\' && strchr("'\"\\", parser->at[1]) != NULL &&
			parser->at[1] != '\0')
			parser->at++;
		else if (*parser->at == '\\')
		{
			parser->fault = "has an escape other than \\', \\\" and \\\\";
			return;
		}
		name[length++] = *parser->at++;
	}
	name[length] = '\0';
	if (parser->at[0] != quote || parser->at[1] != ']')
	{
		parser->fault = "has a name in brackets that does not end";
		return;
	}
	parser->at += 2;
	step = json_path_add(parser);
	if (step != NULL)
		step->name = name;
}

/* The rest of [0]. */
static void
json_path_parse_index(PathParser *parser)
{
	const char *digits = parser->at;
	int			index = 0;
	JsonStep   *step;

	while (*parser->at >= '0' && *parser->at <= '9' &&
		   index <= JSON_PATH_INDEX_MAX)
		index = index * 10 + (*parser->at++ - '0');
	if (strchr("*?:,@(", *parser->at) != NULL && *parser->at != '\0')
		parser->fault = "selects more than one value";
	else if (parser->at == digits || *parser->at != ']')
		parser->fault = "has brackets around neither a quoted name nor an "
						"index from 0 to 99999";
	else if (index > JSON_PATH_INDEX_MAX)
		parser->fault = "has an index above 99999";
	if (parser->fault != NULL)
		return;
	parser->at++;
	step = json_path_add(parser);
	if (step != NULL)
		step->index = index;
}

/*
 * The path of a text in the database's encoding; NULL and *fault if it is
 * none.
 */
JsonPath *
json_path_parse(const char *string, const char **fault)
{
	PathParser parser = {
		.path = palloc0(sizeof(JsonPath) +
						JSON_PATH_STEPS_MAX * sizeof(JsonStep))};
	int length = strlen(string);

	if (length > JSON_PATH_BYTES_MAX)
		parser.fault = "is longer than 500 bytes";
	else if (!text_is_convertible(string))
		parser.fault = "has a character that UTF-8 does not have";
	else if (string[0] != '$')
		parser.fault = "does not begin with $";
	if (parser.fault == NULL)
	{
		const char *utf8 = text_to_utf8(string, length, &length);

		parser.at = pnstrdup(utf8, length) + 1;
	}
	while (parser.fault == NULL && *parser.at != '\0')
	{
		if (parser.at[0] == '.')
			json_path_parse_member(&parser);
		else if (parser.at[0] != '[')
			parser.fault = "has something other than .name and [index] in it";
		else if (*++parser.at == '\'' || *parser.at == '"')
			json_path_parse_quoted(&parser);
		else
			json_path_parse_index(&parser);
	}
	*fault = parser.fault;
	Assert(parser.path->n <= JSON_PATH_STEPS_MAX);
	return parser.fault == NULL ? parser.path : NULL;
}

/* The value that a path leads to, or NULL. */
json_t *
json_path_find(const JsonPath *path, json_t *root)
{
	json_t *value = root;

	for (int i = 0; i < path->n && value != NULL; i++)
	{
		const JsonStep *step = &path->steps[i];

		/* both return NULL for a value of another kind */
		value = step->name != NULL ? json_object_get(value, step->name)
								   : json_array_get(value, step->index);
	}
	return value;
}
