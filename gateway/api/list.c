/*
 * list.c - rows of any columns as an answer: JSON, or CSV for a spreadsheet
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/list.h"

#include <string.h>
#include <strings.h>

#include "api/column.h"
#include "api/decode.h"
#include "api/form.h"
#include "common/csv.h"
#include "common/json.h"

/* What a page consists of. */
typedef struct ListPage
{
	const PGresult *result;
	int				rows;
	int				columns; /* without the one of "after" */
	bool			full;	 /* rows follow */
} ListPage;

static ListPage
list_page(const ApiRequest *request, const PGresult *result)
{
	const char *text = request_value(request, "limit");
	ListPage	page = {
		   .result = result,
		   .rows = PQntuples(result),
		   .columns = PQnfields(result) - 1,
	   };
	int64_t limit = FORM_ROWS;

	if (text != NULL && !parse_number(text, &limit))
		Assert(!"a field that was read");
	page.full = page.rows > limit;
	page.rows = (int) Min(page.rows, limit);
	Assert(page.rows <= FORM_ROWS_MAX);
	Assert(page.columns > 0 && PQntuples(result) <= page.rows + 1);
	return page;
}

/*
 * Whether a media range of the header Accept, which begins here, is the type.
 */
static bool
list_is_type(const char *range, const char *type)
{
	size_t len = strlen(type);

	return strncasecmp(range, type, len) == 0 &&
		   strchr(" \t;,", range[len]) != NULL;
}

/* The first of its types that a list can have decides. */
static bool
list_wants_csv(const HttpRequest *http)
{
	const char *range = http_request_header(http, "Accept");

	while (range != NULL && *range != '\0')
	{
		range += strspn(range, " \t,");
		if (list_is_type(range, "text/csv"))
			return true;
		if (list_is_type(range, "application/json") ||
			list_is_type(range, "*/*"))
			return false;
		range += strcspn(range, ",");
	}
	return false;
}

/* ---- CSV --------------------------------------------------------------- */

static void
list_add_csv(Buf *body, const ListPage *page)
{
	Buf line = {0};
	Buf cell = {0};

	for (int column = 0; column < page->columns; column++)
		csv_add_cell(&line, PQfname(page->result, column));
	csv_end_line(&line);
	buf_add(body, line.data, line.len);
	for (int row = 0; row < page->rows; row++)
	{
		buf_free(&line);
		for (int column = 0; column < page->columns; column++)
		{
			column_add_text(&cell, page->result, row, column);
			csv_add_cell(&line, buf_str(&cell));
			buf_free(&cell);
		}
		csv_end_line(&line);
		buf_add(body, line.data, line.len);
	}
	buf_free(&line);
}

static void
list_answer_csv(HttpRequest *http, const ListPage *page)
{
	Buf body = {0};
	Buf after = {0};

	list_add_csv(&body, page);
	if (page->full)
	{
		/* as the query takes it: a header holds no line break, and an id may */
		decode_add_encoded(&after, PQgetvalue(page->result, page->rows - 1,
											  page->columns));
		http_answer_header(http, "Next-After", buf_str(&after));
	}
	buf_free(&after);
	http_answer_header(http, "Content-Disposition",
					   "attachment; filename=\"pgstock.csv\"");
	http_answer(http, 200, "text/csv; charset=utf-8", &body);
}

/* ---- JSON -------------------------------------------------------------- */

static void
list_add_row(Buf *body, const ListPage *page, int row)
{
	for (int column = 0; column < page->columns; column++)
	{
		buf_printf(body, "%s\"%s\":", column > 0 ? "," : "{",
				   PQfname(page->result, column));
		column_add_json(body, page->result, row, column);
	}
	buf_add_str(body, "}");
}

static void
list_answer_json(HttpRequest *http, const ListPage *page)
{
	Buf body = {0};

	buf_add_str(&body, "{\"rows\":[");
	for (int row = 0; row < page->rows; row++)
	{
		buf_add_str(&body, row > 0 ? "," : "");
		list_add_row(&body, page, row);
	}
	buf_add_str(&body, "],\"next\":");
	if (page->full)
		json_add_string(&body, PQgetvalue(page->result, page->rows - 1,
										  page->columns));
	else
		buf_add_str(&body, "null");
	buf_add_str(&body, "}\n");
	http_answer(http, 200, "application/json", &body);
}

void
list_answer(const ApiRequest *request, const PGresult *result)
{
	const ListPage page = list_page(request, result);

	if (list_wants_csv(request->http))
		list_answer_csv(request->http, &page);
	else
		list_answer_json(request->http, &page);
}
