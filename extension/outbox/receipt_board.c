/*-------------------------------------------------------------------------
 *
 * outbox/receipt_board.c
 *	  Wakes the sessions that wait for an event, when Kafka has it.
 *
 * An event is published once the stored position passes it.  As a rule the
 * relay stores the position every 200 ms; while a session waits, it stores it
 * as soon as it moves.
 *
 * The relay's session that leads has a segment of dynamic shared memory, which
 * needs no preloading.  Its handle is in relay_epoch.  Each backend has an
 * entry in it, by the number of its PGPROC:
 *
 *	  Waiter						The session that leads
 *	  W1 reads the event's state	L1 relay_store_position() stores a position
 *	  W2 enters xid and seq			L2 reads the entries (receipt_waiters), and
 *	  W3 reads the state again		   notes those that are done (wake_waiter)
 *	  W4 sleeps on its latch		L3 COMMIT makes the position visible
 *									L4 sets the latches of those, and of
 *									   entries that L2 has not read
 *
 * No receipt is missed.  An entry that L2 read is woken at L4 if it is done.
 * Another one was made after L2: if before L4, it is woken there, and if after
 * L4, W3 is later than L3 and reads the position.  So each waiter is woken
 * once, when its own event is done, and rarely once more.
 *
 * A waiter requests prompt positions with the signal of NOTIFY, which makes the
 * relay's session notify its client (wakeup.c).  relay_store_position() returns
 * whether sessions wait, and the relay goes on until none does.
 *
 * The entry is removed when the waiter detaches from the segment, which the
 * server does after an error too.  If the leading session ends, its waiters
 * are woken.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/builtins.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "outbox/receipt.h"

#define RECEIPTS_MAGIC 0x70677263

PG_FUNCTION_INFO_V1(pgstock_open_receipts);
PG_FUNCTION_INFO_V1(pgstock_receipt_waiters);
PG_FUNCTION_INFO_V1(pgstock_wake_waiter);

/* A backend that waits; all under the lock. */
typedef struct ReceiptEntry
{
	uint64 xid; /* of the event's transaction */
	int64  seq; /* of the event */
	bool   used;
	bool   held;  /* waits until the event is crossed off */
	bool   seen;  /* L2 has read it */
	bool   ready; /* the state is to be read again */
} ReceiptEntry;

typedef struct Receipts
{
	uint32			 magic;
	Oid				 database;
	int				 pid;		  /* of the session that leads */
	int				 proc_number; /* as SendProcSignal wants it */
	pg_atomic_uint32 waiters;	  /* number of entries in use */
	pg_atomic_uint32 called;	  /* a waiter has signalled */
	LWLock			 lock;
	bool			 closed; /* the session has ended; under the lock */
	int				 count;	 /* of entries, never changes */
	ReceiptEntry	 entries[FLEXIBLE_ARRAY_MEMBER];
} Receipts;

static dsm_segment *receipt_own; /* where this session leads */
static Receipts	   *receipt_led;
static int		   *receipt_done; /* entries to wake at COMMIT */
static int			receipt_done_count;
static bool receipt_has_read; /* this transaction has read the entries */

/* ---- The session that leads ---- */

/* Wakes those that are ready; all, where the session ends. */
static void
receipt_wake(Receipts *receipts, int n)
{
	ReceiptEntry *entry = &receipts->entries[n];

	if (!entry->used)
		return;
	entry->ready = true;
	SetLatch(&ProcGlobal->allProcs[n].procLatch);
}

static void
receipt_close(dsm_segment *segment, Datum arg)
{
	Receipts *receipts = dsm_segment_address(segment);

	LWLockAcquire(&receipts->lock, LW_EXCLUSIVE);
	receipts->closed = true;
	for (int i = 0; i < receipts->count; i++)
		receipt_wake(receipts, i);
	LWLockRelease(&receipts->lock);
	receipt_own = NULL;
	receipt_led = NULL;
}

