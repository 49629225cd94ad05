/*-------------------------------------------------------------------------
 *
 * outbox/publish.c
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

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "base/statistics.h"
#include "outbox/outbox.h"
#include "protocol/event_header.h"

PGSTOCK_COUNTED_FUNCTION(pgstock_publish_event, CALL_PUBLISH_EVENT);
PGSTOCK_COUNTED_FUNCTION(pgstock_publish_bytes, CALL_PUBLISH_BYTES);
PGSTOCK_COUNTED_FUNCTION(pgstock_publish_outbox_row, CALL_PUBLISH_OUTBOX_ROW);

/*
 * The caller's headers.  One is ours: it would make the event one that no
 * replay writes again, and that an audit takes for another one.
 */
static bytea *
publish_own_headers(Jsonb *object)
{
	List *headers = headers_from_jsonb(object);

	if (headers_find(headers, HEADER_REPLAY_OF) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("header \"%s\" is pgstock's own", HEADER_REPLAY_OF),
				 errdetail("It marks what pgstock-relay replay has written."),
				 errhint("Choose another name.")));
	return headers_pack(headers);
}

/* publish_*(topic, key, payload, event_type, headers, event_id) */
static Datum
publish(FunctionCallInfo fcinfo, const char *function, OutboxRecord *record)
{
	char	  *topic = args_text(fcinfo, 0);
	char	  *key = args_text(fcinfo, 1);
	char	  *event_type = args_text(fcinfo, 3);
	Call	   call;
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	Assert(record->format == 'j' || record->format == 'b');
	Assert(record->payload != NULL || record->payload_len == 0);
	if (topic == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("topic must not be null")));
	if (event_type != NULL && event_type[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("event_type must not be empty")));
	record->topic = topic;
	record->event_type = event_type ? event_type : topic;
	record->key = key;
	record->key_len = key ? strlen(key) : 0;
	if (!PG_ARGISNULL(4))
		record->headers = publish_own_headers(PG_GETARG_JSONB_P(4));
	if (PG_ARGISNULL(5))
		uuid_generate(&record->event_id);
	else
		record->event_id = *PG_GETARG_UUID_P(5);

	call_begin(&call, function);
	topic_must_not_be_reserved(&call, topic);
	record->traceparent = call.traceparent;
	outbox_append(&call, record);
	call_end(&call);
	*id = record->event_id;
	PG_RETURN_UUID_P(id);
}

static Datum
pgstock_publish_event_body(PG_FUNCTION_ARGS)
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

static Datum
pgstock_publish_bytes_body(PG_FUNCTION_ARGS)
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

/* ---- An outbox table that is there already ---- */

/* A column of the inserted row as text, or NULL; it must exist. */
static char *
publish_row_column(TriggerData *trigger, const char *name, Oid *type)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	int		  column = SPI_fnumber(desc, name);

	if (column == SPI_ERROR_NOATTRIBUTE)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"%s\"",
						RelationGetRelationName(trigger->tg_relation), name),
				 errhint("publish_outbox_row needs the columns id, "
						 "aggregatetype, aggregateid, type and payload.")));
	Assert(column > 0); /* no name above is that of a system column */
	*type = SPI_gettypeid(desc, column);
	return SPI_getvalue(trigger->tg_trigtuple, desc, column);
}

static void
publish_check_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("publish_outbox_row must be an AFTER INSERT trigger "
						"FOR EACH ROW")));
}

/*
 * The payload: bytes as they are, anything else as text, which is UTF-8 in
 * Kafka.  A domain is what it is made of.
 */
static void
publish_row_payload(TriggerData *trigger, OutboxRecord *record)
{
	Oid	  type;
	char *payload = publish_row_column(trigger, "payload", &type);

	if (payload == NULL)
		return;
	type = getBaseType(type);
	if (type == BYTEAOID)
	{
		bytea *bytes = DatumGetByteaPP(
			DirectFunctionCall1(byteain, CStringGetDatum(payload)));

		record->payload = VARDATA_ANY(bytes);
		record->payload_len = VARSIZE_ANY_EXHDR(bytes);
		return;
	}
	/* 'j' is converted by outbox_append */
	if (type == JSONBOID || type == JSONOID)
	{
		record->format = 'j';
		record->payload = payload;
		record->payload_len = strlen(payload);
		return;
	}
	record->payload = text_to_utf8(payload, strlen(payload),
								   &record->payload_len);
}

/* publish_outbox_row() RETURNS trigger */
static Datum
pgstock_publish_outbox_row_body(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	OutboxRecord record = {.format = 'b'};
	Call		 call;
	Oid			 type;
	char		*id;
	char		*aggregate;

	publish_check_trigger(fcinfo);
	id = publish_row_column(trigger, "id", &type);
	aggregate = publish_row_column(trigger, "aggregatetype", &type);
	if (id == NULL || aggregate == NULL)
		ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
						errmsg("id and aggregatetype must not be null")));
	record.event_id = *DatumGetUUIDP(
		DirectFunctionCall1(uuid_in, CStringGetDatum(id)));
	record.topic = psprintf("outbox.event.%s", aggregate);
	record.key = publish_row_column(trigger, "aggregateid", &type);
	record.key_len = record.key ? strlen(record.key) : 0;
	record.event_type = publish_row_column(trigger, "type", &type);
	if (record.event_type == NULL)
		record.event_type = record.topic;
	publish_row_payload(trigger, &record);

	Assert(record.payload != NULL || record.payload_len == 0);
	call_begin(&call, "publish_outbox_row()");
	topic_must_not_be_reserved(&call, record.topic);
	record.traceparent = call.traceparent;
	outbox_append(&call, &record);
	call_end(&call);
	return PointerGetDatum(NULL);
}
