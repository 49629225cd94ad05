/*-------------------------------------------------------------------------
 *
 * idempotency.c
 *	  Explicit idempotency keys: the same request again gets the same answer.
 *
 * The request is the order, the user and the merged lines; the order of lines,
 * the ttl and the strategy do not count.  Only its 64-bit hash is kept.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "pgstock.h"

#define LOCK_CLASS_KEY 0x7066

enum
{
	KEY_KEY,
	KEY_REQUEST,
	KEY_ANSWER,
	KEY_CREATED_AT
};

/* Locks a key, so that of two sessions the second sees the first's answer. */
void
idempotency_lock(const char *key)
{
	lock_name(LOCK_CLASS_KEY, key);
}

static void
hash_part(StringInfo buffer, const char *part)
{
	/* Length first: no two different requests give the same bytes. */
	if (part == NULL)
		appendStringInfoString(buffer, "-;");
	else
		appendStringInfo(buffer, "%zu:%s;", strlen(part), part);
}

static int64
request_hash(const Request *request)
{
	StringInfoData buffer;
	ListCell	  *cell;

	initStringInfo(&buffer);
	hash_part(&buffer, request->order_id);
	hash_part(&buffer, request->user_id);
	foreach(cell, request->lines)
	{
		Line *line = lfirst(cell);

		hash_part(&buffer, line->product_id);
		hash_part(&buffer, line->location);
		appendStringInfo(&buffer, INT64_FORMAT ";", line->quantity);
	}
	return (int64) DatumGetUInt64(
		hash_any_extended((unsigned char *) buffer.data, buffer.len, 0));
}

static List *
answer_read(Datum answer, TupleDesc desc)
{
	Datum *rows;
	int	   n;
	List  *answers = NIL;

	deconstruct_array(DatumGetArrayTypeP(answer), TEXTOID, -1, false,
					  TYPALIGN_INT, &rows, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		Datum row = OidInputFunctionCall(F_RECORD_IN,
										 TextDatumGetCString(rows[i]),
										 desc->tdtypeid, -1);

		CHECK_FOR_INTERRUPTS();
		answers = lappend(answers, answer_from_datum(row, desc));
	}
	return answers;
}

/* The answer given before, or NIL; SK007 if the request was another. */
List *
idempotency_find(Work *work, const Request *request)
{
	Table		   *table = table_use(work, TABLE_IDEMPOTENCY);
	ItemPointerData tid;
	List		   *answers = NIL;

	work_refresh_snapshot();
	if (table_find_text(work, table, "idempotency_pkey",
						request->idempotency_key, &tid))
	{
		Datum *row = table->slot->tts_values;

		if (DatumGetInt64(row[KEY_REQUEST]) != request_hash(request))
		{
			commit_fence_error();
			ereport(
				ERROR,
				(errcode(ERRCODE_SK_KEY_REUSED),
				 errmsg("idempotency key \"%s\" was used for another request",
						request->idempotency_key),
				 errhint("Repeat the same request, or draw a new key.")));
		}
		answers = answer_read(row[KEY_ANSWER], request->answer_desc);
		/* This rests on somebody else's commit: it must be durable first. */
		commit_fence_answer();
	}
	return answers;
}

/*
 * The rows in their text form, the same whatever the session's settings: ISO
 * dates with their zone are read alike everywhere.
 */
static void
answer_write(List *answers, TupleDesc desc, Datum *rows)
{
	int		  level = NewGUCNestLevel();
	ListCell *cell;

	(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("timezone", "UTC", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	foreach(cell, answers)
	{
		Datum row = answer_datum(lfirst(cell), desc);

		CHECK_FOR_INTERRUPTS();
		rows[foreach_current_index(cell)] = CStringGetTextDatum(
			OidOutputFunctionCall(F_RECORD_OUT, row));
	}
	AtEOXact_GUC(true, level);
}

/* Stores the answer under the request's key, which is locked. */
void
idempotency_store(Work *work, const Request *request, List *answers)
{
	Table		   *table = table_use(work, TABLE_IDEMPOTENCY);
	Datum		   *rows = palloc(sizeof(Datum) * list_length(answers));
	TupleTableSlot *slot;

	answer_write(answers, request->answer_desc, rows);
	slot = table_new_row(table);
	memset(slot->tts_isnull, false, sizeof(bool) * (KEY_CREATED_AT + 1));
	slot->tts_values[KEY_KEY] = CStringGetTextDatum(request->idempotency_key);
	slot->tts_values[KEY_REQUEST] = Int64GetDatum(request_hash(request));
	slot->tts_values[KEY_ANSWER] = PointerGetDatum(
		construct_array(rows, list_length(answers), TEXTOID, -1, false,
						TYPALIGN_INT));
	slot->tts_values[KEY_CREATED_AT] = TimestampTzGetDatum(work->now);
	table_insert(work, table);
}
