/*
 * request.c - a request to the API, and queues of them
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/request.h"

#include <string.h>

const char *
request_value(const ApiRequest *request, const char *name)
{
	const Field *fields = request->route->fields;

	for (int i = 0; fields[i].name != NULL; i++)
		if (strcmp(fields[i].name, name) == 0)
			return request->values.text[i];
	return NULL;
}

void
request_queue_add(RequestQueue *queue, ApiRequest *request)
{
	Assert((queue->first == NULL) == (queue->last == NULL));
	Assert(request->http->status == 0); /* it waits for its answer */
	request->next = NULL;
	if (queue->last != NULL)
		queue->last->next = request;
	else
		queue->first = request;
	queue->last = request;
	queue->count++;
}

ApiRequest *
request_queue_take(RequestQueue *queue)
{
	ApiRequest *request = queue->first;

	if (request == NULL)
		return NULL;
	queue->first = request->next;
	if (queue->first == NULL)
		queue->last = NULL;
	queue->count--;
	Assert((queue->count == 0) == (queue->first == NULL));
	return request;
}

ApiRequest *
request_queue_take_present(RequestQueue *queue)
{
	ApiRequest *request;

	while ((request = request_queue_take(queue)) != NULL &&
		   http_request_is_gone(request->http))
		problem_give(request->http, PROBLEM_OVERLOADED, "the client has gone");
	return request;
}

void
request_queue_put_back(RequestQueue *queue, RequestQueue *taken)
{
	if (taken->first == NULL)
		return;
	Assert(taken->count > 0 && taken->last->next == NULL);
	taken->last->next = queue->first;
	queue->first = taken->first;
	if (queue->last == NULL)
		queue->last = taken->last;
	queue->count += taken->count;
	*taken = (RequestQueue){0};
}

void
request_queue_put_back_one(RequestQueue *queue, ApiRequest *request)
{
	RequestQueue taken = {0};

	request_queue_add(&taken, request);
	request_queue_put_back(queue, &taken);
}

void
request_queue_fail(RequestQueue *queue, ProblemId id, const char *detail)
{
	ApiRequest *request;

	while ((request = request_queue_take(queue)) != NULL)
		problem_give(request->http, id, detail);
}

void
request_queue_expire(RequestQueue *queue, int64_t now)
{
	while (queue->first != NULL &&
		   now - queue->first->waits_since > REQUEST_WAIT_US)
		problem_give(request_queue_take(queue)->http, PROBLEM_OVERLOADED,
					 "the request has waited too long for a session");
}
