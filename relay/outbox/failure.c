/*
 * failure.c - what a failure of the database or the producer costs the outbox
 *
 * Any error of the database closes the connection, and everything starts again
 * from the stored position.  A failure of the producer does the same, but keeps
 * the connection.
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "outbox/pump_private.h"

#include <stdlib.h>

#define LOG_MODULE "outbox"

void
outbox_drop_pages(Outbox *outbox)
{
	Assert(outbox->page_count <= OUTBOX_PAGES_MAX);
	for (uint32_t i = 0; i < outbox->page_count; i++)
		PQclear(outbox->pages[i]);
	outbox->page_count = 0;
}

static void
outbox_set_trouble(Outbox *outbox, const char *what, const char *why)
{
	buf_clear(&outbox->trouble);
	buf_printf(&outbox->trouble, "%s: %s", what, why);
	outbox_drop_pages(outbox);
}

void
outbox_db_failed(Outbox *outbox, const char *why)
{
	outbox_set_trouble(outbox, "database", why);
	pg_connection_close(outbox->conn);
	if (outbox->state.transactional)
		producer_close(outbox->producer); /* only a leader has one */
	outbox_on_down(&outbox->state, loop_now(outbox->loop));
	Assert(outbox->state.page_count == 0 && !outbox_leads(&outbox->state));
	db_log_failure(&outbox->db_throttle, loop_now(outbox->loop), LOG_MODULE,
				   outbox->config, why);
}

void
outbox_producer_failed(Outbox *outbox, const char *why)
{
	outbox_set_trouble(outbox, "kafka", why);
	producer_close(outbox->producer);
	outbox_on_producer_failed(&outbox->state, loop_now(outbox->loop));
	Assert(outbox->state.page_count == 0 && !outbox->state.producer_up);
	Assert(in_flight_count(&outbox->state.in_flight) == 0);
	log_throttled(&outbox->producer_throttle, loop_now(outbox->loop),
				  LEVEL_WARNING, LOG_MODULE,
				  "lost the producer, going back to the stored "
				  "position: %s",
				  why);
}

/* The topic cannot be held too: the position must not pass its event. */
void
outbox_too_many_held(Outbox *outbox, const char *topic, const char *why)
{
	char *text = xasprintf("cannot hold topic %s, because %u topics are held "
						   "already: %s",
						   topic, outbox->state.held.count, why);

	Assert(held_has_no_room(&outbox->state.held, topic));
	outbox_producer_failed(outbox, text);
	free(text);
}

/* A record was refused for good: its topic is held, other topics go on. */
void
outbox_topic_refused(Outbox *outbox, const char *topic, const char *why)
{
	if (!outbox_on_refused(&outbox->state, topic, why, loop_now(outbox->loop)))
	{
		if (held_has_no_room(&outbox->state.held, topic))
			outbox_too_many_held(outbox, topic, why);
		else
			outbox_producer_failed(outbox, why);
		return;
	}
	Assert(outbox->state.held.count > 0);
	log_warning("topic is held back topic=%s reason=%s", topic, why);
	outbox_drop_pages(outbox);
	producer_close(outbox->producer);
}

void
outbox_exit(Outbox *outbox, ExitCode code)
{
	Assert(code != EXIT_CLEAN);
	outbox->exit_code = code;
	outbox->done = true;
}
