/*-------------------------------------------------------------------------
 *
 * outbox/receipt.c
 *	  Waits until Kafka has acknowledged an event: wait_for_event().
 *
 * An event is published once the stored position passes it.  The waiter reads
 * its state, enters itself on the board of the session that leads
 * (receipt_board.c), reads the state again, and sleeps until it is woken.
 * Where no relay leads, or the event is not visible yet, it reads the state
 * again at growing intervals.
 *
 * A waiter holds no lock on a table: it would keep the parts of the outbox and
 * the positions from being truncated.  So the state is read in a subtransaction
 * that is rolled back.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/wait_event.h"
#include "utils/xid8.h"

#include "outbox/receipt.h"
#include "protocol/receipt_state.h"

/*
 * Between two looks at the state: the first and the longest where no session
 * would wake us, and where one will.
 */
#define LOOK_FIRST_MS 10
#define LOOK_MAX_MS	  1000
#define LOOK_AGAIN_MS 5000

/* A wait holds the snapshot of its statement. */
#define TIMEOUT_MAX_MS 60000

PG_FUNCTION_INFO_V1(pgstock_wait_for_event);

typedef struct ReceiptLook
{
	ReceiptState state;
	uint64		 xid; /* 0: unknown */
	int64		 seq;
	dsm_handle	 handle; /* of the leading session's segment, or invalid */
} ReceiptLook;

/* Sleeps until then, or until it is woken. */
static void
receipt_sleep(const ReceiptPlace *place, TimestampTz until)
{
	for (;;)
	{
		long ms;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (receipt_take_ready(place))
			return;
		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (ms <= 0)
			return;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
						 PG_WAIT_EXTENSION);
	}
}

/* ---- The state ---- */

static ReceiptState
receipt_state(const char *word)
{
	for (int i = 0; i < RECEIPT_STATES; i++)
	{
		if (strcmp(receipt_state_texts[i], word) == 0)
			return (ReceiptState) i;
	}
	elog(ERROR, "unexpected state \"%s\" of an event", word);
	return RECEIPT_UNKNOWN;
}

static void
receipt_read(const pg_uuid_t *id, ReceiptLook *look)
{
	Oid	  types[] = {UUIDOID};
	Datum values[] = {UUIDPGetDatum(id)};
	Datum column;
	bool  isnull;

	if (SPI_execute_with_args("SELECT state, xid, seq, receipts"
							  " FROM pgstock_internal.receipt($1)",
							  1, types, values, NULL, true,
							  1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read the state of an event");
	look->state = receipt_state(
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	column = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2,
						   &isnull);
	look->xid = isnull ? 0
					   : U64FromFullTransactionId(
							 DatumGetFullTransactionId(column));
	column = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3,
						   &isnull);
	look->seq = isnull ? 0 : DatumGetInt64(column);
	column = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4,
						   &isnull);
	look->handle = isnull ? DSM_HANDLE_INVALID
						  : (dsm_handle) DatumGetInt64(column);
	/* an event that can be waited for has a place in the outbox */
	Assert(look->state != RECEIPT_PENDING || (look->xid != 0 && look->seq > 0));
}

/* Reads the state as it is now, and keeps no lock. */
static void
receipt_look(const pg_uuid_t *id, ReceiptLook *look)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile failure = NULL;

	memset(look, 0, sizeof(*look));
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		PushActiveSnapshot(GetLatestSnapshot());
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		receipt_read(id, look);
		SPI_finish();
		PopActiveSnapshot();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		failure = CopyErrorData(); /* such as a cancel */
		FlushErrorState();
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (failure != NULL)
		ReThrowError(failure);
	if (look->state == RECEIPT_PENDING &&
		look->xid == U64FromFullTransactionId(GetTopFullTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for an event of this transaction"),
				 errdetail("It is published after the transaction commits."),
				 errhint("Call wait_for_event after COMMIT.")));
}

/* ---- wait_for_event() ---- */

/*
 * Whether a session that leads will wake us.  It does so for an event that it
 * has yet to publish; for one that was discarded each position would.
 */
static bool
receipt_has_board(ReceiptPlace *place, const ReceiptLook *look)
{
	bool waits = look->state == RECEIPT_PENDING || look->state == RECEIPT_HELD;

	if (place->segment != NULL &&
		(!waits || receipt_is_closed(place) ||
		 dsm_segment_handle(place->segment) != look->handle))
		receipt_detach(place);
	return waits &&
		   (place->segment != NULL || receipt_attach(place, look->handle));
}

/* One wait; the next look is due afterwards. */
static void
receipt_wait(ReceiptPlace *place, const ReceiptLook *look, TimestampTz end,
			 int *pause_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	int			ms = *pause_ms;

	Assert(look->state != RECEIPT_PUBLISHED);
	if (receipt_has_board(place, look))
	{
		if (receipt_enter(place, look->xid, look->seq,
						  look->state == RECEIPT_HELD))
			return;
		ms = LOOK_AGAIN_MS;
	}
	else
		*pause_ms = Min(2 * ms, LOOK_MAX_MS);
	receipt_sleep(place, Min(end, TimestampTzPlusMilliseconds(now, ms)));
}

static TimestampTz
receipt_end(FunctionCallInfo fcinfo)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = TimestampTzPlusMilliseconds(now, 5000);

	if (!PG_ARGISNULL(1))
		end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													  TimestampTzGetDatum(now),
													  PG_GETARG_DATUM(1)));
	if (end < now)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("timeout must not be negative"),
						errhint("Give an interval such as '5 seconds', or '0' "
								"to return at once.")));
	if (end > TimestampTzPlusMilliseconds(now, TIMEOUT_MAX_MS))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not exceed 1 minute"),
				 errdetail("A wait holds the snapshot of its statement."),
				 errhint("Call wait_for_event again where it returns false.")));
	return end;
}

/* wait_for_event(event_id uuid, timeout interval) RETURNS boolean */
Datum
pgstock_wait_for_event(PG_FUNCTION_ARGS)
{
	ReceiptPlace place = {0};
	ReceiptLook	 look;
	int			 pause_ms = LOOK_FIRST_MS;
	TimestampTz	 end = receipt_end(fcinfo);
	pg_uuid_t	*id;

	version_check();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("event_id must not be null")));
	id = PG_GETARG_UUID_P(0);
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for an event on a standby"),
				 errhint("Call wait_for_event on the primary, or event_status "
						 "here.")));
	receipt_look(id, &look);
	while (look.state != RECEIPT_PUBLISHED && GetCurrentTimestamp() < end)
	{
		receipt_wait(&place, &look, end, &pause_ms);
		receipt_look(id, &look);
	}
	receipt_detach(&place);
	PG_RETURN_BOOL(look.state == RECEIPT_PUBLISHED);
}
