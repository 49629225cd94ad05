/*-------------------------------------------------------------------------
 *
 * inbox/attributes.c
 *	  Keeps the members of an incoming message that pgstock does not know.
 *
 * The event that answers the message has them too, as far as the binding's
 * policy allows: all of them, none, or those that it lists.  They are cut out
 * of the text, not built again: a number keeps its digits, and nothing is
 * refused that the parser accepted.  The text is a JSON object that was parsed
 * before, so it is valid, and not nested more deeply than jansson allows.
 *
 * What pgstock has read is left out: the members that it knows by name, and
 * what the paths of a binding lead to.  Under the policy "all" so is a member
 * that looks like a card number or a secret (base/sensitive.c), or that
 * contains one at any depth, for the event goes to more readers than the
 * message did.  Such a member is passed on only if it is listed.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <jansson.h>

#include "lib/stringinfo.h"

#include "inbox/inbox.h"

/* A text that is cut. */
typedef struct Cutter
{
	const char			  *at;
	const char			  *end;
	const AttributePolicy *policy;
	const FieldMap		  *map;
	StringInfoData		   json;
} Cutter;

/* ---- The text ---- */

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

/* The position behind a value, from its first byte. */
static const char *
attributes_skip_value(const char *at, const char *end)
{
	int depth = 0;

	do
	{
		if (*at == '"')
			at = attributes_skip_string(at, end);
		else if (depth == 0 && *at != '{' && *at != '[')
			while (at < end && strchr(" \t\r\n,]}", *at) == NULL)
				at++;
		else
		{
			if (*at == '{' || *at == '[')
				depth++;
			else if (*at == '}' || *at == ']')
				depth--;
			at++;
		}
	} while (depth > 0 && at < end);
	Assert(depth == 0);
	return at;
}

/* A member's name and the text of its value. */
typedef struct Member
{
	const char *text; /* of the name, with its quotes */
	int			text_length;
	const char *name; /* without escapes */
	int			length;
	const char *value;
} Member;

/* A name with its escapes resolved, as jansson has it. */
static void
attributes_decode_name(Member *member)
{
	json_t *decoded;

	member->name = member->text + 1;
	member->length = member->text_length - 2;
	if (memchr(member->name, '\\', member->length) == NULL)
		return;
	decoded = json_loadb(member->text, member->text_length, JSON_DECODE_ANY,
						 NULL);
	Assert(json_is_string(decoded));
	member->length = json_string_length(decoded);
	member->name = pnstrdup(json_string_value(decoded), member->length);
	json_decref(decoded);
}

/*
 * The next member of an object, from behind its brace or the member before it;
 * false at its end, and the position is behind the brace then.
 */
static bool
attributes_next_member(const char **at, const char *end, Member *member)
{
	const char *next = attributes_skip_space(*at, end);

	if (next < end && *next == ',')
		next = attributes_skip_space(next + 1, end);
	*at = next + 1;
	if (next >= end || *next == '}')
		return false;
	member->text = next;
	member->text_length = attributes_skip_string(next, end) - next;
	attributes_decode_name(member);
	next = attributes_skip_space(next + member->text_length, end);
	Assert(*next == ':');
	member->value = attributes_skip_space(next + 1, end);
	*at = member->value;
	return true;
}

/* The text of a member's value; NULL if the object has no such member. */
const char *
attributes_find(const char *object, int length, const char *name,
				int *value_length)
{
	const char *end = object + length;
	const char *at = attributes_skip_space(object, end) + 1;
	Member		member;

	Assert(at <= end && at[-1] == '{');
	while (attributes_next_member(&at, end, &member))
	{
		at = attributes_skip_value(member.value, end);
		*value_length = at - member.value;
		if (field_name_is(name, member.name, member.length))
			return member.value;
	}
	return NULL;
}

/* ---- Cutting ---- */

/*
 * The paths that lead through a member at this depth, of those that lead to its
 * object.  *ends: one of them leads to the member itself.
 */
