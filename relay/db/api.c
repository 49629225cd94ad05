/*
 * api.c - the database's functions for the relay (docs/relay-protocol.md)
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "db/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "extension/protocol/channel.h"

/* types of array elements */
#define OID_BYTEA 17
#define OID_INT8  20
#define OID_INT4  23
#define OID_TEXT  25

#define FUNCTION(name) "SELECT * FROM pgstock_internal." name
#define APPLY_PARAMETERS                                              \
	"$1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bytea[]," \
	" $6::bytea[], $7::bytea[], $8::jsonb"

/* The elements of its lists are rows of their own, and so is the time. */
#define API_STATUS_QUERY                                                    \
	"WITH s AS MATERIALIZED (SELECT * FROM pgstock_internal.relay_status()" \
	") SELECT name, value, value #>> '{}', NULL, NULL, NULL, NULL FROM s"   \
	" WHERE s.name <> 'problems'"                                           \
	" UNION ALL SELECT '+problem', NULL, p, NULL, NULL, NULL, NULL"         \
	" FROM s, pg_catalog.jsonb_array_elements_text(s.value) p"              \
	" WHERE s.name = 'problems'"                                            \
	" UNION ALL SELECT '+now', NULL,"                                       \
	" pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC',"  \
	" 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"                                \
	" NULL, NULL, NULL, NULL"                                               \
	" UNION ALL SELECT '+held', NULL, h ->> 'topic', h ->> 'events',"       \
	" h ->> 'since', h ->> 'reason', NULL"                                  \
	" FROM s, pg_catalog.jsonb_array_elements(s.value) h"                   \
	" WHERE s.name = 'held_topics'"                                         \
	" UNION ALL SELECT '+missing', NULL,"                                   \
	" pg_catalog.concat(m ->> 'topic', '/', m ->> 'partition'),"            \
	" m ->> 'first_offset', m ->> 'last_offset', m ->> 'found_at',"         \
	" m ->> 'reason' FROM s, pg_catalog.jsonb_array_elements(s.value) m"    \
	" WHERE s.name = 'missing_messages'"                                    \
	" UNION ALL SELECT '+binding', NULL, b ->> 'topic', b ->> 'handler',"   \
	" b ->> 'event_type', NULL, NULL"                                       \
	" FROM s, pg_catalog.jsonb_array_elements(s.value) b"                   \
	" WHERE s.name = 'bindings' AND b ->> 'is_default' = 'false'"

