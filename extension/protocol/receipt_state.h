/*-------------------------------------------------------------------------
 *
 * protocol/receipt_state.h
 *	  The states of an event on its way to Kafka, and their texts.
 *
 * The texts are values of event_status().state, which sql/receipts.sql returns;
 * wait_for_event() and the gateway read them.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_RECEIPT_STATE_H
#define PROTOCOL_RECEIPT_STATE_H

typedef enum ReceiptState
{
	RECEIPT_UNKNOWN,
	RECEIPT_PENDING,
	RECEIPT_HELD,
	RECEIPT_PUBLISHED,
	RECEIPT_STATES
} ReceiptState;

static const char *const receipt_state_texts[RECEIPT_STATES] = {
	[RECEIPT_UNKNOWN] = "unknown",
	[RECEIPT_PENDING] = "pending",
	[RECEIPT_HELD] = "held",
	[RECEIPT_PUBLISHED] = "published",
};

#endif /* PROTOCOL_RECEIPT_STATE_H */
