/*-------------------------------------------------------------------------
 *
 * protocol/line_state.h
 *	  The states of a line of an order: their letters and texts.
 *
 * The letters are values of the columns reservation.state and outbox.ends.  The
 * texts are the states of order_status(), by which GET /orders of the gateway
 * filters, and a label of the metric reservation_ends_total of the relay.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_LINE_STATE_H
#define PROTOCOL_LINE_STATE_H

#include <stddef.h>

typedef enum LineState
{
	LINE_RESERVED = 'r',
	LINE_CONFIRMED = 'c',
	LINE_RELEASED = 'l',
	LINE_ROLLED_BACK = 'b',
	LINE_RETURNED = 't',
	LINE_EXPIRED = 'e',
	LINE_SHORTFALL = 's'
} LineState;

#define LINE_STATES 7

/* The state of a live line, then those in which it ends, as a string. */
static const char line_state_letters[LINE_STATES + 1] = {
	LINE_RESERVED,	  LINE_CONFIRMED, LINE_SHORTFALL, LINE_RETURNED,
	LINE_ROLLED_BACK, LINE_RELEASED,  LINE_EXPIRED,	  '\0',
};

/* In the same order; NULL ends the list. */
static const char *const line_state_texts[LINE_STATES + 1] = {
	"reserved",	   "confirmed", "shortfall", "returned",
	"rolled_back", "released",	"expired",	 NULL,
};

#endif /* PROTOCOL_LINE_STATE_H */