/* A statement's number is that of its call. */
#define STATEMENT(call, name, sql, nparams, binary) \
	[API_##call] = {name, sql, nparams, API_##call, binary}

static const PgStatement statements[] = {
	STATEMENT(HELLO, "hello", FUNCTION("relay_hello()"), 0, 0),
	STATEMENT(LISTEN, "listen", "LISTEN " CHANNEL_OUTBOX, 0, 0),
	STATEMENT(ECHO, "echo", FUNCTION("relay_echo()"), 0, 0),
	STATEMENT(TOPICS, "topics", FUNCTION("relay_topics()"), 0, 0),
	STATEMENT(LEAD, "lead", FUNCTION("relay_lead()"), 0, 0),
	STATEMENT(BEAT, "beat", FUNCTION("relay_beat()"), 0, 0),
	STATEMENT(POSITION, "position", FUNCTION("relay_position()"), 0, 0),
	STATEMENT(LOOK, "look",
			  FUNCTION("relay_look($1::text, $2::text, $3::int, $4::int)"), 4,
			  1),
	STATEMENT(POSITION_OF, "position_of", FUNCTION("relay_position($1::bytea)"),
			  1, 0),
	STATEMENT(SLEEP, "sleep", FUNCTION("relay_sleep($1::text, $2::text)"), 2,
			  0),
	STATEMENT(PAGE, "page",
			  FUNCTION("relay_page($1::text, $2::bigint, $3::int, $4::int)"), 4,
			  1),
	STATEMENT(STORE, "store",
			  FUNCTION("relay_store_position($1::text,"
					   " $2::bigint, $3::boolean, $4::bigint)"),
			  4, 0),
	STATEMENT(HELD, "held", FUNCTION("relay_held_topics()"), 0, 0),
	STATEMENT(HOLD, "hold",
			  FUNCTION("relay_hold($1::text, $2::text, $3::bigint)"), 3, 0),
	STATEMENT(SET_ASIDE, "set_aside",
			  FUNCTION("relay_set_aside($1::bigint[], $2::bigint)"), 2, 0),
	STATEMENT(HELD_PAGE, "held_page",
			  FUNCTION("relay_held_page($1::text, $2::int, $3::int)"), 3, 1),
	STATEMENT(CROSS_OFF, "cross_off",
			  FUNCTION("relay_cross_off($1::text, $2::bigint[],"
					   " $3::boolean, $4::bigint)"),
			  4, 0),
	STATEMENT(OFFSETS, "offsets", FUNCTION("relay_offsets($1::text[])"), 1, 0),
	STATEMENT(BEGIN_TOPIC, "begin_topic",
			  FUNCTION("relay_begin_topic($1::text,"
					   " $2::bigint[]::int[], $3::bigint[])"),
			  3, 0),
	STATEMENT(MOVE_OFFSET, "move_offset",
			  FUNCTION("relay_move_offset($1::text, $2::int,"
					   " $3::bigint, $4::bigint,"
					   " nullif($5::bigint, -1), $6::text)"),
			  6, 0),
	STATEMENT(FINGERPRINT, "fingerprint",
			  FUNCTION("relay_fingerprint($1::text, $2::int,"
					   " $3::bigint, $4::text)"),
			  4, 0),
	STATEMENT(APPLY, "apply", FUNCTION("relay_apply(" APPLY_PARAMETERS ")"), 8,
			  0),
	STATEMENT(APPLY_FAILED, "apply_failed",
			  FUNCTION("relay_apply_failed(" APPLY_PARAMETERS
					   ", $9::text, $10::text)"),
			  10, 0),
	STATEMENT(RETRY, "retry", FUNCTION("relay_retry($1::int, $2::jsonb)"), 2,
			  0),
	STATEMENT(METRICS, "metrics", FUNCTION("relay_metrics()"), 0, 0),
	STATEMENT(PURGE, "purge",
			  FUNCTION("relay_upkeep($1::interval,"
					   " $2::interval, $3::int)"),
			  3, 0),
	STATEMENT(EXPIRE, "expire", FUNCTION("relay_expire($1::int)"), 1, 0),
	STATEMENT(LEVELS, "levels",
			  FUNCTION("relay_levels($1::text, $2::text, $3::int)"), 3, 0),
	STATEMENT(LEVEL_OFFSETS, "level_offsets", FUNCTION("relay_level_offsets()"),
			  0, 0),
	STATEMENT(LEVELS_READ, "levels_read",
			  FUNCTION("relay_levels_read($1::text, $2::int[],"
					   " $3::bigint[], $4::bytea[], $5::bytea[],"
					   " $6::bytea[], $7::boolean)"),
			  7, 0),
	STATEMENT(ALERTS, "alerts", FUNCTION("relay_alerts($1::bigint, $2::int)"),
			  2, 0),
	STATEMENT(ALERTED, "alerted",
			  FUNCTION("relay_alerted($1::bigint[], $2::boolean)"), 2, 0),
	STATEMENT(ADOPT, "adopt", FUNCTION("relay_adopt($1::boolean, $2::text)"), 2,
			  0),
	STATEMENT(STATUS, "status", API_STATUS_QUERY, 0, 0),
	STATEMENT(OUTBOX_RANGE, "outbox_range", FUNCTION("relay_outbox_range()"), 0,
			  0),
	STATEMENT(REPLAY, "replay",
			  FUNCTION("relay_replay(ROW($1::bigint, $2::bigint,"
					   " $3::timestamptz, $4::timestamptz, $5::text)"
					   "::pgstock_internal.replay_filter, $6::bigint,"
					   " $7::int, $8::boolean, $9::text)"),
			  9, 0),
	STATEMENT(SNAPSHOT, "snapshot",
			  FUNCTION("relay_snapshot($1::text, $2::text, $3::text,"
					   " $4::int)"),
			  4, 0),
	STATEMENT(REWIND, "rewind",
			  FUNCTION("relay_rewind($1::text, $2::int[], $3::bigint[],"
					   " $4::text)"),
			  4, 0),
	STATEMENT(FAILED, "failed",
			  FUNCTION("relay_failed($1::bigint, $2::text, $3::text,"
					   " $4::timestamptz, $5::text, $6::text,"
					   " $7::bigint, $8::int)"),
			  8, 0),
	STATEMENT(FAILED_COUNT, "failed_count",
			  FUNCTION("relay_failed_count($1::text, $2::text,"
					   " $3::timestamptz, $4::text, $5::text)"),
			  5, 0),
	STATEMENT(DISCARD_HELD, "discard_held",
			  FUNCTION("relay_discard_held($1::uuid, $2::text)"), 2, 0),
	STATEMENT(ORDER, "order", FUNCTION("relay_order($1::text)"), 1, 0),
	STATEMENT(REPORT, "report",
			  FUNCTION("relay_report($1::timestamptz, $2::timestamptz)"), 2, 0),
	STATEMENT(FAILED_ACT, "failed_act",
			  FUNCTION("relay_failed_act($1::text, $2::bigint,"
					   " $3::text)"),
			  3, 0),
	STATEMENT(AUDIT_PAGE, "audit_page",
			  FUNCTION("relay_audit_page($1::timestamptz, $2::bigint,"
					   " $3::bigint, $4::int)"),
			  4, 1),
	STATEMENT(AUDIT_HOLDS, "audit_holds",
			  FUNCTION("relay_audit_holds($1::bigint, $2::uuid)"), 2, 0),
	STATEMENT(SERVER, "server",
			  "SELECT s.rolsuper,"
			  " has_schema_privilege(p.pronamespace, 'USAGE') AND"
			  " has_function_privilege(p.oid, 'EXECUTE'),"
			  " current_setting('fsync')::boolean,"
			  " current_setting('full_page_writes')::boolean,"
			  " (extract(epoch FROM clock_timestamp()) * 1000000)"
			  "::bigint, current_setting('server_encoding'),"
			  " a.default_version, e.extversion, e.schema"
			  " FROM pg_roles s"
			  " LEFT JOIN pg_available_extensions a"
			  " ON a.name = 'pgstock'"
			  " LEFT JOIN (SELECT x.extversion,"
			  " x.extnamespace::regnamespace AS schema"
			  " FROM pg_extension x WHERE x.extname = 'pgstock') e"
			  " ON true LEFT JOIN pg_proc p"
			  " ON p.proname = 'relay_hello' AND p.pronamespace ="
			  " (SELECT n.oid FROM pg_namespace n"
			  " WHERE n.nspname = 'pgstock_internal')"
			  " WHERE s.rolname = current_user",
			  0, 0),
	STATEMENT(CHECK, "check", FUNCTION("relay_check($1::text[], current_user)"),
			  1, 0),
};
_Static_assert(Lengthof(statements) == API_CALLS, "a statement for each call");
_Static_assert(API_CALLS <= PG_CONNECTION_STATEMENTS_MAX, "a bit for each");

static const PgStatement *
api_statement(ApiCall call)
{
	const PgStatement *statement;

	Assert((size_t) call < API_CALLS);
	statement = &statements[call];
	Assert(statement->sql != NULL);
	return statement;
}

static PgParam
api_text_param(const char *text)
{
	return (PgParam){.data = text};
}

PgParam
api_number(NumberText *memory, int64_t number)
{
	int len = snprintf(memory->text, sizeof(memory->text), "%" PRId64, number);

	Assert(len > 0 && (size_t) len < sizeof(memory->text));
	return api_text_param(memory->text);
}

PgParam
api_bytes(Slice bytes)
{
	Assert(bytes.len <= INT32_MAX);
	return (PgParam){
		.data = bytes.data,
		.length = (int) bytes.len,
		.binary = 1,
	};
}

static PgParam
api_binary_param(const Buf *buf)
{
	return api_bytes((Slice){buf->data, buf->len});
}

/* ---- arrays in binary -------------------------------------------------- */

#define ARRAY_COUNT_AT	 12 /* where the number of elements stands */
#define ARRAY_HEADER_LEN 20 /* before the first element */

static void
api_array_begin(Buf *array, uint32_t element_type)
{
	buf_clear(array);
	buf_add_u32(array, 1); /* dimensions */
	buf_add_u32(array, 1); /* there may be nulls */
	buf_add_u32(array, element_type);
	buf_add_u32(array, 0); /* elements, see api_array_end() */
	buf_add_u32(array, 1); /* index of the first */
	Assert(array->len == ARRAY_HEADER_LEN);
}

static void
api_array_add(Buf *array, Slice element)
{
	Assert(element.len <= INT32_MAX);
	if (element.data == NULL)
	{
		buf_add_u32(array, UINT32_MAX);
		return;
	}
	buf_add_u32(array, (uint32_t) element.len);
	buf_add(array, element.data, element.len);
}

static void
api_array_add_int4(Buf *array, int32_t number)
{
	buf_add_u32(array, 4);
	buf_add_u32(array, (uint32_t) number);
}

static void
api_array_add_int8(Buf *array, int64_t number)
{
	buf_add_u32(array, 8);
	buf_add_u64(array, (uint64_t) number);
}

static void
api_array_end(Buf *array, uint32_t count)
{
	Assert(array->len >= ARRAY_HEADER_LEN);
	for (int i = 0; i < 4; i++)
		array->data[ARRAY_COUNT_AT + i] = (char) (count >> (24 - 8 * i));
}

static void
api_text_array(Buf *array, char *const *strings)
{
	uint32_t count = 0;

	api_array_begin(array, OID_TEXT);
	for (; strings[count] != NULL; count++)
		api_array_add(array, (Slice){strings[count], strlen(strings[count])});
	api_array_end(array, count);
}

void
api_int8_array(Buf *array, const int64_t *numbers, uint32_t count)
{
	api_array_begin(array, OID_INT8);
	for (uint32_t i = 0; i < count; i++)
		api_array_add_int8(array, numbers[i]);
	api_array_end(array, count);
}

void
api_batch_begin(ApiBatch *batch)
{
	static const uint32_t types[Lengthof(batch->arrays)] = {
		OID_TEXT, OID_INT4, OID_INT8, OID_INT8, OID_BYTEA, OID_BYTEA, OID_BYTEA,
	};

	batch->count = 0;
	for (size_t i = 0; i < Lengthof(types); i++)
		api_array_begin(&batch->arrays[i], types[i]);
}

void
api_batch_add(ApiBatch *batch, const ApiMessage *message)
{
	Assert(message->topic.data != NULL && message->offset >= 0);
	api_array_add(&batch->arrays[0], message->topic);
	api_array_add_int4(&batch->arrays[1], message->partition);
	api_array_add_int8(&batch->arrays[2], message->offset);
	api_array_add_int8(&batch->arrays[3], message->timestamp_ms);
	api_array_add(&batch->arrays[4], message->key);
	api_array_add(&batch->arrays[5], message->value);
	api_array_add(&batch->arrays[6], message->headers);
	batch->count++;
}

void
api_batch_free(ApiBatch *batch)
{
	for (size_t i = 0; i < Lengthof(batch->arrays); i++)
		buf_free(&batch->arrays[i]);
}

void
api_batch_params(ApiBatch *batch, PgParam *params)
{
	Assert(batch->count > 0);
	for (size_t i = 0; i < Lengthof(batch->arrays); i++)
	{
		api_array_end(&batch->arrays[i], batch->count);
		params[i] = api_binary_param(&batch->arrays[i]);
	}
}

/* ---- calls ------------------------------------------------------------- */

void
api_call(PgConnection *conn, ApiCall call)
{
	const PgStatement *statement = api_statement(call);

	Assert(statement->nparams == 0);
	pg_connection_call(conn, statement, NULL);
}

void
api_call_with(PgConnection *conn, ApiCall call, const PgParam *params)
{
	const PgStatement *statement = api_statement(call);

	Assert(statement->nparams > 0);
	pg_connection_call(conn, statement, params);
}

void
api_call_offsets(PgConnection *conn, char *const *topics)
{
	Buf		array = {0};
	PgParam params[1];

	api_text_array(&array, topics);
	params[0] = api_binary_param(&array);
	pg_connection_call(conn, api_statement(API_OFFSETS), params);
	buf_free(&array);
}

void
api_call_begin_topic(PgConnection *conn, const char *topic,
					 const int64_t *partitions, const int64_t *offsets,
					 uint32_t count)
{
	Buf		ids = {0};
	Buf		places = {0};
	PgParam params[3];

	api_int8_array(&ids, partitions, count);
	api_int8_array(&places, offsets, count);
	params[0] = api_text_param(topic);
	params[1] = api_binary_param(&ids);
	params[2] = api_binary_param(&places);
	pg_connection_call(conn, api_statement(API_BEGIN_TOPIC), params);
	buf_free(&ids);
	buf_free(&places);
}

void
api_call_move_offset(PgConnection *conn, const char *topic, int32_t partition,
					 int64_t was, int64_t next, int64_t last_missing,
					 const char *reason)
{
	NumberText	  numbers[4];
	const PgParam params[] = {
		api_text_param(topic),
		api_number(&numbers[0], partition),
		api_number(&numbers[1], was),
		api_number(&numbers[2], next),
		api_number(&numbers[3], last_missing),
		api_text_param(reason),
	};

	Assert(next >= 0 && last_missing >= -1);
	pg_connection_call(conn, api_statement(API_MOVE_OFFSET), params);
}

void
api_call_fingerprint(PgConnection *conn, const char *topic, int32_t partition,
					 int64_t next, const char *fingerprint)
{
	NumberText	  numbers[2];
	const PgParam params[] = {
		api_text_param(topic),
		api_number(&numbers[0], partition),
		api_number(&numbers[1], next),
		api_text_param(fingerprint),
	};

	pg_connection_call(conn, api_statement(API_FINGERPRINT), params);
}

void
api_call_retry(PgConnection *conn, int rows, const char *options)
{
	NumberText	  max;
	const PgParam params[] = {api_number(&max, rows), api_text_param(options)};

	pg_connection_call(conn, api_statement(API_RETRY), params);
}

void
api_call_purge(PgConnection *conn, int64_t retention_us, int64_t dedup_us,
			   int rows)
{
	NumberText	  max;
	char		 *retention = xasprintf("%" PRId64 " us", retention_us);
	char		 *dedup = xasprintf("%" PRId64 " us", dedup_us);
	const PgParam params[] = {
		api_text_param(retention),
		api_text_param(dedup),
		api_number(&max, rows),
	};

	pg_connection_call(conn, api_statement(API_PURGE), params);
	free(retention);
	free(dedup);
}

void
api_call_expire(PgConnection *conn, int rows)
{
	NumberText	  max;
	const PgParam params[] = {api_number(&max, rows)};

	pg_connection_call(conn, api_statement(API_EXPIRE), params);
}

void
api_call_alerts(PgConnection *conn, int64_t backlog, int rows)
{
	NumberText	  limit;
	NumberText	  max;
	const PgParam params[] = {
		api_number(&limit, backlog),
		api_number(&max, rows),
	};

	pg_connection_call(conn, api_statement(API_ALERTS), params);
}

void
api_call_alerted(PgConnection *conn, const PGresult *alerts, bool sent)
{
	Buf		ids = {0};
	PgParam params[2];

	api_array_begin(&ids, OID_INT8);
	for (int row = 0; row < PQntuples(alerts); row++)
		api_array_add_int8(&ids, api_int(alerts, row, 0));
	api_array_end(&ids, (uint32_t) PQntuples(alerts));
	params[0] = api_binary_param(&ids);
	params[1] = api_text_param(sent ? "t" : "f");
	pg_connection_call(conn, api_statement(API_ALERTED), params);
	buf_free(&ids);
}

void
api_call_apply(PgConnection *conn, ApiBatch *batch, const char *options)
{
	PgParam params[8];

	api_batch_params(batch, params);
	params[7] = api_text_param(options);
	pg_connection_call(conn, api_statement(API_APPLY), params);
}

void
api_call_apply_failed(PgConnection *conn, ApiBatch *batch, const char *options,
					  const char *sqlstate, const char *message)
{
	PgParam params[10];

	Assert(batch->count == 1);
	api_batch_params(batch, params);
	params[7] = api_text_param(options);
	params[8] = api_text_param(sqlstate);
	params[9] = api_text_param(message);
	pg_connection_call(conn, api_statement(API_APPLY_FAILED), params);
}

PGresult *
api_exec(PGconn *pg, ApiCall call, const PgParam *params)
{
	const PgStatement *statement = api_statement(call);
	const char		  *values[PG_CONNECTION_PARAMS_MAX];
	int				   lengths[PG_CONNECTION_PARAMS_MAX];
	int				   formats[PG_CONNECTION_PARAMS_MAX];

	Assert(statement->nparams <= PG_CONNECTION_PARAMS_MAX);
	Assert(statement->nparams == 0 || params != NULL);
	for (int i = 0; i < statement->nparams; i++)
	{
		values[i] = params[i].data;
		lengths[i] = params[i].length;
		formats[i] = params[i].binary;
	}
	/* if that fails, the result has the reason */
	(void) PQsendQueryParams(pg, statement->sql, statement->nparams, NULL,
							 values, lengths, formats, statement->binary);
	return api_wait(pg);
}

/* A call whose one parameter is a list of topics; NULL: all. */
static PGresult *
api_exec_topics(PGconn *pg, ApiCall call, char *const *topics)
{
	Buf		  array = {0};
	PgParam	  params[1];
	PGresult *result;

	if (topics != NULL)
		api_text_array(&array, topics);
	params[0] = api_binary_param(&array);
	result = api_exec(pg, call, params);
	buf_free(&array);
	return result;
}

PGresult *
api_exec_offsets(PGconn *pg, char *const *topics)
{
	return api_exec_topics(pg, API_OFFSETS, topics);
}

PGresult *
api_exec_check(PGconn *pg, char *const *topics)
{
	return api_exec_topics(pg, API_CHECK, topics);
}
