/*-------------------------------------------------------------------------
 *
 * publish.c
 *	  An application's own events through the same outbox.
 *
 * What Kafka would refuse later is refused here, while the caller can still do
 * something about it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/uuid.h"

#include "pgstock.h"

PG_FUNCTION_INFO_V1(pgstock_publish_event);
PG_FUNCTION_INFO_V1(pgstock_publish_bytes);

/* publish_*(topic, key, payload, event_type, headers, event_id) */
static Datum
publish(FunctionCallInfo fcinfo, const char *function, OutboxRecord *record)
{
	char	   *topic = args_text(fcinfo, 0);
	char	   *key = args_text(fcinfo, 1);
	char	   *event_type = args_text(fcinfo, 3);
	const char *fault = topic ? outbox_topic_fault(topic) : "must not be null";
	Work		work;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic %s", fault)));
	if (event_type != NULL && event_type[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("event_type must not be empty")));
	record->topic = topic;
	record->event_type = event_type ? event_type : topic;
	record->key = key;
	record->key_len = key ? strlen(key) : 0;
	if (!PG_ARGISNULL(4))
		record->headers = headers_pack(
			headers_from_jsonb(PG_GETARG_JSONB_P(4)));
	if (PG_ARGISNULL(5))
		event_new_id(&record->event_id);
	else
		record->event_id = *PG_GETARG_UUID_P(5);

	work_begin(&work, function);
	record->traceparent = work.traceparent;
	outbox_append(&work, record);
	work_end(&work);
	*id = record->event_id;
	PG_RETURN_UUID_P(id);
}

Datum
pgstock_publish_event(PG_FUNCTION_ARGS)
{
	OutboxRecord record = {.format = 'j'};

	if (!PG_ARGISNULL(2))
	{
		Jsonb *payload = PG_GETARG_JSONB_P(2);

		record.payload = JsonbToCString(NULL, &payload->root, VARSIZE(payload));
		record.payload_len = strlen(record.payload);
	}
	return publish(fcinfo, "publish_event()", &record);
}

Datum
pgstock_publish_bytes(PG_FUNCTION_ARGS)
{
	OutboxRecord record = {.format = 'b'};

	if (!PG_ARGISNULL(2))
	{
		bytea *payload = PG_GETARG_BYTEA_PP(2);

		record.payload = VARDATA_ANY(payload);
		record.payload_len = VARSIZE_ANY_EXHDR(payload);
	}
	return publish(fcinfo, "publish_bytes()", &record);
}
