/*-------------------------------------------------------------------------
 *
 * protocol/failed_state.h
 *	  The states of a failed message, and their texts.
 *
 * The texts are values of failed_events.state.  The extension writes them, and
 * pgstock-relay failed and GET /failed of the gateway filter by them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_FAILED_STATE_H
#define PROTOCOL_FAILED_STATE_H

#include <stddef.h>

typedef enum FailedState
{
	FAILED_STATE_WAITING,	/* its next try has a time, or it queues */
	FAILED_STATE_ARCHIVED,	/* it was given up */
	FAILED_STATE_RETRIED,	/* a later try ended well */
	FAILED_STATE_DISCARDED, /* an operator ended it */
	FAILED_STATES
} FailedState;

/* NULL ends the list. */
static const char *const failed_state_texts[FAILED_STATES + 1] = {
	[FAILED_STATE_WAITING] = "waiting",
	[FAILED_STATE_ARCHIVED] = "archived",
	[FAILED_STATE_RETRIED] = "retried",
	[FAILED_STATE_DISCARDED] = "discarded",
	[FAILED_STATES] = NULL,
};

#endif /* PROTOCOL_FAILED_STATE_H */
