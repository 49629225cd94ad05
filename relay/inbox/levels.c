/*
 * levels.c - the steps of the level stream
 *
 * The database keeps the stream's state; of a session only the snapshot of its
 * last step is kept, with which the next one is faster.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "inbox/pump_private.h"

#include <stdlib.h>

/* NULL: there is no stream. */
static const char *
inbox_levels_topic(const Inbox *inbox)
{
	const char *topic = inbox->config->levels_topic;

	return topic[0] != '\0' ? topic : NULL;
}

void
inbox_step_levels(Inbox *inbox)
{
	api_call_levels(inbox->conn, inbox_levels_topic(inbox), inbox->levels_since,
					INBOX_LEVELS_ROWS);
}

void
inbox_forget_levels(Inbox *inbox)
{
	free(inbox->levels_since);
	inbox->levels_since = NULL;
}

/* Where the next step goes on, how many changes there were, whether some are
 * left, whether it was done. */
void
inbox_take_levels(Inbox *inbox, const PGresult *result)
{
	int64_t		now = loop_now(inbox->loop);
	int64_t		pace = SEC_US / inbox->config->levels_per_second;
	bool		good = PQntuples(result) == 1 && PQnfields(result) == 4;
	const char *since = good ? api_text(result, 0, 0) : NULL;
	bool		behind = !good || api_bool(result, 0, 2);

	inbox_forget_levels(inbox);
	if (since != NULL)
		inbox->levels_since = xstrdup(since);
	if (!behind)
		inbox->levels_done_at = now;
	if (good && api_bool(result, 0, 3))
		inbox_on_levels(&inbox->state,
						inbox_levels_topic(inbox) != NULL ? pace : 0,
						!behind && api_int(result, 0, 1) == 0, now);
	else
		inbox_on_levels_failed(&inbox->state, now);
}

/* A relay that does not lead, or has no stream, has nothing to do. */
void
inbox_measure_levels(Inbox *inbox)
{
	int64_t now = loop_now(inbox->loop);

	if (!inbox->state.leads || inbox_levels_topic(inbox) == NULL)
		inbox->levels_done_at = now;
	*metrics_cell(inbox->metrics, METRIC_LEVELS_BEHIND,
				  NULL) = (double) (now - inbox->levels_done_at) / SEC_US;
}
