/*
 * form.h - what a value of a request may be: the form of each type of field
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#ifndef PGSTOCK_GATEWAY_FORM_H
#define PGSTOCK_GATEWAY_FORM_H

#include "api/field.h"

/* The largest value of pgstock.max_lines: the database has the one in force. */
#define FORM_ITEMS_MAX 100000
#define FORM_ROWS	   100 /* of a page, where the request has no "limit" */
#define FORM_ROWS_MAX  1000

/* Appends a sentence about a field; false. */
bool form_fault(const char *name, Buf *error, const char *what);

/*
 * Sets the value of a field to a text that a body, path, query or header has.
 * False, and one sentence in *error, if it is not what the field may be.
 */
bool form_set_text(const Field *field, const char *text, char **value,
				   Buf *error) MUST_CHECK;

/* The same, of an integer. */
bool form_set_integer(const Field *field, int64_t number, char **value,
					  Buf *error) MUST_CHECK;

/* What the field may be, as JSON Schema; for the API's description. */
void form_add_schema(const Field *field, Buf *json);

#endif
