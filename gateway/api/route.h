/*
 * route.h - the resources of the API: one table for parsing, access, metrics
 * and the description that /openapi.json returns
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_ROUTE_H
#define PGSTOCK_GATEWAY_ROUTE_H

#include "access/tokens.h"
#include "api/field.h"
#include "common/pg_connection.h"
#include "http/problem_table.h"

/* How a request becomes an answer. */
typedef enum RouteKind
{
	ROUTE_RESERVE, /* gathered into batches: api/reserve.c */
	ROUTE_LINES,   /* a statement that returns rows of stock_result */
	ROUTE_TAKE,	   /* the same, and 201 where they are granted */
	ROUTE_JSON,	   /* a statement that returns status, body, entity tag */
	ROUTE_EVENT,   /* the same, or a wait for it: api/receipts.c */
	ROUTE_LIST,	   /* a statement that returns a page: api/list.c */
	ROUTE_LIVE,	   /* a statement that returns an event: api/live.c */
	ROUTE_ABOUT,   /* of this process: health, metrics, description */
	ROUTE_FILE,	   /* of the console */
} RouteKind;

#define KIND_BIT(kind) (1u << (kind)) /* in a set of kinds */

/* What an answer may be that is no problem: a set of these. */
typedef enum RouteAnswer
{
	ANSWER_DONE = 1,	   /* 200 */
	ANSWER_NEW = 2,		   /* 201; 200: it was there before */
	ANSWER_LATER = 4,	   /* 202 */
	ANSWER_SAME = 8,	   /* 304, of a ROUTE_FILE */
	ANSWER_ELSEWHERE = 16, /* 308 */
	ANSWER_NOT_READY = 32, /* 503, of a ROUTE_ABOUT */
} RouteAnswer;

typedef enum RouteAbout
{
	ABOUT_LIVE,
	ABOUT_READY,
	ABOUT_HEALTH,
	ABOUT_METRICS,
	ABOUT_DESCRIPTION,
	ABOUT_CLIENT,
} RouteAbout;

typedef struct Route
{
	const char	*method;
	const char	*path; /* "{name}" stands for a field IN_PATH */
	RouteKind	 kind;
	bool		 open;		/* needs no token */
	unsigned	 roles;		/* the set of those that may call it */
	const char	*operation; /* its name: of the statement and in OpenAPI */
	const char	*summary;
	const char	*sql;
	const Field *fields;  /* in the order of the statement's parameters */
	const char	*returns; /* its JSON, in schemas.json: of a ROUTE_LIST a row */
	unsigned	 answers;
	ProblemId	 missing; /* of a ROUTE_JSON: where there is no such thing */
	RouteAbout	 about;	  /* of a ROUTE_ABOUT */
} Route;

/*
 * Another statement of a route: where its last field, which is no parameter,
 * is 1.
 */
typedef struct RouteFlag
{
	const char *operation; /* of the route */
	const char *name;	   /* of the statement */
	unsigned	roles;	   /* that may have it */
	const char *sql;
} RouteFlag;

#define ROUTES_MAX 56

extern const Route routes[];
extern const int   route_count;

extern const RouteFlag route_flags[];
extern const int	   route_flag_count;

/* The role whose sessions it uses: the least of those that may call it. */
Role route_role(const Route *route) MUST_CHECK;

/* The roles that may send a request with these values. */
unsigned route_roles(const Route *route, const Values *values) MUST_CHECK;

/* The statement of a request. */
PgStatement route_statement(const Route *route, const Values *values);

/*
 * The route of a request, and the fields of its path in *values.  NULL if there
 * is none: *allowed then holds the methods of the path, if it is one, and
 * *error what is wrong with a field of it.  without: a set of kinds that are
 * not served.
 */
const Route *route_find(const char *method, const char *path, unsigned without,
						Values *values, Buf *allowed, Buf *error) MUST_CHECK;

/* The description of the API, OpenAPI 3.1, without these kinds of routes. */
void openapi_render(unsigned without, Buf *json);

#endif
