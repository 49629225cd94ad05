/*
 * field.h - the fields of a request: where each stands, and what it may be
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_FIELD_H
#define PGSTOCK_GATEWAY_FIELD_H

#include <jansson.h>

#include "http/server.h"

#define FIELDS_MAX 10

typedef enum FieldPlace
{
	IN_PATH,
	IN_BODY,
	IN_QUERY,
	IN_HEADER,
} FieldPlace;

typedef enum FieldType
{
	FIELD_ID,		/* text of 1 to 255 bytes; in JSON an integer too */
	FIELD_KEY,		/* the same text, or a string of RFC 8941; of a header */
	FIELD_TEXT,		/* text of 1 to 2000 bytes */
	FIELD_QUANTITY, /* integer, 1 to 2^53 */
	FIELD_AMOUNT,	/* integer, 0 to 2^53 */
	FIELD_DELTA,	/* integer, -2^53 to 2^53 */
	FIELD_LIMIT,	/* integer: rows of a page */
	FIELD_BOOLEAN,	/* in a query 1 or 0 */
	FIELD_TTL,		/* integer: seconds; 0: for ever */
	FIELD_TIME,		/* RFC 3339 */
	FIELD_ITEMS,	/* lines: product_id, quantity, location */
	FIELD_OBJECT,	/* any object: the whole body, of which SQL takes it */
	FIELD_VERSION,	/* of a level, as an entity tag: "7"; any: * */
	FIELD_UUID,		/* of an event */
	FIELD_FAILURE,	/* state of a failed message */
	FIELD_ORDER_STATE,
	FIELD_WAIT, /* duration, up to 1m; the last field, and no parameter */
} FieldType;

typedef struct Field
{
	const char *name;
	FieldPlace	place;
	FieldType	type;
	bool		required;
	const char *help;
} Field;

/* Behind the last one of a route. */
#define FIELDS_END \
	{              \
		0          \
	}

/* The values, by field, as the texts that SQL takes; NULL: null. */
typedef struct Values
{
	char *text[FIELDS_MAX];
} Values;

void values_free(Values *values);

/*
 * Reads the fields of the body (an empty one is an object without members), of
 * the query and of the headers; those of the path are there already.  False,
 * and one sentence in *error, if a value is not what its field may be, a
 * required one is missing, or the body has a member that is no field.
 */
bool fields_read(const Field *fields, const HttpRequest *request,
				 Values *values, Buf *error) MUST_CHECK;

/* Whether any of them is in the body. */
bool fields_have_body(const Field *fields) MUST_CHECK;

/* The part of it that reads the body. */
bool fields_read_members(const Field *fields, const Buf *body, Values *values,
						 Buf *error) MUST_CHECK;

/* Sets a field of the path; the same. */
bool field_set_path(const Field *field, const char *text, size_t len,
					char **value, Buf *error) MUST_CHECK;

#endif
