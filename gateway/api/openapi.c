/*
 * openapi.c - the description of the API, OpenAPI 3.1, from the table of routes
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <string.h>

#include "api/form.h"
#include "api/repeat.h"
#include "api/route.h"
#include "common/embed.h"
#include "common/json.h"

EMBED(openapi_schemas, "api/schemas.json");

static void
openapi_add_text(Buf *json, const char *name, const char *value)
{
	buf_printf(json, "\"%s\":", name);
	json_add_string(json, value);
}

static const char *
openapi_place(FieldPlace place)
{
	return place == IN_PATH ? "path" : place == IN_QUERY ? "query" : "header";
}

static void
openapi_add_parameters(Buf *json, const Field *fields)
{
	bool any = false;

	buf_add_str(json, "\"parameters\":[");
	for (; fields->name != NULL; fields++)
	{
		if (fields->place == IN_BODY)
			continue;
		Assert(fields->help != NULL);
		/* OpenAPI has no optional part of a path */
		Assert(fields->place != IN_PATH || fields->required);
		buf_printf(json, "%s{\"name\":\"%s\",\"in\":\"%s\",\"required\":%s,",
				   any ? "," : "", fields->name, openapi_place(fields->place),
				   fields->required ? "true" : "false");
		openapi_add_text(json, "description", fields->help);
		buf_add_str(json, ",\"schema\":");
		form_add_schema(fields, json);
		buf_add_str(json, "}");
		any = true;
	}
	buf_add_str(json, "]");
}

/* Whether there are any. */
static bool
openapi_add_required(Buf *json, const Field *fields)
{
	bool any = false;

	for (; fields->name != NULL; fields++)
		if (fields->place == IN_BODY && fields->required)
		{
			buf_printf(json, "%s\"%s\"", any ? "," : ",\"required\":[",
					   fields->name);
			any = true;
		}
	buf_add_str(json, any ? "]" : "");
	return any;
}

static void
openapi_add_body(Buf *json, const Field *fields)
{
	bool any = false;
	bool required;

	for (const Field *f = fields; f->name != NULL; f++)
	{
		if (f->place != IN_BODY)
			continue;
		Assert(f->help != NULL);
		buf_printf(json, "%s\"%s\":{",
				   any ? "},"
					   : ",\"requestBody\":{\"content\":{\"application/json\":{"
						 "\"schema\":{\"type\":\"object\","
						 "\"additionalProperties\":false,\"properties\":{",
				   f->name);
		openapi_add_text(json, "description", f->help);
		buf_add_str(json, ",\"anyOf\":[");
		form_add_schema(f, json);
		buf_add_str(json, f->required ? "]" : ",{\"type\":\"null\"}]");
		any = true;
	}
	if (!any)
		return;
	buf_add_str(json, "}}");
	required = openapi_add_required(json, fields);
	buf_printf(json, "}}}%s}", required ? ",\"required\":true" : "");
}

static void
openapi_add_schema(Buf *json, const Route *route)
{
	bool list = route->kind == ROUTE_LIST;

	Assert(route->returns != NULL || !list);
	if (list)
		buf_add_str(json,
					"{\"type\":\"object\",\"required\":[\"rows\",\"next\"],"
					"\"properties\":{\"rows\":{\"type\":\"array\","
					"\"items\":");
	buf_add_str(json, "{");
	if (route->returns != NULL)
		buf_printf(json, "\"$ref\":\"#/components/schemas/%s\"",
				   route->returns);
	buf_add_str(json, "}");
	if (list)
		buf_add_str(json, "},\"next\":{\"$ref\":"
						  "\"#/components/schemas/Next\"}}}");
}

/* The answers that are no problem, and what each means. */
static const struct
{
	RouteAnswer answer;
	unsigned	status;
	const char *meaning;
} answers[] = {
	{ANSWER_DONE, 200, "It is done"},
	{ANSWER_NEW, 201, "It is new"},
	{ANSWER_LATER, 202, "Its outcome is later: GET it (again)"},
	{ANSWER_SAME, 304, "It is as If-None-Match has it"},
	{ANSWER_ELSEWHERE, 308, "It is where the header Location says"},
	{ANSWER_NOT_READY, 503, "Requests cannot be answered now"},
};

static void
openapi_add_answer(Buf *json, const Route *route, unsigned status,
				   const char *meaning)
{
	buf_printf(json,
			   "\"%u\":{\"description\":\"%s\",\"content\":{\"%s\":{"
			   "\"schema\":",
			   status, meaning,
			   route->returns != NULL ? "application/json" : "*/*");
	openapi_add_schema(json, route);
	buf_printf(json, "}%s}},",
			   route->kind == ROUTE_LIST
				   ? ",\"text/csv\":{\"schema\":{\"type\":\"string\"}}"
				   : "");
}

static bool
openapi_has_field(const Route *route, FieldType type)
{
	for (const Field *field = route->fields; field->name != NULL; field++)
		if (field->type == type)
			return true;
	return false;
}

/*
 * Whether it may answer with a problem of the status: as far as the table of
 * routes tells, and the status is one that its client may do something about.
 * The others are "default".
 */
static bool
openapi_may_fail(const Route *route, unsigned status)
{
	switch (status)
	{
		case 400:
			return true;
		case 401:
		case 403:
		case 429:
			return !route->open;
		case 404: /* what it names, in its path or a line */
			return !repeat_is_read(route) || strchr(route->path, '{') != NULL;
		case 409: /* as the state of what it would change does not allow it */
			return !repeat_is_read(route);
		case 412:
			return openapi_has_field(route, FIELD_VERSION);
		case 422: /* a purchase's order is its key */
			return openapi_has_field(route, FIELD_KEY) ||
				   route->kind == ROUTE_TAKE;
		case 503:
			return route->sql != NULL;
		default:
			return false;
	}
}

