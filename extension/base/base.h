/*-------------------------------------------------------------------------
 *
 * base/base.h
 *	  What every layer uses: a call, its tables, texts, durability.
 *
 * This layer knows neither stock nor Kafka.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "base/limits.h"
#include "base/lock.h"

/* Names and what was noted under them; all zero: none yet. */
typedef struct NameMap
{
	struct HTAB *entries;
} NameMap;

/* The tables of schema pgstock_internal, in the order of table_names[]. */
typedef enum TableId
{
	TABLE_LEVEL,
	TABLE_RESERVATION,
	TABLE_MOVEMENT, /* in parts: rotation_use */
	TABLE_IDEMPOTENCY,
	TABLE_OUTBOX, /* in parts: rotation_use */
	TABLE_OUTBOX_PART,
	TABLE_INBOX,
	TABLE_INBOX_OFFSET,
	TABLE_INBOX_ATTEMPT,
	TABLE_FAILED_EVENT,
	TABLE_REFUSED_ORDER,
	TABLE_EVENT_TOPIC,
	TABLE_USER_HANDLER,
	TABLE_ADMIN_ACTION,
	TABLE_SALE,
	TABLE_SALE_ORDER,
	TABLE_ALERT,
	TABLE_SURPLUS_PAYMENT,
	TABLE_MOVEMENT_PART,
	TABLE_LEVEL_STREAM,
	TABLE_LEVEL_MARK,
	TABLE_COUNT
} TableId;

/* A table in use by one call. */
typedef struct Table
{
	Relation		rel;	/* NULL until it is used */
	TupleTableSlot *slot;	/* to read into and to write from */
	ResultRelInfo  *target; /* its indexes, open; NULL until written */
	IndexScanDesc	idle;	/* the scan that ended last, or NULL */
	int16			part;	/* number, of a table that lies in parts */
} Table;

/* The message that a handler is called for, and its role. */
typedef struct Cause
{
	const char *role;		 /* that registered it; NULL: it is built in */
	const char *event_id;	 /* of the message */
	const char *traceparent; /* or NULL */
	const char *trace_id;	 /* or NULL */
} Cause;

/* One call of an SQL function. */
typedef struct Call
{
	TimestampTz now;
	const char *actor;
	const char *traceparent;  /* or NULL */
	const char *trace_id;	  /* or NULL */
	const char *causation_id; /* the incoming event, or NULL */
	const char *attributes;	  /* JSON object that comes back, or NULL */
	const char *subject;	  /* the id that these two are about, or NULL */
	bool		reads;		  /* only: no row is written */
	EState	   *estate;
	LockClass	lock_class; /* the last one that it locked */
	const char *lock_name;	/* the last one of lock_class, or NULL */
	Table		tables[TABLE_COUNT];
} Call;

/* What the events have of the message that a call answers. */
typedef struct CallMessage
{
	const char *causation_id;
	const char *attributes;
} CallMessage;

/* A column's new value. */
typedef struct Change
{
	AttrNumber column;
	Datum	   value;
	bool	   isnull;
} Change;

/* in settings.c */
extern void	 settings_init(void);
extern int	 pgstock_reservation_ttl;
extern bool	 pgstock_early_lock_release;
extern bool	 pgstock_notify;
extern int	 pgstock_max_lines;
extern int	 pgstock_max_event_bytes;
extern int	 pgstock_history_retention;
extern int	 pgstock_confirmed_retention;
extern int	 pgstock_hanging_after;
extern int	 pgstock_handler_timeout;
extern int	 pgstock_clock_tolerance;
extern char *pgstock_trace_id;
extern char *pgstock_actor;
extern bool	 pgstock_track_calls;

/* in call.c */
extern void	 call_set_cause(const Cause *cause);
extern void	 call_begin(Call *call, const char *function);
extern void	 call_end(Call *call);
extern void	 call_begin_reading(Call *call);
extern void	 call_end_reading(Call *call);
extern void	 call_refresh_snapshot(void);
extern void	 call_pause(long ms);
extern void	 call_set_trace(Call *call, const char *trace);
extern void	 call_set_message(Call *call, const Cause *message,
							  const char *order_id, const char *attributes);
extern void	 call_set_attributes(Call *call, const char *attributes);
extern void	 call_suspend_message(Call *call, const char *order_id,
								  CallMessage *message);
extern void	 call_resume_message(Call *call, const CallMessage *message);
extern void	 call_reset_trace(Call *call);
extern bool	 traceparent_is_valid(const char *value);
extern char *traceparent_trace_id(const char *value);

/* in savepoint.c */
#define SAVEPOINTS_MAX 50

extern ErrorData *savepoint_run(void (*step)(void *), void *arg);

/* in version.c */
extern void version_init(void);
extern void version_check(void);
extern void version_forget(void);

/* in relation.c */
extern void relation_init(void);
extern Oid	relation_look_up(const char *name);
extern Oid	relation_get_oid(const char *name);
extern Oid	relation_sequence(const char *name);