static dsm_segment *
receipt_make_segment(void)
{
	int	 count = ProcGlobal->allProcCount;
	Size size = offsetof(Receipts, entries) + count * sizeof(ReceiptEntry);
	dsm_segment *segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	Receipts	*receipts;

	if (segment == NULL)
		return NULL;
	receipts = dsm_segment_address(segment);
	memset(receipts, 0, size);
	receipts->database = MyDatabaseId;
	receipts->pid = MyProcPid;
	receipts->proc_number = compat_proc_number(MyProc);
	receipts->count = count;
	pg_atomic_init_u32(&receipts->waiters, 0);
	pg_atomic_init_u32(&receipts->called, 0);
	LWLockInitialize(&receipts->lock, LWLockNewTrancheId());
	LWLockRegisterTranche(receipts->lock.tranche, "pgstock_receipts");
	receipts->magic = RECEIPTS_MAGIC;
	return segment;
}

/* open_receipts() RETURNS bigint */
Datum
pgstock_open_receipts(PG_FUNCTION_ARGS)
{
	if (receipt_own == NULL)
	{
		dsm_segment *segment = receipt_make_segment();

		if (segment == NULL)
			PG_RETURN_NULL();
		on_dsm_detach(segment, receipt_close, (Datum) 0);
		dsm_pin_mapping(segment);
		receipt_own = segment;
		receipt_led = dsm_segment_address(segment);
	}
	PG_RETURN_INT64((int64) dsm_segment_handle(receipt_own));
}

/* Ordered after what this session did before, and before what it does next. */
static bool
receipt_has_waiters(void)
{
	bool some;

	pg_memory_barrier();
	some = pg_atomic_read_u32(&receipt_led->waiters) > 0;
	pg_memory_barrier();
	return some;
}

static void
receipt_put_waiter(ReturnSetInfo *info, int n, const ReceiptEntry *entry)
{
	Datum values[] = {
		Int32GetDatum(n),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(entry->xid)),
		Int64GetDatum(entry->seq),
		BoolGetDatum(entry->held),
	};
	bool nulls[lengthof(values)] = {0};

	tuplestore_putvalues(info->setResult, info->setDesc, values, nulls);
}

/*
 * receipt_waiters(OUT waiter int, OUT xid xid8, OUT seq bigint,
 *				   OUT held boolean) RETURNS SETOF record
 */
Datum
pgstock_receipt_waiters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (receipt_led == NULL)
		return (Datum) 0;
	receipt_has_read = true;
	if (!receipt_has_waiters())
		return (Datum) 0;
	for (int i = 0; i < receipt_led->count; i++)
	{
		ReceiptEntry entry;

		LWLockAcquire(&receipt_led->lock, LW_EXCLUSIVE);
		receipt_led->entries[i].seen = true;
		entry = receipt_led->entries[i];
		LWLockRelease(&receipt_led->lock);
		if (entry.used && !entry.ready)
			receipt_put_waiter(info, i, &entry);
	}
	return (Datum) 0;
}

/* wake_waiter(waiter int) RETURNS boolean */
Datum
pgstock_wake_waiter(PG_FUNCTION_ARGS)
{
	int waiter = PG_GETARG_INT32(0);

	if (receipt_led == NULL || waiter < 0 || waiter >= receipt_led->count)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("there is no waiter %d", waiter)));
	if (receipt_done == NULL)
		receipt_done = MemoryContextAlloc(TopMemoryContext,
										  receipt_led->count * sizeof(int));
	if (receipt_done_count < receipt_led->count)
		receipt_done[receipt_done_count++] = waiter;
	PG_RETURN_BOOL(true);
}

/* L4 of the banner.  Cannot fail: the transaction has committed. */
static void
receipt_after_commit(void)
{
	if (!receipt_has_waiters())
		return;
	LWLockAcquire(&receipt_led->lock, LW_EXCLUSIVE);
	for (int i = 0; i < receipt_done_count; i++)
		receipt_wake(receipt_led, receipt_done[i]);
	for (int i = 0; i < receipt_led->count; i++)
	{
		if (!receipt_led->entries[i].seen)
			receipt_wake(receipt_led, i);
	}
	LWLockRelease(&receipt_led->lock);
}

static void
receipt_on_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event == XACT_EVENT_COMMIT && receipt_has_read && receipt_led != NULL)
		receipt_after_commit();
	receipt_has_read = false;
	receipt_done_count = 0;
}

void
receipt_init(void)
{
	RegisterXactCallback(receipt_on_transaction, NULL);
}

