/*-------------------------------------------------------------------------
 *
 * inbox/registered_handler.c
 *	  Applies a message by the handler that a user has registered.
 *
 * handler_fence.c isolates each call, but not from the calls before it in the
 * same transaction: their locks and the constraint mode are left.  So a failure
 * only counts where no handler has succeeded before in this transaction;
 * otherwise the batch ends before the message, which is the first one of the
 * next transaction.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "base/epoch_ms.h"
#include "base/utf8.h"
#include "inbox/inbox.h"

/* A transient failure is tried again at once so often. */
#define HANDLER_TRIES 3

/*
 * The pause before it, doubled each time.  The failed call has released its
 * locks; only a relay with the same messages waits for those of the batch.
 */
#define HANDLER_PAUSE_MS 20L

/*
 * A batch that has taken so long is committed: the relay takes an answer that
 * is late for lost.  A slow server's tests set it: dev/stage.
 */
#ifndef BATCH_MS_MAX
#define BATCH_MS_MAX 5000
#endif

/* ---- The arguments of a handler ---- */

/*
 * The value, which is valid JSON, as the server's parser takes it.  A character
 * that the encoding lacks raises an error of class 22: no other try helps.
 */
static char *
registered_handler_json(const char *utf8, int length)
{
	bool  converts = encoding_has_conversion();
	char *json;

	if (!converts)
	{
		utf8 = json_without_escapes(utf8, length);
		length = strlen(utf8);
	}
	json = text_from_utf8(utf8, length);
	if (json == NULL && !converts)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("the value holds a character that the database's "
						"encoding, %s, lacks",
						GetDatabaseEncodingName())));
	/* the error of jsonb names the character that the encoding lacks */
	return json != NULL ? json : json_as_ascii(utf8, length);
}

/* Sets the value as jsonb, without Confluent's frame; false for a tombstone. */
static bool
registered_handler_payload(const Record *record, Datum *payload)
{
	char *json;
	int	  frame;

	if (record->value == NULL)
		return false;
	frame = payload_frame_length(record->value);
	json = registered_handler_json(VARDATA_ANY(record->value) + frame,
								   VARSIZE_ANY_EXHDR(record->value) - frame);
	*payload = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	return true;
}

static void
registered_handler_add(StringInfo json, const char *name, const char *value)
{
	appendStringInfo(json, "%s\"%s\":", json->len > 1 ? "," : "", name);
	if (value == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, value);
}

/* The record's other parts as jsonb. */
static Datum
registered_handler_metadata(const Record *record, const Parsed *parsed,
							int attempt)
{
	const char	  *key = NULL;
	const char	  *sent_at = NULL;
	StringInfoData json;

	if (record->key != NULL)
		key = bytes_printable(VARDATA_ANY(record->key),
							  VARSIZE_ANY_EXHDR(record->key));
	if (record->sent_at_ms >= 0)
		sent_at = rfc3339_from_time(epoch_ms_to_timestamp(record->sent_at_ms));
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	registered_handler_add(&json, "topic", record->topic);
	appendStringInfo(&json, ",\"partition\":%d,\"offset\":" INT64_FORMAT,
					 record->partition, record->offset);
	registered_handler_add(&json, "key", key);
	registered_handler_add(&json, "event_id", parsed->event_id);
	registered_handler_add(&json, "event_type", parsed->event_type);
	registered_handler_add(&json, "timestamp", sent_at);
	appendStringInfo(&json, ",\"attempt\":%d,\"headers\":%s}", attempt,
					 headers_json(record->headers));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* The call itself, within the fence. */
static void
registered_handler_call(const Message *message, Oid function)
{
	LOCAL_FCINFO(fcinfo, 2);
	FmgrInfo	  flinfo;
	const Record *record = message->record;
	NullableDatum payload = {.value = 0};

	fmgr_info(function, &flinfo);
	Assert(flinfo.fn_nargs == 2);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 2, InvalidOid, NULL, NULL);
	payload.isnull = !registered_handler_payload(record, &payload.value);
	if (payload.isnull && flinfo.fn_strict)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("the message has no value (a tombstone)"),
						errdetail("The handler %s is STRICT.",
								  message->try.registered->function)));
	fcinfo->args[0] = payload;
	fcinfo->args[1].isnull = false;
	fcinfo->args[1].value = registered_handler_metadata(record,
														&message->parsed,
														message->try.attempts +
															1);
	(void) FunctionCallInvoke(fcinfo);
}

/* ---- Tries ---- */

/* Why a call failed, for the dead letter. */
static char *
registered_handler_failure_text(const ErrorData *error)
{
	if (handler_fence_timed_out())
		return psprintf("the handler took longer than %d ms",
						pgstock_handler_timeout);
	if (error->detail == NULL)
		return error->message;
	return psprintf("%s: %s", error->message, error->detail);
}

/* Whether the batch is to end before a further message. */
bool
registered_handler_batch_is_over(const HandlerBatch *batch)
{
	return batch->calls >= SAVEPOINTS_MAX ||
		   (batch->calls > 0 &&
			TimestampDifferenceExceeds(batch->began_at, GetCurrentTimestamp(),
									   BATCH_MS_MAX));
}

/*
 * Calls the message's handler and sets the outcome.  False: it failed where an
 * earlier handler may be the reason, so the message is to be the first one of
 * a transaction.
 */
bool
registered_handler_apply(HandlerBatch *batch, const InboxOptions *options,
						 Message *message)
{
	ErrorData *error;

	Assert(message->try.registered != NULL && message->parsed.poison == NULL);
	Assert(message->outcome.kind == OUTCOME_NONE);
	Assert(!message->try.isolated || !batch->succeeded);
	for (int n = 1;; n++)
	{
		batch->calls++;
		error = handler_fence_call(message, registered_handler_call);
		if (error == NULL)
		{
			/* it may have changed rows that we are about to write */
			call_refresh_snapshot();
			batch->succeeded = true;
			message->outcome = outcome_applied();
			return true;
		}
		if (batch->succeeded)
			return false;
		if (handler_fence_timed_out() || n == HANDLER_TRIES ||
			!failure_is_transient(error))
			break;
		call_pause(HANDLER_PAUSE_MS << n);
	}
	if (order_wait_was_raised(error))
	{
		message->outcome = outcome_waiting_for_order();
		return true;
	}
	message->try.attempts++;
	message->outcome = failure_outcome(options, message->try.attempts,
									   unpack_sql_state(error->sqlerrcode),
									   registered_handler_failure_text(error));
	return true;
}