static uint32
attributes_follow(const Cutter *cutter, uint32 paths, int depth,
				  const Member *member, bool *ends)
{
	uint32 through = 0;

	*ends = false;
	for (FieldId id = 0; paths != 0 && id < FIELDS; id++)
	{
		const JsonPath *path = (paths & (1U << id)) ? cutter->map->paths[id]
													: NULL;
		const JsonStep *step;

		if (path == NULL || path->n <= depth)
			continue;
		step = &path->steps[depth];
		if (step->name == NULL ||
			!field_name_is(step->name, member->name, member->length))
			continue;
		if (path->n == depth + 1)
			*ends = true;
		else
			through |= 1U << id;
	}
	return through;
}

static bool attributes_copy_member(Cutter *cutter, const Member *member,
								   uint32 through, int depth);

/*
 * Copies what may be passed on of an object, which paths lead through; false if
 * nothing is left of what it had.
 */
static bool
attributes_copy_object(Cutter *cutter, uint32 paths, int depth)
{
	bool   had_members = false;
	bool   is_first = true;
	Member member;

	Assert(*cutter->at == '{');
	cutter->at++;
	appendStringInfoChar(&cutter->json, '{');
	while (attributes_next_member(&cutter->at, cutter->end, &member))
	{
		int	   before = cutter->json.len;
		bool   ends;
		uint32 through = attributes_follow(cutter, paths, depth, &member,
										   &ends);

		had_members = true;
		if (through == 0 || *member.value != '{')
			cutter->at = attributes_skip_value(member.value, cutter->end);
		if (ends || (depth == 0 &&
					 field_is_known(cutter->map, member.name, member.length)))
		{
			cutter->at = attributes_skip_value(member.value, cutter->end);
			continue;
		}
		if (!is_first)
			appendStringInfoChar(&cutter->json, ',');
		if (attributes_copy_member(cutter, &member, through, depth))
			is_first = false;
		else
		{
			cutter->json.len = before;
			cutter->json.data[before] = '\0';
		}
	}
	appendStringInfoChar(&cutter->json, '}');
	return !(had_members && is_first);
}

/*
 * Copies a member; false if nothing of it may be passed on.  The position is
 * behind it, or at its value if paths lead through that: then its name alone
 * can rule it out.
 */
static bool
attributes_copy_member(Cutter *cutter, const Member *member, uint32 through,
					   int depth)
{
	bool is_whole = cutter->at > member->value;
	int	 length = cutter->at - member->text;

	if (sensitive_json(member->text, length))
	{
		if (!is_whole)
			cutter->at = attributes_skip_value(member->value, cutter->end);
		return false;
	}
	appendBinaryStringInfo(&cutter->json, member->text, length);
	return is_whole || attributes_copy_object(cutter, through, depth + 1);
}

/* Copies the members that the policy lists, as they are. */
static bool
attributes_copy_listed(Cutter *cutter)
{
	Member member;
	bool   is_first = true;

	cutter->at++;
	while (attributes_next_member(&cutter->at, cutter->end, &member))
	{
		bool listed = false;

		cutter->at = attributes_skip_value(member.value, cutter->end);
		for (int i = 0; i < cutter->policy->n && !listed; i++)
			listed = field_name_is(cutter->policy->names[i], member.name,
								   member.length);
		if (!listed)
			continue;
		appendStringInfoChar(&cutter->json, is_first ? '{' : ',');
		appendBinaryStringInfo(&cutter->json, member.text,
							   cutter->at - member.text);
		is_first = false;
	}
	appendStringInfoChar(&cutter->json, '}');
	return !is_first;
}

/*
 * What an answer may repeat of a JSON object in UTF-8; NULL if that is nothing.
 */
char *
attributes_cut(const char *object, int length, const AttributePolicy *policy,
			   const FieldMap *map)
{
	Cutter cutter = {.end = object + length, .policy = policy, .map = map};
	uint32 paths = 0;
	bool   is_left = false;

	if (policy->mode == ATTRIBUTES_NONE)
		return NULL;
	for (FieldId id = 0; id <= field_last(map); id++)
	{
		if (field_is_mapped(map, id))
			paths |= 1U << id;
	}
	initStringInfo(&cutter.json);
	cutter.at = attributes_skip_space(object, cutter.end);
	Assert(cutter.at < cutter.end && *cutter.at == '{');
	if (policy->mode == ATTRIBUTES_LISTED)
		is_left = attributes_copy_listed(&cutter);
	else
		is_left = attributes_copy_object(&cutter, paths, 0) &&
				  cutter.json.len > 2;
	return is_left ? cutter.json.data : NULL;
}
