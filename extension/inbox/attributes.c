/*-------------------------------------------------------------------------
 *
 * inbox/attributes.c
 *	  The members of an incoming message that pgstock does not know, as they
 *	  were written.
 *
 * They come back in the event that answers.  Cut out of the text rather than
 * built again: a number keeps its digits, and nothing can be refused that the
 * parser took.  The text is a JSON object that was parsed before, so it is
 * known to be valid.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

/* Behind the string that begins at its opening quote. */
static const char *
skip_string(const char *at, const char *end)
{
	Assert(*at == '"');
	for (at++; at < end && *at != '"'; at++)
	{
		if (*at == '\\')
			at++;
	}
	Assert(at < end);
	return at + 1;
}

static const char *
skip_space(const char *at, const char *end)
{
	while (at < end && strchr(" \t\r\n", *at) != NULL)
		at++;
	return at;
}

/* Behind the value that begins here: at its comma or closing brace. */
static const char *
skip_value(const char *at, const char *end)
{
	int depth = 0;

	while (at < end)
	{
		if (*at == '"')
		{
			at = skip_string(at, end);
			continue;
		}
		if (depth == 0 && (*at == ',' || *at == '}'))
			return at;
		if (*at == '{' || *at == '[')
			depth++;
		else if (*at == '}' || *at == ']')
			depth--;
		at++;
	}
	Assert(!"a value that ends");
	return end;
}

static bool
is_known(const char *name, int length, const char *const *known, int n)
{
	for (int i = 0; i < n; i++)
	{
		if ((int) strlen(known[i]) == length &&
			memcmp(known[i], name, length) == 0)
			return true;
	}
	return false;
}

/* The object's members of other names than the known ones; NULL if none. */
char *
attributes_cut(const char *object, int length, const char *const *known, int n)
{
	const char	  *end = object + length;
	const char	  *at = skip_space(object, end) + 1;
	StringInfoData json;

	Assert(at <= end && at[-1] == '{');
	initStringInfo(&json);
	for (;;)
	{
		const char *name = skip_space(at, end);
		const char *behind;

		if (name >= end || *name == '}')
			break;
		Assert(*name == '"');
		behind = skip_string(name, end);
		at = skip_value(behind, end);
		if (!is_known(name + 1, (int) (behind - name) - 2, known, n))
		{
			appendStringInfoChar(&json, json.len == 0 ? '{' : ',');
			appendBinaryStringInfo(&json, name, (int) (at - name));
		}
		if (at < end && *at == ',')
			at++;
	}
	if (json.len == 0)
		return NULL;
	appendStringInfoChar(&json, '}');
	return json.data;
}
