/*-------------------------------------------------------------------------
 *
 * protocol/answer_status.h
 *	  The status of an answer, and the texts.
 *
 * The texts are values of stock_result.status, of stored answers and of events.
 * The extension writes them, and the gateway has a problem for each that is a
 * refusal; both compare the enum.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_ANSWER_STATUS_H
#define PROTOCOL_ANSWER_STATUS_H

#include <stddef.h>

typedef enum AnswerStatus
{
	ANSWER_NONE, /* not set yet */
	ANSWER_GRANTED,
	ANSWER_BACKORDERED,
	ANSWER_INSUFFICIENT,
	ANSWER_UNKNOWN_PRODUCT,
	ANSWER_UNKNOWN_ORDER,
	ANSWER_REFUSED, /* another line of the order does not fit */
	ANSWER_ALREADY,
	ANSWER_NOT_OPEN,
	ANSWER_OVER_LIMIT,
	ANSWER_CONFIRMED,
	ANSWER_RELEASED,
	ANSWER_ROLLED_BACK,
	ANSWER_RETURNED,
	ANSWER_EXPIRED,
	ANSWER_SHORTFALL,
	ANSWER_STATUSES
} AnswerStatus;

static const char *const answer_status_texts[ANSWER_STATUSES] = {
	[ANSWER_NONE] = NULL,
	[ANSWER_GRANTED] = "granted",
	[ANSWER_BACKORDERED] = "backordered",
	[ANSWER_INSUFFICIENT] = "insufficient",
	[ANSWER_UNKNOWN_PRODUCT] = "unknown_product",
	[ANSWER_UNKNOWN_ORDER] = "unknown_order",
	[ANSWER_REFUSED] = "refused",
	[ANSWER_ALREADY] = "already",
	[ANSWER_NOT_OPEN] = "not_open",
	[ANSWER_OVER_LIMIT] = "over_limit",
	[ANSWER_CONFIRMED] = "confirmed",
	[ANSWER_RELEASED] = "released",
	[ANSWER_ROLLED_BACK] = "rolled_back",
	[ANSWER_RETURNED] = "returned",
	[ANSWER_EXPIRED] = "expired",
	[ANSWER_SHORTFALL] = "shortfall",
};

#endif /* PROTOCOL_ANSWER_STATUS_H */