/* Whether a waiter has requested prompt positions since the last call. */
bool
receipt_take_request(void)
{
	return receipt_led != NULL &&
		   pg_atomic_read_u32(&receipt_led->called) != 0 &&
		   pg_atomic_exchange_u32(&receipt_led->called, 0) != 0;
}

/* ---- A session that waits ---- */

static int
receipt_own_entry(void)
{
	return (int) (MyProc - ProcGlobal->allProcs);
}

static void
receipt_leave(dsm_segment *segment, Datum arg)
{
	Receipts	 *receipts = dsm_segment_address(segment);
	ReceiptEntry *entry = &receipts->entries[DatumGetInt32(arg)];

	LWLockAcquire(&receipts->lock, LW_EXCLUSIVE);
	if (entry->used)
		pg_atomic_fetch_sub_u32(&receipts->waiters, 1);
	memset(entry, 0, sizeof(*entry));
	LWLockRelease(&receipts->lock);
}

void
receipt_detach(ReceiptPlace *place)
{
	if (place->segment != NULL)
		dsm_detach(place->segment); /* calls receipt_leave */
	memset(place, 0, sizeof(*place));
}

bool
receipt_is_closed(const ReceiptPlace *place)
{
	bool closed;

	LWLockAcquire(&place->receipts->lock, LW_SHARED);
	closed = place->receipts->closed;
	LWLockRelease(&place->receipts->lock);
	return closed;
}

/*
 * Attaches to the leading session's segment, unless there is none now.  That of
 * a session that has ended exists while another waiter is attached to it.
 */
bool
receipt_attach(ReceiptPlace *place, dsm_handle handle)
{
	int			 n = receipt_own_entry();
	dsm_segment *segment;
	Receipts	*receipts;

	Assert(place->segment == NULL);
	/* a session that leads cannot be woken by itself */
	if (handle == DSM_HANDLE_INVALID || receipt_own != NULL ||
		dsm_find_mapping(handle) != NULL)
		return false;
	segment = dsm_attach(handle);
	if (segment == NULL)
		return false;
	receipts = dsm_segment_address(segment);
	if (dsm_segment_map_length(segment) < sizeof(Receipts) ||
		receipts->magic != RECEIPTS_MAGIC ||
		receipts->database != MyDatabaseId || n >= receipts->count)
	{
		dsm_detach(segment); /* a number that a dump contained */
		return false;
	}
	LWLockRegisterTranche(receipts->lock.tranche, "pgstock_receipts");
	on_dsm_detach(segment, receipt_leave, Int32GetDatum(n));
	*place = (ReceiptPlace){.segment = segment, .receipts = receipts};
	if (receipt_is_closed(place))
		receipt_detach(place);
	return place->segment != NULL;
}

/*
 * Enters what the session waits for, and requests prompt positions.  True if it
 * was not entered before: the state must be read again.
 */
bool
receipt_enter(const ReceiptPlace *place, uint64 xid, int64 seq, bool held)
{
	Receipts	 *receipts = place->receipts;
	ReceiptEntry *entry = &receipts->entries[receipt_own_entry()];
	bool		  is_new;

	LWLockAcquire(&receipts->lock, LW_EXCLUSIVE);
	is_new = !entry->used || entry->xid != xid || entry->seq != seq ||
			 entry->held != held;
	if (!entry->used)
		pg_atomic_fetch_add_u32(&receipts->waiters, 1);
	if (is_new)
		*entry = (ReceiptEntry){
			.xid = xid,
			.seq = seq,
			.used = true,
			.held = held,
		};
	LWLockRelease(&receipts->lock);
	if (is_new && !held && pg_atomic_exchange_u32(&receipts->called, 1) == 0)
		(void) SendProcSignal(receipts->pid, PROCSIG_NOTIFY_INTERRUPT,
							  receipts->proc_number);
	return is_new;
}

/* Whether the session was woken to read the state again. */
bool
receipt_take_ready(const ReceiptPlace *place)
{
	ReceiptEntry *entry;
	bool		  ready;

	if (place->segment == NULL)
		return false;
	entry = &place->receipts->entries[receipt_own_entry()];
	LWLockAcquire(&place->receipts->lock, LW_EXCLUSIVE);
	ready = entry->ready;
	entry->ready = false;
	LWLockRelease(&place->receipts->lock);
	return ready;
}
