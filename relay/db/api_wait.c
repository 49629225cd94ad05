/*
 * api_wait.c - the end of a call that waits, and what is shown meanwhile
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include <poll.h>

#include "db/api.h"

#define WAIT_MS 200 /* between two looks at the time */

static void (*api_waiting)(int64_t us);

void
api_set_waiting(void (*waiting)(int64_t us))
{
	api_waiting = waiting;
}

/* Until the answer is complete, or the connection is broken. */
static void
api_wait_for_answer(PGconn *pg)
{
	int64_t waited_us = 0;

	while (PQconsumeInput(pg) == 1 && PQisBusy(pg) == 1)
	{
		struct pollfd socket = {.fd = PQsocket(pg), .events = POLLIN};

		if (poll(&socket, 1, WAIT_MS) != 0)
			continue;
		waited_us += WAIT_MS * MS_US;
		if (waited_us >= API_PATIENCE_US && api_waiting != NULL)
			api_waiting(waited_us);
	}
}

/*
 * The last result, or the first error: the one behind it says no more than that
 * the connection is closed.
 */
PGresult *
api_wait(PGconn *pg)
{
	PGresult *last = NULL;
	PGresult *result;

	api_wait_for_answer(pg);
	while ((result = PQgetResult(pg)) != NULL)
	{
		if (last != NULL && PQresultStatus(last) == PGRES_FATAL_ERROR)
		{
			PQclear(result);
			continue;
		}
		PQclear(last);
		last = result;
	}
	if (last == NULL) /* it was not sent: the connection has the reason */
		last = PQmakeEmptyPGresult(pg, PGRES_FATAL_ERROR);
	Assert(PQisBusy(pg) == 0);
	return last;
}
