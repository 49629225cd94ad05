/*
 * fuzz_gateway.c - whatever bytes clients send, the gateway's parsers live
 *
 * A libFuzzer program.  An input is a path, a query and a body, each but the
 * last with a line end.  What is accepted becomes a call of the database: it
 * must be text that JSON can hold.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdlib.h>
#include <string.h>

#include "api/decode.h"
#include "api/form.h"
#include "api/reserve.h"
#include "common/log.h"
#include "config/metric_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The argument of reserve_orders() is JSON with one element. */
static void
fuzz_call(ApiRequest *request)
{
	int64_t		  batch_max = 1;
	Metrics		 *metrics = metrics_new(&metric_table);
	ReserveQueue *queue = reserve_queue_new(&batch_max, metrics,
											HISTOGRAM_BATCH);
	PoolWork	  work = {0};
	json_t		 *orders;

	reserve_queue_add(queue, request);
	Assert(reserve_next(queue, &work));
	orders = json_loads(work.params[0].data, JSON_REJECT_DUPLICATES, NULL);
	Assert(json_array_size(orders) == 1);
	json_decref(orders);
	work.done(work.arg, &(PoolAnswer){.error = "over"});
	Assert(request->http->status == 503);
	reserve_queue_free(queue);
	metrics_free(metrics);
}

static void
check_values(const Values *values)
{
	for (int i = 0; i < FIELDS_MAX; i++)
		Assert(values->text[i] == NULL ||
			   decode_is_text(values->text[i], strlen(values->text[i])));
}

/* What it decodes to is what its own encoding decodes to. */
static void
fuzz_text(const char *text)
{
	Buf	  encoded = {0};
	char *again;

	decode_add_encoded(&encoded, text);
	again = decode_segment(buf_str(&encoded), encoded.len);
	Assert(again != NULL && strcmp(again, text) == 0);
	free(again);
	again = decode_query(buf_str(&encoded));
	Assert(again != NULL && strcmp(again, text) == 0);
	free(again);
	buf_free(&encoded);
}

/* As the value of each parameter that the route has. */
static void
fuzz_query(const Route *route, const char *query)
{
	char *text = decode_query(query);

	if (text == NULL)
		return;
	fuzz_text(text);
	for (const Field *field = route->fields; field->name != NULL; field++)
	{
		Values values = {0};
		Buf	   error = {0};

		if (field->place == IN_QUERY || field->place == IN_HEADER)
			Assert(form_set_text(field, text, &values.text[0], &error) ==
				   (error.len == 0));
		check_values(&values);
		values_free(&values);
		buf_free(&error);
	}
	free(text);
}

static void
fuzz_body(const Route *route, HttpRequest *http, Values *values)
{
	ApiRequest request = {.http = http, .route = route, .values = *values};
	Buf		   error = {0};
	bool good = fields_read_members(route->fields, &http->body, &request.values,
									&error);

	Assert(good == (error.len == 0));
	if (good)
		check_values(&request.values);
	if (good && route->kind == ROUTE_RESERVE)
		fuzz_call(&request);
	*values = request.values;
	buf_free(&error);
}

static void
fuzz_request(const char *method, const char *path, const char *query,
			 const char *body, size_t len)
{
	HttpRequest	 http = {.method = method, .path = path};
	Values		 values = {0};
	Buf			 allowed = {0};
	Buf			 error = {0};
	const Route *route;

	buf_add(&http.body, body, len);
	route = route_find(method, path, 0, &values, &allowed, &error);
	if (route != NULL)
	{
		fuzz_query(route, query);
		fuzz_body(route, &http, &values);
	}
	else
		Assert(values.text[0] == NULL || error.len > 0);
	for (int i = 0; i < http.header_count; i++)
		free(http.headers[i].value);
	buf_free(&http.answer);
	buf_free(&http.body);
	buf_free(&allowed);
	buf_free(&error);
	values_free(&values);
}

/* The line that begins at *at, which is behind it then. */
static char *
take_line(const uint8_t *data, size_t size, size_t *at)
{
	const uint8_t *begin = data + *at;
	const uint8_t *end = memchr(begin, '\n', size - *at);
	size_t		   len = end != NULL ? (size_t) (end - begin) : size - *at;

	*at += len + (end != NULL);
	return xasprintf("%.*s", (int) len, (const char *) begin);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const methods[] = {"GET", "POST", "DELETE"};
	size_t					 at = 0;
	char					*path = take_line(data, size, &at);
	char					*query = take_line(data, size, &at);

	log_configure(LEVEL_ERROR, LOG_TEXT); /* no line for each broken session */
	for (size_t i = 0; i < Lengthof(methods); i++)
		fuzz_request(methods[i], path, query, (const char *) data + at,
					 size - at);
	free(path);
	free(query);
	return 0;
}
