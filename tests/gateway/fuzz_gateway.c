/*
 * fuzz_gateway.c - whatever bytes clients send, the gateway's parsers live
 *
 * A libFuzzer program.  An input is a path, a line end and a body.  What is
 * accepted becomes a call of the database: it must be text that JSON can hold.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdlib.h>
#include <string.h>

#include "api/decode.h"
#include "api/reserve.h"
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
fuzz_request(const char *path, const char *body, size_t len)
{
	HttpRequest http = {.path = path};
	ApiRequest	request = {.http = &http};
	Buf			allowed = {0};
	Buf			error = {0};

	buf_add(&http.body, body, len);
	request.route = route_find("POST", path, 0, &request.values, &allowed,
							   &error);
	if (request.route != NULL && request.route->kind == ROUTE_RESERVE &&
		fields_read_members(request.route->fields, &http.body, &request.values,
							&error))
	{
		for (int i = 0; i < FIELDS_MAX; i++)
			Assert(request.values.text[i] == NULL ||
				   decode_is_text(request.values.text[i],
								  strlen(request.values.text[i])));
		fuzz_call(&request);
	}
	else
		Assert(request.route != NULL || request.values.text[0] == NULL);
	for (int i = 0; i < http.header_count; i++)
		free(http.headers[i].value);
	buf_free(&http.answer);
	buf_free(&http.body);
	buf_free(&allowed);
	buf_free(&error);
	values_free(&request.values);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = memchr(data, '\n', size);
	size_t len = line != NULL ? (size_t) (line - (const char *) data) : size;
	char  *path = xasprintf("%.*s", (int) len, (const char *) data);

	if (line != NULL)
		fuzz_request(path, line + 1, size - len - 1);
	free(path);
	return 0;
}
