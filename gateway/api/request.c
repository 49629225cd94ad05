/*
 * request.c - queues of requests
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "api/request.h"

void
request_queue_add(RequestQueue *queue, ApiRequest *request)
{
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

void
request_queue_put_back(RequestQueue *queue, RequestQueue *taken)
{
	if (taken->first == NULL)
		return;
	taken->last->next = queue->first;
	queue->first = taken->first;
	if (queue->last == NULL)
		queue->last = taken->last;
	queue->count += taken->count;
	*taken = (RequestQueue){0};
}

void
request_queue_fail(RequestQueue *queue, ProblemId id, const char *detail)
{
	ApiRequest *request;

	while ((request = request_queue_take(queue)) != NULL)
		problem_give(request->http, id, detail);
}
