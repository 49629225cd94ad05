/*
 * lines.c - rows of stock_result as an answer
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/lines.h"

#include <string.h>

#include "api/column.h"
#include "common/json.h"
#include "extension/protocol/answer_status.h"

typedef struct LineStatus
{
	AnswerStatus status;
	ProblemId	 problem;
} LineStatus;

/* The statuses of lines that a request was refused for. */
static const LineStatus refusals[] = {
	{ANSWER_UNKNOWN_PRODUCT, PROBLEM_UNKNOWN_PRODUCT},
	{ANSWER_INSUFFICIENT, PROBLEM_INSUFFICIENT},
	{ANSWER_OVER_LIMIT, PROBLEM_USER_LIMIT},
	{ANSWER_NOT_OPEN, PROBLEM_SALE_NOT_OPEN},
	{ANSWER_UNKNOWN_ORDER, PROBLEM_UNKNOWN_ORDER},
	{ANSWER_SHORTFALL, PROBLEM_SHORTFALL},
};

/* The same, of requests that reserve. */
static const LineStatus taking_refusals[] = {
	{ANSWER_ALREADY, PROBLEM_KEY_REUSED}, {ANSWER_EXPIRED, PROBLEM_EXPIRED},
	{ANSWER_RELEASED, PROBLEM_EXPIRED},	  {ANSWER_ROLLED_BACK, PROBLEM_EXPIRED},
	{ANSWER_RETURNED, PROBLEM_EXPIRED},
};

static Line
line_of_row(const PGresult *result, int row)
{
	Line line = {0};

	Assert(row >= 0 && row < PQntuples(result));
	for (int i = 0; i < LINE_COLUMNS; i++)
		if (!PQgetisnull(result, row, i))
			line.value[i] = PQgetvalue(result, row, i);
	return line;
}

/* PROBLEMS: it is none. */
static ProblemId
line_status_problem(const LineStatus *list, size_t count, const char *status)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(answer_status_texts[list[i].status], status) == 0)
			return list[i].problem;
	return PROBLEMS;
}

static ProblemId
line_problem(const ApiRequest *request, const char *status)
{
	ProblemId id = line_status_problem(refusals, Lengthof(refusals), status);

	if (id == PROBLEMS && request->route->kind != ROUTE_LINES)
		id = line_status_problem(taking_refusals, Lengthof(taking_refusals),
								 status);
	return id;
}

/* The row that decides what the answer is. */
static int
lines_find_refused(const ApiRequest *request, const PGresult *result, int first,
				   int end)
{
	for (int row = first; row < end; row++)
		if (line_problem(request, PQgetvalue(result, row, LINE_STATUS)) !=
			PROBLEMS)
			return row;
	return end;
}

static void
line_add_text(Buf *body, const char *name, const char *value)
{
	json_add_name(body, name);
	if (value != NULL)
		json_add_string(body, value);
	else
		buf_add_str(body, "null");
}

static void
line_add_number(Buf *body, const char *name, const char *value)
{
	buf_add_str(body, ",");
	json_add_name(body, name);
	buf_add_str(body, value != NULL ? value : "null");
}

static void
line_add_time(Buf *body, const char *name, const char *value)
{
	Buf time = {0};

	if (value != NULL && column_add_time(&time, value))
	{
		buf_add_str(body, ",");
		line_add_text(body, name, buf_str(&time));
	}
	else
		line_add_number(body, name, NULL);
	buf_free(&time);
}

static void
line_add(Buf *body, const Line *line)
{
	buf_add_str(body, "{");
	line_add_text(body, "product_id", line->value[LINE_PRODUCT_ID]);
	buf_add_str(body, ",");
	line_add_text(body, "location", line->value[LINE_LOCATION]);
	line_add_number(body, "requested", line->value[LINE_REQUESTED]);
	line_add_number(body, "granted", line->value[LINE_GRANTED]);
	buf_add_str(body, ",");
	line_add_text(body, "status", line->value[LINE_STATUS]);
	line_add_number(body, "available", line->value[LINE_AVAILABLE]);
	line_add_time(body, "expires_at", line->value[LINE_EXPIRES_AT]);
	line_add_number(body, "version", line->value[LINE_VERSION]);
	buf_add_str(body, "}");
}

static void
lines_add(Buf *body, const PGresult *result, int first, int end)
{
	buf_add_str(body, "\"lines\":[");
	for (int row = first; row < end; row++)
	{
		Line line = line_of_row(result, row);

		if (row > first)
			buf_add_str(body, ",");
		line_add(body, &line);
	}
	buf_add_str(body, "]");
}

/* The problem that the line has; its lines are to follow. */
static ProblemId
line_begin_problem(ApiRequest *request, const Line *line, Buf *body)
{
	ProblemId id = line_problem(request, line->value[LINE_STATUS]);

	Assert(id != PROBLEMS);
	request->insufficient = id == PROBLEM_INSUFFICIENT;
	problem_begin(body, id, NULL);
	problem_add_text(body, "sqlstate", problems[id].sqlstate);
	problem_add_text(body, "hint", problems[id].hint);
	problem_add_text(body, "order_id", line->value[LINE_ORDER_ID]);
	problem_add_text(body, "product_id", line->value[LINE_PRODUCT_ID]);
	problem_add_text(body, "location", line->value[LINE_LOCATION]);
	line_add_number(body, "wanted", line->value[LINE_REQUESTED]);
	line_add_number(body, "available", line->value[LINE_AVAILABLE]);
	buf_add_str(body, ",");
	return id;
}

static void
lines_refuse(ApiRequest *request, const PGresult *result, int first, int end,
			 int refused)
{
	Line	  line = line_of_row(result, refused);
	Buf		  body = {0};
	ProblemId id = line_begin_problem(request, &line, &body);

	Assert(first <= refused && refused < end);
	lines_add(&body, result, first, end);
	problem_answer(request->http, id, &body);
}

void
line_refuse(ApiRequest *request, const Line *line)
{
	Buf		  body = {0};
	ProblemId id = line_begin_problem(request, line, &body);

	buf_add_str(&body, "\"lines\":[");
	line_add(&body, line);
	buf_add_str(&body, "]");
	problem_answer(request->http, id, &body);
}

static bool
lines_are_replayed(const PGresult *result, int first, int end)
{
	for (int row = first; row < end; row++)
		if (strcmp(PQgetvalue(result, row, LINE_REPLAYED), "t") != 0)
			return false;
	return true;
}

void
lines_answer(ApiRequest *request, const PGresult *result, int first, int end)
{
	int	 refused = lines_find_refused(request, result, first, end);
	bool replayed;
	Buf	 body = {0};

	Assert(first < end && PQnfields(result) == LINE_COLUMNS);
	if (refused < end)
	{
		lines_refuse(request, result, first, end, refused);
		return;
	}
	replayed = lines_are_replayed(result, first, end);
	buf_add_str(&body, "{");
	line_add_text(&body, "order_id", PQgetvalue(result, first, LINE_ORDER_ID));
	buf_add_str(&body,
				replayed ? ",\"replayed\":true," : ",\"replayed\":false,");
	lines_add(&body, result, first, end);
	buf_add_str(&body, "}\n");
	if (replayed)
		http_answer_header(request->http, "Idempotent-Replayed", "true");
	http_answer(request->http,
				(request->route->answers & ANSWER_NEW) == 0 || replayed ? 200
																		: 201,
				"application/json", &body);
}
