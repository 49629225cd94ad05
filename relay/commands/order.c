/*
 * order.c - an order's history, line by line
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdio.h>
#include <string.h>

#include "commands/command.h"
#include "commands/commands.h"
#include "common/json.h"
#include "common/safe_text.h"

/* Columns of relay_order(). */
typedef enum OrderColumn
{
	ORDER_AT,
	ORDER_KIND,
	ORDER_WHAT,
	ORDER_PRODUCT,
	ORDER_LOCATION,
	ORDER_QUANTITY,
	ORDER_EVENT_ID,
	ORDER_TRACE_ID,
	ORDER_DETAIL,  /* a JSON object */
	ORDER_COLUMNS, /* their number */
} OrderColumn;

static const char *const column_names[ORDER_COLUMNS] = {
	"at",		"kind",		"what",		"product_id", "location",
	"quantity", "event_id", "trace_id", "detail",
};

/* ---- as a timeline ----------------------------------------------------- */

/* Ids and reasons are of foreign origin. */
static void
order_add_safe(Buf *line, const char *before, const char *text)
{
	if (text == NULL)
		return;
	buf_add_str(line, before);
	safe_add(line, text, strlen(text));
}

static void
order_add_padded(Buf *line, const char *text, size_t width)
{
	size_t from = line->len;

	safe_add(line, text, strlen(text));
	do
		buf_add_str(line, " ");
	while (line->len < from + width);
}

static void
order_add_line(const PGresult *facts, int row, Buf *text)
{
	order_add_padded(text, PQgetvalue(facts, row, ORDER_AT), 28);
	order_add_padded(text, PQgetvalue(facts, row, ORDER_KIND), 12);
	order_add_padded(text, PQgetvalue(facts, row, ORDER_WHAT), 16);
	order_add_safe(text, " ", api_text(facts, row, ORDER_QUANTITY));
	order_add_safe(text, " x ", api_text(facts, row, ORDER_PRODUCT));
	order_add_safe(text, "@", api_text(facts, row, ORDER_LOCATION));
	order_add_safe(text, " event ", api_text(facts, row, ORDER_EVENT_ID));
	order_add_safe(text, " trace ", api_text(facts, row, ORDER_TRACE_ID));
	order_add_safe(text, " ", api_text(facts, row, ORDER_DETAIL));
	buf_add_str(text, "\n");
}

/* ---- as JSON ----------------------------------------------------------- */

static void
order_add_member(const PGresult *facts, int row, OrderColumn column, Buf *json)
{
	const char *text = api_text(facts, row, column);

	buf_printf(json, "%s\"%s\":", column > 0 ? "," : "", column_names[column]);
	if (text == NULL)
		buf_add_str(json, "null");
	else if (column == ORDER_QUANTITY || column == ORDER_DETAIL)
		buf_add_str(json, text); /* it is JSON */
	else
		json_add_string(json, text);
}

static void
order_add_json(const char *order_id, const PGresult *facts, Buf *json)
{
	buf_add_str(json, "{\"order_id\":");
	json_add_string(json, order_id);
	buf_add_str(json, ",\"history\":[");
	for (int row = 0; row < PQntuples(facts); row++)
	{
		buf_add_str(json, row > 0 ? ",{" : "{");
		for (int column = 0; column < ORDER_COLUMNS; column++)
			order_add_member(facts, row, (OrderColumn) column, json);
		buf_add_str(json, "}");
	}
	buf_add_str(json, "]}\n");
}

/* ---- the command ------------------------------------------------------- */

static ExitCode
order_print(const Arguments *arguments, const PGresult *facts)
{
	const char *order_id = arguments->operands[0];
	Buf			text = {0};
	bool		written;

	if (arguments->values[ARG_JSON] != NULL)
		order_add_json(order_id, facts, &text);
	else
		for (int row = 0; row < PQntuples(facts); row++)
			order_add_line(facts, row, &text);
	written = fputs(buf_str(&text), stdout) != EOF && fflush(stdout) == 0;
	buf_free(&text);
	if (!written)
		command_report("could not write to standard output");
	else if (PQntuples(facts) == 0)
		command_report("nothing is stored about order %s", order_id);
	return written && PQntuples(facts) > 0 ? EXIT_CLEAN : EXIT_RUNTIME;
}

ExitCode
cmd_order(const Arguments *arguments, const Config *config)
{
	const PgParam params[] = {{.data = arguments->operands[0]}};
	Command		  command;
	PGresult	 *facts;
	ExitCode	  code;

	Assert(arguments->operand_count == 1); /* as the table says */
	if (command_open(&command, config))
	{
		facts = command_check_result(api_exec(command.pg, API_ORDER, params),
									 "order");
		command.code = EXIT_RUNTIME;
		if (facts != NULL)
		{
			Assert(PQnfields(facts) == ORDER_COLUMNS);
			command.code = order_print(arguments, facts);
		}
		PQclear(facts);
	}
	code = command.code;
	command_close(&command);
	return code;
}
