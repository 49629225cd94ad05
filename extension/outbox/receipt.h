/*-------------------------------------------------------------------------
 *
 * outbox/receipt.h
 *	  The board of sessions that wait for events: receipt_board.c.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef OUTBOX_RECEIPT_H
#define OUTBOX_RECEIPT_H

#include "postgres.h"

#include "storage/dsm.h"

#include "outbox/outbox.h"

/* A waiter's place on the board; segment NULL: none. */
typedef struct ReceiptPlace
{
	dsm_segment		*segment;
	struct Receipts *receipts;
} ReceiptPlace;

extern bool receipt_attach(ReceiptPlace *place, dsm_handle handle);
extern void receipt_detach(ReceiptPlace *place);
extern bool receipt_enter(const ReceiptPlace *place, uint64 xid, int64 seq,
						  bool held);
extern bool receipt_take_ready(const ReceiptPlace *place);
extern bool receipt_is_closed(const ReceiptPlace *place);

#endif /* OUTBOX_RECEIPT_H */
