/*-------------------------------------------------------------------------
 *
 * outbox/window.c
 *	  What the outbox window (sql/window.sql) needs of the server.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/timeline.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/pg_lsn.h"
#include "utils/syscache.h"
#include "utils/xid8.h"

#include "outbox/outbox.h"

PG_FUNCTION_INFO_V1(pgstock_outbox_fence);
PG_FUNCTION_INFO_V1(pgstock_next_xid);
PG_FUNCTION_INFO_V1(pgstock_last_seq);
PG_FUNCTION_INFO_V1(pgstock_history_contains);
PG_FUNCTION_INFO_V1(pgstock_database_was_altered);
PG_FUNCTION_INFO_V1(pgstock_page_has_room);

/* Where events must be durable before they are published. */
typedef enum WindowFence
{
	FENCE_LOCAL,
	FENCE_AUTO,		   /* at the synchronous standby too, if one is named */
	FENCE_REMOTE_FLUSH /* at the synchronous standby */
} WindowFence;

static WindowFence
window_fence_of(const char *publish_after)
{
	if (strcmp(publish_after, "local") == 0)
		return FENCE_LOCAL;
	if (strcmp(publish_after, "auto") == 0)
		return FENCE_AUTO;
	if (strcmp(publish_after, "remote_flush") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("publish_after must be auto, local or "
							   "remote_flush, not \"%s\"",
							   publish_after)));
	return FENCE_REMOTE_FLUSH;
}

/* Returns how far the WAL is durable. */
static XLogRecPtr
window_fence(WindowFence fence)
{
	XLogRecPtr lsn;

	if (fence == FENCE_REMOTE_FLUSH && !durability_standby_is_named())
		lsn = InvalidXLogRecPtr;
	else
		lsn = durability_fence(fence != FENCE_LOCAL);

	/* the setting may have been emptied during the wait */
	if (fence == FENCE_REMOTE_FLUSH &&
		(XLogRecPtrIsInvalid(lsn) || !durability_standby_has(lsn)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot publish events: no synchronous standby is "
						"configured"),
				 errdetail("publish_after is remote_flush."),
				 errhint("Set synchronous_standby_names, or publish_after = "
						 "auto for the relay.")));
	return lsn;
}

/*
 * outbox_fence(publish_after text, OUT lsn pg_lsn, OUT timeline int)
 *
 * Called after the window's snapshot was taken: with early lock release what
 * the snapshot shows may not be durable yet, and after a crash the same xids
 * would be handed out again.
 */
Datum
pgstock_outbox_fence(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {0};
	WindowFence fence = window_fence_of(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	version_check();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	Assert(desc->natts == lengthof(values));
	values[0] = LSNGetDatum(window_fence(fence));
	values[1] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	return HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* next_xid() RETURNS xid8 */
Datum
pgstock_next_xid(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(ReadNextFullTransactionId());
}

/*
 * last_seq() RETURNS bigint
 *
 * Not SELECT last_value: that reads the sequence's page without its lock, and
 * nextval, whenever it writes WAL, sets last_value 32 ahead for an instant.  A
 * floor read in that instant has lost events.
 */
Datum
pgstock_last_seq(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(call, 1);
	Datum seq;

	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = ObjectIdGetDatum(relation_look_up("outbox_seq"));
	call->args[0].isnull = false;
	seq = pg_sequence_last_value(call);
	/* NULL: none was drawn */
	Assert(call->isnull || DatumGetInt64(seq) > 0);
	return call->isnull ? Int64GetDatum(0) : seq;
}

/*
 * history_contains(timeline int, lsn pg_lsn) RETURNS boolean
 *
 * Whether that point lies on this server's present timeline, or on an ancestor
 * before the fork, and is flushed here.
 */
Datum
pgstock_history_contains(PG_FUNCTION_ARGS)
{
	TimeLineID timeline = (TimeLineID) PG_GETARG_INT32(0);
	XLogRecPtr lsn = PG_GETARG_LSN(1);
	TimeLineID present = GetWALInsertionTimeLine();
	List	  *history;
	bool	   contains;

	Assert(timeline > 0 && present > 0);
	if (lsn > GetFlushRecPtr(NULL))
		PG_RETURN_BOOL(false);
	if (timeline == present)
		PG_RETURN_BOOL(true);
	history = readTimeLineHistory(present);
	contains = tliInHistory(timeline, history) &&
			   tliSwitchPoint(timeline, history, NULL) >= lsn;
	PG_RETURN_BOOL(contains);
}

/*
 * database_was_altered() RETURNS boolean
 *
 * ALTER DATABASE and GRANT ON DATABASE write the row of pg_database anew, with
 * the xid of their own transaction.
 */
Datum
pgstock_database_was_altered(PG_FUNCTION_ARGS)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID,
									  ObjectIdGetDatum(MyDatabaseId));
	bool	  altered;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for database %u", MyDatabaseId);
	altered = (tuple->t_data->t_infomask & HEAP_UPDATED) != 0;
	ReleaseSysCache(tuple);
	PG_RETURN_BOOL(altered);
}

/* The bytes of an argument, without reading them. */
static int64
window_bytes(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument))
		return 0;
	return (int64) toast_raw_datum_size(PG_GETARG_DATUM(argument)) - VARHDRSZ;
}

/* Those of a text, as the relay receives it. */
static int64
window_utf8_bytes(FunctionCallInfo fcinfo, int argument)
{
	text *string;
	int	  length;

	if (GetDatabaseEncoding() == PG_UTF8 || PG_ARGISNULL(argument))
		return window_bytes(fcinfo, argument);
	string = PG_GETARG_TEXT_PP(argument);
	text_to_utf8(VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string), &length);
	return length;
}

/*
 * page_has_room(payload bytea, headers bytea, key bytea, event_type text,
 *				 max_bytes int) RETURNS boolean
 *
 * The sum lives as long as one execution of the calling statement.  The relay
 * adds up the same bytes of the rows that it receives: a page with fewer than
 * max_bytes and max_rows ends the window.
 */
Datum
pgstock_page_has_room(PG_FUNCTION_ARGS)
{
	int64 *sum = fcinfo->flinfo->fn_extra;
	int64  before;

	if (sum == NULL)
		sum = fcinfo->flinfo
				  ->fn_extra = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
													  sizeof(int64));
	before = *sum;
	Assert(before >= 0);
	for (int argument = 0; argument < 3; argument++)
		*sum += window_bytes(fcinfo, argument);
	*sum += window_utf8_bytes(fcinfo, 3);
	Assert(*sum >= before);
	PG_RETURN_BOOL(before < PG_GETARG_INT32(4));
}