/*
 * Whether the problem is the first one of its status, and a route may answer
 * with that.
 */
static bool
openapi_is_listed(int problem)
{
	unsigned status = problems[problem].status;

	for (int i = 0; i < problem; i++)
		if (problems[i].status == status)
			return false;
	for (int i = 0; i < route_count; i++)
		if (openapi_may_fail(&routes[i], status))
			return true;
	return false;
}

static void
openapi_add_problems(Buf *json, const Route *route)
{
	for (int i = 0; i < PROBLEMS; i++)
		if (openapi_is_listed(i) && openapi_may_fail(route, problems[i].status))
			buf_printf(json,
					   "\"%u\":{\"$ref\":\"#/components/responses/"
					   "Problem%u\"},",
					   problems[i].status, problems[i].status);
	buf_add_str(json,
				"\"default\":{\"$ref\":\"#/components/responses/Problem\"}}");
}

static void
openapi_add_responses(Buf *json, const Route *route)
{
	bool takes = (route->answers & ANSWER_NEW) != 0;

	Assert(route->answers != 0); /* none can only fail */
	buf_add_str(json, ",\"responses\":{");
	for (size_t i = 0; i < Lengthof(answers); i++)
		if ((route->answers & answers[i].answer) != 0)
			openapi_add_answer(json, route, answers[i].status,
							   takes && answers[i].answer == ANSWER_DONE
								   ? "It was done before: nothing changed"
								   : answers[i].meaning);
	openapi_add_problems(json, route);
}

#define PROBLEM_CONTENT                                         \
	",\"content\":{\"" PROBLEM_TYPE "\":{\"schema\":{\"$ref\":" \
	"\"#/components/schemas/Problem\"}}}}"

/* A problem of each status, with the last part of the types that it may be. */
static void
openapi_add_problem_responses(Buf *json)
{
	buf_add_str(json,
				"{\"Problem\":{\"description\":\"A problem\"" PROBLEM_CONTENT);
	for (int i = 0; i < PROBLEMS; i++)
	{
		if (!openapi_is_listed(i))
			continue;
		buf_printf(json, ",\"Problem%u\":{\"description\":\"A problem: %s",
				   problems[i].status, problems[i].name);
		for (int j = i + 1; j < PROBLEMS; j++)
			if (problems[j].status == problems[i].status)
				buf_printf(json, ", %s", problems[j].name);
		buf_add_str(json, "\"" PROBLEM_CONTENT);
	}
	buf_add_str(json, "}");
}

static void
openapi_add_roles(Buf *json, const Route *route)
{
	bool any = false;

	buf_add_str(json, ",\"description\":\"For the roles");
	for (int role = 0; role < ROLES; role++)
		if ((route->roles & ROLE_BIT(role)) != 0)
		{
			buf_printf(json, "%s %s", any ? "," : "", role_names[role]);
			any = true;
		}
	buf_add_str(json, ".\"");
}

static void
openapi_add_operation(Buf *json, const Route *route)
{
	Assert(route->open || route->roles != 0);
	for (const char *m = route->method; *m != '\0'; m++)
		buf_printf(json, "%s%c", m == route->method ? "\"" : "", *m | 0x20);
	buf_add_str(json, "\":{");
	openapi_add_text(json, "operationId", route->operation);
	buf_add_str(json, ",");
	openapi_add_text(json, "summary", route->summary);
	if (!route->open)
		openapi_add_roles(json, route);
	buf_printf(json, ",\"security\":[%s],",
			   route->open ? "" : "{\"token\":[]}");
	openapi_add_parameters(json, route->fields);
	openapi_add_body(json, route->fields);
	openapi_add_responses(json, route);
	buf_add_str(json, "}");
}

/* Whether an earlier route has the same path. */
static bool
openapi_is_repeated(int route)
{
	for (int i = 0; i < route; i++)
		if (strcmp(routes[i].path, routes[route].path) == 0)
			return true;
	return false;
}

static void
openapi_add_path(Buf *json, int first)
{
	buf_printf(json, "\"%s\":{", routes[first].path);
	for (int i = first; i < route_count; i++)
	{
		if (strcmp(routes[i].path, routes[first].path) != 0)
			continue;
		if (i > first)
			buf_add_str(json, ",");
		openapi_add_operation(json, &routes[i]);
	}
	buf_add_str(json, "}");
}

void
openapi_render(unsigned without, Buf *json)
{
	const char *comma = "";

	buf_add_str(json, "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"pgstock\","
					  "\"version\":\"" PGSTOCK_VERSION "\",\"description\":"
					  "\"Stock in PostgreSQL, over HTTP. The header "
					  "Idempotency-Key is refused by operations that change "
					  "something and do not have it, If-Match by all that do "
					  "not.\"},"
					  "\"paths\":{");
	for (int i = 0; i < route_count; i++)
	{
		if (openapi_is_repeated(i) || (KIND_BIT(routes[i].kind) & without) != 0)
			continue;
		buf_add_str(json, comma);
		openapi_add_path(json, i);
		comma = ",";
	}
	buf_add_str(json, "},\"components\":{\"securitySchemes\":{\"token\":{"
					  "\"type\":\"http\",\"scheme\":\"bearer\"}},"
					  "\"responses\":");
	openapi_add_problem_responses(json);
	buf_add_str(json, ",\"schemas\":");
	buf_add_str(json, openapi_schemas);
	buf_add_str(json, "}}\n");
}
