/*-------------------------------------------------------------------------
 *
 * inbox/attributes.c
 *	  Keeps the members of an incoming message that pgstock does not know.
 *
 * The event that answers the message has them too.  They are cut out of the
 * text, not built again: a number keeps its digits, and nothing is refused that
 * the parser accepted.  The text is a JSON object that was parsed before, so it
 * is valid.
 *
 * A member that looks like a card number or a secret (base/sensitive.c), or
 * that contains one at any depth, is left out as a whole.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

/* The position behind a string, from its opening quote. */
static const char *
attributes_skip_string(const char *at, const char *end)
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
attributes_skip_space(const char *at, const char *end)
{
	while (at < end && strchr(" \t\r\n", *at) != NULL)
		at++;
	return at;
}

/* The position behind a value: its comma, or the closing brace. */
static const char *
attributes_skip_value(const char *at, const char *end)
{
	int depth = 0;

	while (at < end)
	{
		if (*at == '"')
		{
			at = attributes_skip_string(at, end);
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
	Assert(false); /* a valid value ends */
	return end;
}

static bool
attributes_is_known(const char *name, int length, const char *const *known,
					int n)
{
	for (int i = 0; i < n; i++)
	{
		if ((int) strlen(known[i]) == length &&
			memcmp(known[i], name, length) == 0)
			return true;
	}
	return false;
}

/*
 * The object without its known members and those that look like card numbers or
 * secrets; NULL if there are no others.
 */
char *
attributes_cut(const char *object, int length, const char *const *known, int n)
{
	const char	  *end = object + length;
	const char	  *at = attributes_skip_space(object, end) + 1;
	StringInfoData json;

	Assert(at <= end && at[-1] == '{');
	initStringInfo(&json);
	for (;;)
	{
		const char *name = attributes_skip_space(at, end);
		const char *behind;

		if (name >= end || *name == '}')
			break;
		Assert(*name == '"');
		behind = attributes_skip_string(name, end);
		at = attributes_skip_value(behind, end);
		if (!attributes_is_known(name + 1, (int) (behind - name) - 2, known,
								 n) &&
			!sensitive_json(name, (int) (at - name)))
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
