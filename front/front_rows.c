/*-------------------------------------------------------------------------
 *
 * front_rows.c
 *	  What the shards answer to a step of an order over shards: its rows.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "front.h"

PG_FUNCTION_INFO_V1(pgstock_front_outcome);
PG_FUNCTION_INFO_V1(pgstock_front_sorted);

/* Columns of stock_result. */
enum
{
	RESULT_PRODUCT_ID = 2,
	RESULT_LOCATION = 3,
	RESULT_GRANTED = 5,
	RESULT_STATUS = 6,
	RESULT_COLUMNS = 10,
};

/* A row of an answer, and the columns by which rows are sorted. */
typedef struct Line
{
	Datum row; /* text */
	char *product_id;
	char *location;
} Line;

/*
 * Splits the text of a stock_result, in place, into its columns, from 1; NULL
 * is empty.  A row of another version is rejected before any shard keeps it.
 */
static void
front_split_row(char *row, char *columns[RESULT_COLUMNS + 1])
{
	char *to = row;
	bool  is_quoted = false;
	int	  n = 1;

	columns[n] = to;
	for (const char *from = row + (*row == '('); *from != '\0'; from++)
	{
		if (!is_quoted && (*from == ',' || *from == ')'))
		{
			Assert(to <= from);
			*to++ = '\0';
			if (n++ < RESULT_COLUMNS)
				columns[n] = to;
		}
		else if (*from == '"' && !(is_quoted && from[1] == '"'))
			is_quoted = !is_quoted;
		else
		{
			if ((*from == '"' || *from == '\\') && from[1] != '\0')
				from++;
			Assert(to <= from);
			*to++ = *from;
		}
	}
	if (--n != RESULT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a shard returned a row of %d columns instead of %d", n,
						RESULT_COLUMNS),
				 errhint("pgstock_front.shard_status() shows the versions of "
						 "each shard.")));
}

/* The rows of an answer, which has at least one. */
static Datum *
front_rows(Datum answer, int *count)
{
	NullableDatum rows = front_column(answer, ANSWER_ROWS);
	Datum		 *elements = NULL;

	*count = 0;
	if (!rows.isnull)
		elements = front_elements(rows.value, TEXTOID, count);
	if (*count == 0)
		front_no_answer();
	Assert(elements != NULL);
	return elements;
}

/*
 * Returns how the shards have answered a hold or a keep: "failed" if one of
 * them has returned an error, "refused", "backordered" if a line is, or
 * "granted".  A shard grants all of its lines, or none.
 */
Datum
pgstock_front_outcome(PG_FUNCTION_ARGS)
{
	const char *outcome = "granted";
	int			count;
	Datum *answers = front_elements(PG_GETARG_DATUM(0), front_type("answer"),
									&count);

	if (count == 0)
		front_no_answer();
	for (int i = 0; i < count; i++)
		if (!front_column(answers[i], ANSWER_ERROR).isnull)
			PG_RETURN_TEXT_P(cstring_to_text("failed"));
	for (int i = 0; i < count; i++)
	{
		int	   nrows;
		Datum *rows = front_rows(answers[i], &nrows);

		for (int n = 0; n < nrows; n++)
		{
			char *columns[RESULT_COLUMNS + 1];

			front_split_row(TextDatumGetCString(rows[n]), columns);
			if (columns[RESULT_GRANTED][0] == '\0')
				front_no_answer();
			if (strcmp(columns[RESULT_GRANTED], "0") == 0)
				outcome = "refused";
			else if (strcmp(columns[RESULT_STATUS], "backordered") == 0 &&
					 strcmp(outcome, "granted") == 0)
				outcome = "backordered";
		}
	}
	PG_RETURN_TEXT_P(cstring_to_text(outcome));
}

static int
front_compare_lines(const void *one, const void *other)
{
	const Line *a = one;
	const Line *b = other;
	int			order = strcmp(a->product_id, b->product_id);

	return order != 0 ? order : strcmp(a->location, b->location);
}

/* Returns the rows of all answers, sorted by product and location. */
Datum
pgstock_front_sorted(PG_FUNCTION_ARGS)
{
	int	   count;
	int	   nlines = 0;
	Datum *answers = front_elements(PG_GETARG_DATUM(0), front_type("answer"),
									&count);
	Line  *lines = palloc(sizeof(Line));
	Datum *sorted;

	for (int i = 0; i < count; i++)
	{
		int	   nrows;
		Datum *rows = front_rows(answers[i], &nrows);

		lines = repalloc(lines, (nlines + nrows) * sizeof(Line));
		for (int n = 0; n < nrows; n++)
		{
			char *columns[RESULT_COLUMNS + 1];

			front_split_row(TextDatumGetCString(rows[n]), columns);
			lines[nlines++] = (Line){
				.row = rows[n],
				.product_id = columns[RESULT_PRODUCT_ID],
				.location = columns[RESULT_LOCATION],
			};
		}
	}
	Assert(nlines >= count);
	qsort(lines, nlines, sizeof(Line), front_compare_lines);
	sorted = palloc((nlines + 1) * sizeof(Datum));
	for (int i = 0; i < nlines; i++)
		sorted[i] = lines[i].row;
	PG_RETURN_DATUM(front_array(sorted, nlines, TEXTOID));
}