/* in table.c */
extern Table *table_use(Call *call, TableId id);
extern Table *table_use_part(Call *call, TableId id, Oid oid, int16 part);
extern bool	  table_is_empty(Table *table);
extern TupleTableSlot *table_new_row(Table *table);
extern void			   table_insert(Call *call, Table *table);
extern void			   table_update(Call *call, Table *table, ItemPointer tid);
extern void			   table_update_columns(Call *call, Table *table, int n,
											const Change *changes);
extern IndexScanDesc   table_scan_begin(Call *call, Table *table,
										const char *index, int nkeys,
										ScanKey keys);
extern bool			   table_scan_next(IndexScanDesc scan, Table *table);
extern bool			   table_scan_back(IndexScanDesc scan, Table *table);
extern void			   table_scan_end(Table *table, IndexScanDesc scan);
extern bool table_find(Call *call, Table *table, const char *index, int nkeys,
					   ScanKey keys, ItemPointer tid);
extern bool table_find_text(Call *call, Table *table, const char *index,
							const char *value, ItemPointer tid);
extern bool table_lock_row(Table *table, ItemPointer tid);
extern TM_Result table_try_lock_row(Table *table, ItemPointer tid);
extern void table_key_text(ScanKey key, AttrNumber column, const char *value);
extern void table_delete(Table *table, ItemPointer tid);
extern void table_raise_conflict(void);
extern void tables_close(Call *call);

/* in admin_action.c */
extern void admin_action_write(Call *call, const char *action,
							   const char *target, const char *reason);

/* in rotation.c */
extern void	  rotation_init(void);
extern Table *rotation_use(Call *call, TableId id);

/* in row.c */
extern bool	  row_is_null(TupleTableSlot *slot, AttrNumber column);
extern Datum  row_get(TupleTableSlot *slot, AttrNumber column);
extern void	  row_put(TupleTableSlot *slot, AttrNumber column, Datum value);
extern void	  row_put_text(TupleTableSlot *slot, AttrNumber column,
						   const char *value);
extern void	  row_put_bytes(TupleTableSlot *slot, AttrNumber column,
							bytea *value);
extern char	 *row_get_text(TupleTableSlot *slot, AttrNumber column);
extern bytea *row_get_bytes(TupleTableSlot *slot, AttrNumber column);
extern int32  row_get_int32(TupleTableSlot *slot, AttrNumber column);
extern Oid	  row_get_oid(TupleTableSlot *slot, AttrNumber column);
extern int64  row_get_int64(TupleTableSlot *slot, AttrNumber column);
extern TimestampTz row_get_time(TupleTableSlot *slot, AttrNumber column,
								TimestampTz if_null);

/* in column_check.c */
extern void column_check_table(TableId id, const char *name, Relation rel);

/* in name_map.c */
extern void *name_map_find(const NameMap *map, const char *name);
extern void	 name_map_put(NameMap *map, const char *name, void *value);
extern char *name_map_key(const char *a, const char *b, const char *c);

/* in durability.c */
extern void		  durability_init(void);
extern void		  durability_release_locks_early(void);
extern void		  durability_fence_answer(void);
extern void		  durability_fence_error(void);
extern bool		  durability_standby_is_named(void);
extern bool		  durability_standby_has(XLogRecPtr lsn);
extern XLogRecPtr durability_fence(bool at_standby);

/* in shared_memory.c */
extern void shared_memory_use(Size size, void (*attach)(void));

/* in due_time.c */
extern void due_time_init(void);
extern void due_time_note(TimestampTz due_at);

/* in session.c */
typedef enum ExtensionHold
{
	EXTENSION_HELD,	  /* it is here, and stays until the transaction ends */
	EXTENSION_ABSENT, /* it is not */
	EXTENSION_BUSY	  /* it is being dropped */
} ExtensionHold;

extern void			 session_pin_settings(void);
extern ExtensionHold session_hold_extension(void);

/* in args.c */
extern char		  *args_id(FunctionCallInfo fcinfo, int n, const char *name);
extern char		  *args_text(FunctionCallInfo fcinfo, int n);
extern const char *args_id_fault(const char *id);
extern char		  *args_reason(FunctionCallInfo fcinfo, int n);

/* in utf8.c */
extern char *text_from_utf8(const char *utf8, int length);
extern bool	 text_is_convertible(const char *string);
extern char *text_to_utf8(const char *string, int length, int *utf8_length);
extern char *json_as_ascii(const char *utf8, int length);
extern char *text_as_ascii(const char *string);
extern char *text_printable(const char *string);

/* in sensitive.c */
extern bool sensitive_json(const char *json, int length);

/* in uuid.c */
extern void uuid_generate(pg_uuid_t *id);

/* in rfc3339.c */
extern char *rfc3339_from_time(TimestampTz at);
extern bool	 rfc3339_parse(const char *string, TimestampTz *at, bool *no_zone);

#endif /* BASE_BASE_H */
