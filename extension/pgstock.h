/*-------------------------------------------------------------------------
 *
 * pgstock.h
 *	  The types of the module, and its functions by file.
 *
 * A call is one unit of work: it collects what it needs, locks it in the one
 * order, decides in memory, and writes at the end.
 *
 * docs/HACKING.md has the map of the files.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGSTOCK_H
#define PGSTOCK_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* SQLSTATEs of our own, class SK; docs/sql-api.md lists them. */
#define ERRCODE_SK_INSUFFICIENT	   MAKE_SQLSTATE('S', 'K', '0', '0', '1')
#define ERRCODE_SK_UNKNOWN_PRODUCT MAKE_SQLSTATE('S', 'K', '0', '0', '2')
#define ERRCODE_SK_UNKNOWN_ORDER   MAKE_SQLSTATE('S', 'K', '0', '0', '4')
#define ERRCODE_SK_WRONG_STATE	   MAKE_SQLSTATE('S', 'K', '0', '0', '5')
#define ERRCODE_SK_EXPIRED		   MAKE_SQLSTATE('S', 'K', '0', '0', '6')
#define ERRCODE_SK_LEDGER_DRIFT	   MAKE_SQLSTATE('S', 'K', '0', '1', '0')
#define ERRCODE_SK_STALE_VERSION   MAKE_SQLSTATE('S', 'K', '0', '1', '1')
#define ERRCODE_SK_KEY_REUSED	   MAKE_SQLSTATE('S', 'K', '0', '0', '7')
#define ERRCODE_SK_NOT_OPEN		   MAKE_SQLSTATE('S', 'K', '0', '0', '8')

#define STOCK_QUANTITY_MAX (INT64CONST(1) << 53) /* exact in any JSON */
#define STOCK_ID_BYTES_MAX 255
/* Of a text for people, a reason or an error: each line of an order repeats it
 * in the ledger, and an event must have room for it. */
#define STOCK_TEXT_BYTES_MAX 2000
#define STOCK_SLOTS_MAX		 64
#define OUTBOX_TOPIC_MAX	 249	/* characters: Kafka's limit */
#define STOCK_MAIN			 "main" /* the default location */
#define SLOT_MAIN			 0 /* a level's first row; a sale's is below it */

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
	TABLE_MOVEMENT,
	TABLE_IDEMPOTENCY,
	TABLE_OUTBOX, /* the part that is written: see outbox/rotation.c */
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
	TABLE_OWN_COLUMNS,
	TABLE_COUNT
} TableId;

/* A table in use by one call. */
typedef struct Table
{
	Relation		rel;	/* NULL until it is used */
	TupleTableSlot *slot;	/* to read into and to write from */
	ResultRelInfo  *target; /* its indexes, open; NULL until written */
	IndexScanDesc	idle;	/* the scan that ended last, or NULL */
} Table;

/* The message that a registered handler is called for, and its role. */
typedef struct Cause
{
	const char *role;		 /* that registered the handler */
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
	EState	   *estate;
	Oid			schema; /* pgstock_internal */
	Table		tables[TABLE_COUNT];
	int16		part; /* of the outbox, once that is in use */
} Call;

/* A column's new value. */
typedef struct Change
{
	AttrNumber column;
	Datum	   value;
	bool	   isnull;
} Change;

/* A level's columns, as sql/tables.sql has them. */
enum
{
	LEVEL_PRODUCT = 1,
	LEVEL_LOCATION,
	LEVEL_SLOT,
	LEVEL_ON_HAND,
	LEVEL_RESERVED,
	LEVEL_SAFETY,
	LEVEL_BACKORDER_LIMIT,
	LEVEL_SLOTS,
	LEVEL_VERSION,
	LEVEL_SLOTS_MADE,
	LEVEL_POOLED
};

/* A row of a level, or the wish for it.  With slots a level is several rows,
 * whose sum it is. */
typedef struct Level
{
	char		   *product_id;
	char		   *location;
	struct Level   *first;	/* the level's first row */
	struct Level   *next;	/* its next row, or NULL */
	ItemPointerData tid;	/* valid when known and not is_new */
	bool			known;	/* there is such a level */
	bool			is_new; /* made by this call, to be inserted */
	bool			locked;
	bool			dirty;
	bool			gone; /* its row is to be deleted */
	int64			on_hand;
	int64			reserved;
	int64			safety;
	int64			backorder_limit;
	int				slot;
	int				slots;		/* from which a call takes first */
	int				slots_made; /* that there are, those included */
	bool			pooled;		/* only who holds all slots may take */
	int64			version;
	int64			wanted; /* wish, of the first: to be taken from any slot */
	bool			whole;	/* wish, of the first: all slots */
	bool			named;	/* wish: this slot */
	int64 due; /* of the first: pieces of due lines, -1: not counted */
} Level;

/* How a call that takes gets at its levels: who waits for whom. */
typedef enum Strategy
{
	STRATEGY_WAIT, /* auto and pessimistic: for the row */
	STRATEGY_OPTIMISTIC,
	STRATEGY_ADVISORY
} Strategy;

/* The states of a line; the values are what the table holds. */
typedef enum LineState
{
	LINE_RESERVED = 'r',
	LINE_CONFIRMED = 'c',
	LINE_RELEASED = 'l',
	LINE_ROLLED_BACK = 'b',
	LINE_RETURNED = 't',
	LINE_EXPIRED = 'e',
	LINE_SHORTFALL = 's'
} LineState;

/* Whether a payment takes the stock of an ended line again. */
typedef enum Retake
{
	RETAKE_BY_STATE, /* one that has expired: yes; any other: no */
	RETAKE_YES,		 /* the payment was declined, so another one may come */
	RETAKE_NO		 /* cancelled, or failed, after it had expired */
} Retake;

/* A reservation's row: one product and location of an order. */
typedef struct Reservation
{
	struct Order   *order;
	int				attempt;
	char		   *product_id;
	char		   *location;
	int				slot;
	int64			quantity;
	LineState		state;
	char		   *user_id; /* or NULL, as the next ones */
	char		   *reason;
	char		   *payment_id;
	char		   *activity_id; /* of the sale that it was bought in */
	TimestampTz		created_at;
	TimestampTz		expires_at; /* DT_NOEND: never */
	TimestampTz		ended_at;	/* DT_NOBEGIN: not ended */
	Retake			retake;
	bool			owed; /* it has expired, and no event says so yet */
	ItemPointerData tid;  /* valid unless is_new */
	bool			is_new;
	bool			dirty;
} Reservation;

/* An order, with all lines that it ever had, or with those asked for. */
typedef struct Order
{
	char *order_id;
	bool  loaded;
	int	  attempt; /* the latest, 0: it has no line yet */
	List *lines;   /* of Reservation, every attempt: by line_compare_key */
	List *asked;   /* of Line, wish: these will do, and its last line */
	bool  if_live; /* wish: and a live line of it, if there is one */
} Order;

/* One line of a request: merged, so no two have the same key. */
typedef struct Line
{
	char *product_id;
	char *location;
	int	  slot;
	int64 quantity;
} Line;

/* A request under an explicit idempotency key. */
typedef struct Keyed
{
	const char *key;	/* NULL: none */
	const char *verb;	/* NULL: it reserves */
	const char *detail; /* what counts besides order and lines, or NULL */
	TupleDesc	desc;	/* stock_result; only with a key */
	bool		raise;	/* a reservation that has ended is an error */
} Keyed;

/* A request to reserve. */
typedef struct Request
{
	char	   *order_id;
	char	   *user_id;	 /* or NULL */
	char	   *activity_id; /* the sale, or NULL */
	Strategy	strategy;
	TimestampTz expires_at;
	bool		whole_order; /* the lines are the order, not a part of it */
	List	   *lines;		 /* of Line, sorted by product and location */
} Request;

/* What a call answers for a line: stock_result. */
typedef struct Answer
{
	char	   *order_id;
	char	   *product_id; /* NULL: the order is unknown */
	char	   *location;
	int64		requested;
	int64		granted;
	const char *status;
	int64		available;
	int64		version;
	TimestampTz expires_at; /* DT_NOEND: none */
	bool		replayed;
	const char *activity_id; /* the level is this sale's quota, or NULL */
} Answer;

/* What an event tells besides its items; NULL where it does not. */
typedef struct Event
{
	const char *type;
	const char *topic;
	const char *order_id;
	const char *user_id;
	const char *activity_id;
	const char *reason;
	const char *payment_id;
	TimestampTz expires_at; /* DT_NOEND: not told */
	const char *differs;	/* JSON: what the message says otherwise */
	bool		replayed;
	bool		wanted; /* items carry wanted and available */
	List	   *items;	/* of Answer */
} Event;

typedef enum SettleVerb
{
	SETTLE_CONFIRM,
	SETTLE_RELEASE,
	SETTLE_ROLLBACK,
	SETTLE_RETURN,
	SETTLE_EXTEND
} SettleVerb;

/* What shall become of an order. */
typedef struct Settle
{
	SettleVerb	verb;
	const char *reason;		/* or NULL */
	const char *payment_id; /* or NULL; of confirm */
	List	   *items;		/* of Line: only these; NIL: all */
	bool		scrap;		/* what returns cannot be sold again */
	bool		declined;	/* released, but another payment may come */
	bool		pays;		/* a payment: takes what was declined again too */
	TimestampTz expires_at; /* of extend */
} Settle;

/* A movement to be written to the ledger. */
typedef struct Movement
{
	const char *kind;
	Level	   *level;
	int64		on_hand_delta;
	int64		reserved_delta;
	const char *order_id;
	const char *reason;
	const char *reference;
	pg_uuid_t	event_id;
	bool		has_event;
	bool		untold; /* no event of this work speaks of it */
} Movement;

/* The unit of work: all that one call touches. */
typedef struct Work
{
	Call	 call;
	List	*orders; /* of Order, sorted once locked */
	List	*strays; /* of Reservation: changed lines of others */
	NameMap	 stray_names;
	int		 orders_kept; /* of others, locked since their lines expired */
	List	*levels;	  /* of Level: wishes; first rows, sorted, once read */
	Strategy strategy;
	bool	 orders_locked;
	bool	 levels_locked;
	List	*movements; /* of Movement, to be written */
	List	*refused;	/* of order id and reason */
	NameMap	 refused_names;
	NameMap	 surplus; /* payments noted by this work */
} Work;

/* A header's name and value; value NULL: a null value. */
typedef struct Header
{
	const char *name;
	int			name_len;
	const char *value;
	int			value_len;
} Header;

/* A record to be published. */
typedef struct OutboxRecord
{
	pg_uuid_t	event_id;
	const char *topic;
	const char *event_type;
	const char *key; /* NULL: none */
	int			key_len;
	const char *payload; /* NULL: a tombstone */
	int			payload_len;
	bytea	   *headers;	 /* packed, or NULL */
	const char *traceparent; /* or NULL */
	char		format;		 /* j, b or r: see sql/tables.sql */
	bool		is_utf8;	 /* key and payload are what they will be */
	bool		is_minimal;	 /* nothing can be left out of it */
} OutboxRecord;

/* What became of a message. */
typedef struct Outcome
{
	const char *result;		 /* applied, skipped, waiting, dead, duplicate */
	const char *reason;		 /* or NULL */
	const char *error_class; /* of waiting and dead: poison, order, retry … */
	const char *sqlstate;	 /* or NULL */
	bool		notable;	 /* the log shall name the message */
} Outcome;

/* A handler that a user has registered for a topic. */
typedef struct UserHandler
{
	const char *event_type; /* "": all that no other one takes */
	const char *function;	/* qualified and quoted */
	const char *role;		/* who registered it */

	/* What the names stood for then, and in which database that was. */
	Oid	  function_oid;
	Oid	  owner_oid;
	Oid	  role_oid;
	Oid	  schema_oid; /* the extension's */
	int64 system_id;
	Oid	  database;
} UserHandler;

/* A message from Kafka and what was read in it. */
typedef struct Message
{
	const char *topic;
	int			partition;
	int64		offset;
	int64		sent_at_ms;	 /* -1: unknown */
	bytea	   *key;		 /* or NULL */
	bytea	   *value;		 /* NULL: a tombstone */
	bytea	   *headers;	 /* packed, or NULL */
	const char *fingerprint; /* of the record; NULL: it is not at hand */

	bool			   wants_lines; /* the handler reserves: lines are needed */
	bool			   compares_lines; /* they are only compared, if any */
	bool			   names_part;	   /* they say what of the order is meant */
	List			  *user_handlers;  /* of UserHandler: its topic's */
	const UserHandler *user;		   /* its own one, or NULL */

	/* Tries that were begun and of whose end nothing is known. */
	bool alone; /* there were: it is applied by itself */
	int	 started;
	bool recorded; /* this session's own one is on record */

	/* Set by message_parse.  An id is unique within its source. */
	const char *event_id;
	const char *source;
	const char *order_id; /* or NULL, as all that follow */
	const char *user_id;
	const char *payment_id;
	const char *status;
	const char *reason;
	const char *event_type;
	const char *trace_id;
	const char *traceparent;
	const char *attributes;	 /* JSON object of what we do not know */
	List	   *lines;		 /* of Line, sorted and merged */
	List	   *told_lines;	 /* the same, of one that does not reserve */
	TimestampTz happened_at; /* the event's own time, else Kafka's */
	const char *remark;		 /* how it was read where that is not certain */
	const char *poison;		 /* why it can never be applied */

	/* Of one that failed before. */
	int64			failed_id; /* 0: it did not */
	ItemPointerData failed_tid;
	int				attempts; /* that ended in a failure, this one included */
	TimestampTz		first_failed_at;
	TimestampTz		archived_at; /* DT_NOBEGIN or 0: it was not */
	Outcome			failure;	 /* the last one */
	List		   *failures; /* of text, each of another kind, with its time */

	Outcome		outcome;
	const char *first; /* of a duplicate: which message it repeats */
	bool		known; /* this very record has its inbox row */
} Message;

/* Whether a later message of its key waits for it; an empty key is none. */
static inline bool
message_has_key(const Message *message)
{
	return message->key != NULL && VARSIZE_ANY_EXHDR(message->key) > 0;
}

/* Room for what name_as_text makes: both parts, and a length. */
#define MESSAGE_NAME_BYTES (2 * STOCK_ID_BYTES_MAX + 128)

/* A built-in handler. */
typedef struct Handler
{
	const char *topic;
	bool		wants_lines;
	bool		compares_lines;
	bool		names_part;
	Outcome (*apply)(Work *work, Message *message, Order *order);
} Handler;

/* What the relay's settings say; see docs/relay-protocol.md. */
typedef struct InboxOptions
{
	const char *group;
	const char *relay;	   /* the process; empty: unknown */
	const char *dlq_topic; /* with {topic} in it */
	int64		order_wait_ms;
	int			retry_count;
	int64	   *retry_delays_ms;
	bool		count_attempts; /* put tries on record before they begin */
	bool		alert;			/* a person is to be told of what is given up */
	bool		careful; /* locks cannot be had: each message by itself */
} InboxOptions;

/* At most so many messages of users' handlers are in one transaction: more
 * than 64 subtransactions slow everybody down. */
#define USER_BATCH_MAX 50

/* Calls of users' handlers in one transaction. */
typedef struct UserBatch
{
	TimestampTz began_at;
	int			called;
	bool		succeeded; /* one has */
} UserBatch;

/* A call that takes one message after another. */
typedef struct Careful
{
	TimestampTz began_at;
	int			tried;
	NameMap		locked; /* of Line: what one has waited for in vain */
} Careful;

/* in pgstock.c */
extern PGDLLEXPORT void _PG_init(void);
extern int				pgstock_reservation_ttl;
extern bool				pgstock_early_lock_release;
extern bool				pgstock_notify;
extern int				pgstock_max_lines;
extern int				pgstock_max_event_bytes;
extern int				pgstock_history_retention;
extern int				pgstock_handler_timeout;
extern int				pgstock_clock_tolerance;
extern char			   *pgstock_trace_id;
extern char			   *pgstock_actor;

/* in alert.c */
extern void alert_store(Call *call, const Message *message);

/* in args.c */
extern char		  *args_id(FunctionCallInfo fcinfo, int n, const char *name);
extern char		  *args_text(FunctionCallInfo fcinfo, int n);
extern const char *args_id_fault(const char *id);
extern int64	args_quantity(FunctionCallInfo fcinfo, int n, const char *name);
extern Strategy args_strategy(FunctionCallInfo fcinfo, int n);
extern TimestampTz args_expiry(FunctionCallInfo fcinfo, int n);
extern TimestampTz default_expiry(void);
extern List		  *args_items(Jsonb *items);
extern List		  *args_orders(Jsonb *orders, TimestampTz expires_at);
extern char		  *args_reason(FunctionCallInfo fcinfo, int n);
extern Line		  *line_new(char *product_id, char *location, int64 quantity);
extern List		  *lines_merge(List *lines);
extern int		   key_compare(const char *product_a, const char *location_a,
							   const char *product_b, const char *location_b);

/* in attributes.c */
extern char *attributes_cut(const char *object, int length,
							const char *const *known, int n);

/* in call.c */
extern void	 call_set_cause(const Cause *cause);
extern void	 call_begin(Call *call, const char *function);
extern void	 call_end(Call *call);
extern void	 call_refresh_snapshot(void);
extern void	 call_reset_trace(Call *call);
extern bool	 traceparent_is_valid(const char *value);
extern char *traceparent_trace_id(const char *value);

/* in lock_patience.c */
extern void		  careful_begin(Careful *careful);
extern bool		  careful_is_over(const Careful *careful);
extern void		  careful_wait(const Careful *careful, const Message *message);
extern void		  careful_note(Careful *careful, const Message *message,
							   const ErrorData *failure);
extern ErrorData *guard_call(void (*step)(void *), void *arg);

/* in columns.c */
extern void columns_check(Call *call, TableId id, const char *name,
						  Relation rel);

/* in durability.c */
extern void		  commit_init(void);
extern void		  commit_release_early(void);
extern void		  commit_fence_answer(void);
extern void		  commit_fence_error(void);
extern bool		  commit_standby_is_named(void);
extern XLogRecPtr commit_fence(bool at_standby);

/* in utf8.c */
extern char *text_from_utf8(const char *utf8, int length);
extern bool	 text_is_convertible(const char *string);
extern char *text_to_utf8(const char *string, int length, int *utf8_length);
extern char *json_as_ascii(const char *utf8, int length);
extern char *text_as_ascii(const char *string);
extern char *text_for_people(const char *string);

/* in stock_event.c */
extern char		*event_time(TimestampTz at);
extern pg_uuid_t event_emit(Work *work, const Event *event);
extern void		 event_emit_level(Work *work, Level *level, const char *kind,
								  const char *reference);
extern void		 event_emit_refusal(Work *work, const char *order_id,
									const char *user_id, const char *reason,
									List *answers, bool replayed,
									const char *differs);
extern void		 event_new_id(pg_uuid_t *id);

/* in expire.c */
extern int64 expire_reachable(Work *work, Level *level, int64 wanted);
extern void	 expire_make_room(Work *work, Level *level, int64 wanted);
extern int	 expire_lines(Work *work, List *lines);
extern void	 expire_uncount(const Call *call, Level *level,
							const Reservation *line);
extern List *expire_own(Work *work, const Order *order);
extern void	 expire_want_own(Work *work, const Order *order);

/* in failed.c */
extern InboxOptions inbox_options(Jsonb *options);
extern Outcome		failed_classify(const InboxOptions *options,
									const Message *message, const char *sqlstate,
									const char *error);
extern void			failed_store(Call *call, const InboxOptions *options,
								 Message *message, Outcome *outcome);
extern bool			failed_must_queue(Call *call, const Message *message);
extern void			failed_queue(Call *call, Message *message);
extern void			failed_wake_next(Call *call, const Message *message);
extern bool			failed_is_transient(const ErrorData *failure);
extern const char  *failed_reason(const ErrorData *failure);
extern bool			failed_record_tries(Call *call, List *messages);
extern List		   *failed_due(Call *call, int max_rows);
extern bool			failed_lock(Call *call, Message *message);
extern void			failed_lock_again(Call *call, Message *message);

/* in builtin_handlers.c */
extern Outcome		outcome_applied(void);
extern Outcome		outcome_skipped(const char *reason);
extern Outcome		outcome_wait_for_order(void);
extern bool			order_has(Call *call, const Order *order, LineState state);
extern Reservation *order_any_line(const Order *order);
extern List		   *order_answers(Work *work, const Order *order);
extern const char  *order_end_reason(Call *call, const Order *order);
extern bool			message_is_stale(Work *work, const Message *message,
									 const Order *order);
extern const Handler *handler_find(const char *topic);
extern void			  handler_want_levels(Work *work, const Message *message);
extern Outcome		  handler_apply(Work *work, Message *message);

/* in headers.c */
extern bytea		*headers_pack(List *headers);
extern List			*headers_unpack(bytea *packed);
extern const Header *headers_find(List *headers, const char *name);
extern List			*headers_from_jsonb(Jsonb *object);
extern char			*headers_json(bytea *packed);
extern char			*bytes_for_people(const char *bytes, int length);

/* in idempotency.c */
extern Keyed idempotency_arg(FunctionCallInfo fcinfo, int n);
extern List *idempotency_find(Work *work, const Keyed *keyed,
							  const char *order_id, List *lines);
extern void	 idempotency_store(Call *call, const Keyed *keyed,
							   const char *order_id, List *lines, List *answers);

/* in apply.c */
extern void	 inbox_prepare(const InboxOptions *options, Message *message);
extern void	 inbox_lock_messages(Work *work, List *messages);
extern void	 inbox_finish(Call *call, const Message *message);
extern List *inbox_cut(List *messages);
extern List *inbox_cut_alone(List *messages);
extern List *inbox_cut_parsed(List *messages);

/* in batch_args.c */
extern InboxOptions inbox_options_arg(FunctionCallInfo fcinfo, int n);
extern List		   *inbox_messages_arg(FunctionCallInfo fcinfo);
extern Datum		inbox_return(FunctionCallInfo fcinfo, List *messages);
extern Datum inbox_return_started(FunctionCallInfo fcinfo, List *messages);

/* in launcher.c */
#define KEEPER_EVERY_MS 60000 /* a look at a database, at the latest */

/* A database.  The launcher alone gives places away and takes them back. */
typedef struct Kept
{
	Oid				 database; /* InvalidOid: the place is free */
	pg_atomic_uint64 look_at;  /* TimestampTz */
	TimestampTz		 purge_at; /* the worker's */
	TimestampTz		 retry_at; /* the launcher's: no worker before */
	Latch			*worker;   /* of the one that is there, or NULL */
	bool			 looking;  /* it has not come to the end of its look */
} Kept;

extern void		   keeper_init(void);
extern void		   keeper_want(TimestampTz due_at);
extern void		   keeper_tell(void);
extern void		   keeper_forget(void);
extern Kept		  *keeper_place(int number);
extern TimestampTz keeper_look_at(Kept *kept);
extern bool		   keeper_look_by(Kept *kept, TimestampTz at);

/* in level.c */
extern Level *work_want_whole_level(Work *work, const char *product_id,
									const char *location);
extern Level *work_want_level(Work *work, const char *product_id,
							  const char *location, int slot);
extern void	  work_want_stock(Work *work, const char *product_id,
							  const char *location, int slot, int64 quantity);
extern void	  work_read_levels(Work *work);
extern List	 *work_product_levels(Call *call, const char *product_id,
								  const char *location, bool sales);
extern int	  work_level_place(const Work *work, const char *product_id,
							   const char *location);
extern void	  work_write_levels(Work *work);
extern Level *work_level(Work *work, const char *product_id,
						 const char *location, int slot);
extern Level *level_append(Level *last);
extern void	  level_read(Level *level, TupleTableSlot *slot);
extern void	  level_load_rest(Call *call, Level *first);
extern void	  level_load_row_again(Call *call, Level *row);
extern bool	  level_lacks_rows(const Level *first);
extern void	  level_want_heir(Work *work, const Level *sale, int place);

/* in level_lock.c */
extern void work_lock_levels(Work *work);
extern void work_lock_free_levels(Work *work);

/* in message.c */
extern void		   message_parse(Message *message);
extern void		   message_parse_any(Message *message);
extern void		   message_parse_headers(Message *message);
extern TimestampTz message_time(int64 ms);
extern int64	   message_time_ms(TimestampTz at);
extern bool		   message_time_is_sane(int64 ms);

/* in message_id.c */
extern char *name_header(List *headers, const char *name);
extern void	 name_message(Message *message, List *headers, const char *body_id);
extern char *name_as_text(const Message *message);
extern int64 name_value_hash(const Message *message);

/* in name_map.c */
extern void *name_map_find(const NameMap *map, const char *name);
extern void	 name_map_put(NameMap *map, const char *name, void *value);
extern char *name_of(const char *a, const char *b, const char *c);

/* in row_version_hint.c */
extern void newest_note(const Call *call, const Level *level);
extern bool newest_find(const Call *call, Table *table, const Level *level);

/* in record.c */
extern void		   outbox_append(Call *call, OutboxRecord *record);
extern int		   outbox_record_bytes(const OutboxRecord *record);
extern void		   outbox_record_to_utf8(OutboxRecord *record);
extern const char *outbox_topic_fault(const char *topic);

/* in payment.c */
extern Outcome payment_success(Work *work, Message *message, Order *order);

/* in order_difference.c */
extern bool	 differs_lines(const Order *order, List *told);
extern char *differs_json(const Message *message, const Order *order);
extern List *differs_part(Call *call, const Order *order, List *told,
						  bool *differs);

/* in outbox/rotation.c */
extern void part_init(void);
extern Oid	part_lock(Call *call);

/* in fingerprint.c */
extern const char *fingerprint(int64 time_ms, const bytea *key,
							   const bytea *value, const bytea *headers);

/* in inbox/partition.c */
extern void	   partitions_move(Call *call, List *messages);
extern bool	   partition_is_behind(Call *call, const Message *message);
extern bool	   partition_is_behind_unnamed(Call *call, const Message *message);
extern bool	   attempts_record(Call *call, List **messages);
extern int	   attempts_max(const InboxOptions *options);
extern Outcome attempts_exhausted(int started);
extern void	   attempts_begin(const InboxOptions *options);
extern int64   attempts_process(void);
extern int64   session_id(void);
extern bool	   session_is_alive(int64 id);

/* in refused_order.c */
extern const char *refused_find(Work *work, const char *order_id);
extern void refused_store(Work *work, const char *order_id, const char *reason);
extern void refused_write(Work *work);

/* in handler_registration.c */
extern void				  user_handlers_find(Call *call, List *messages);
extern const UserHandler *user_handler_choose(const Message *message);
extern Oid				  registered_role(const Message *message);
extern Oid				  registered_function(const Message *message);
extern const char		 *registered_search_path(const Message *message);

/* in reserved_topic.c */
extern void topic_must_not_be_position(const char *topic);
extern void topic_must_be_open(Call *call, const char *topic);

/* in reserve.c */
extern List *reserve_apply(Work *work, const Request *request, bool *granted);
extern bool	 reserve_could_fit(Work *work, const Request *request);
extern bool	 reserve_is_replay(Work *work, const Request *request);
extern List *reserve_refuse(Work *work, const Request *request,
							const char *otherwise);
extern void	 reserve_want_levels(Work *work, const Request *request);

/* in answer.c */
extern Answer *answer_new(const char *order_id, const char *product_id,
						  const char *location, int64 requested);
extern void	   answer_level(Answer *answer, const Level *level);
extern Answer *answer_of_line(Work *work, const Reservation *line,
							  int64 quantity);
extern Datum   answer_datum(const Answer *answer, TupleDesc desc);
extern Answer *answer_from_datum(Datum row, TupleDesc desc);
extern Datum   answer_return_row(FunctionCallInfo fcinfo, const Answer *answer);
extern Datum   answer_return_set(FunctionCallInfo fcinfo, List *answers);

/* in flash_sale.c */
extern bool sale_allows(Work *work, const Reservation *line);

/* in session.c */

typedef enum ExtensionHold
{
	EXTENSION_HELD,	  /* it is here, and stays until the transaction ends */
	EXTENSION_ABSENT, /* it is not */
	EXTENSION_BUSY	  /* it is being dropped */
} ExtensionHold;

extern void			 session_pin(void);
extern ExtensionHold session_hold_extension(void);

/* in settle.c */
extern List *settle_apply(Work *work, const Settle *settle, Order *order);
extern void	 settle_want_levels(Work *work, const Order *order);

/* in stock.c */
extern int64  level_free(const Level *level);
extern int64  level_available(const Level *level);
extern int64  level_on_hand(Work *work, const Level *level);
extern void	  level_must_exist(const Level *level);
extern void	  level_insufficient(const char *product_id, const char *location,
								 int64 wanted, int64 available, const char *hint);
extern int64  slot_free(const Level *slot);
extern Level  level_sum(const Level *level);
extern Level *level_slot_to_take(Level *level);
extern void	  level_require(const Level *level, int64 wanted);
extern void	  level_even_out(Level *level);
extern void	  level_change(Work *work, Level *level, int64 on_hand_delta,
						   int64 reserved_delta, const char *kind,
						   const char *order_id, const char *reason,
						   const char *reference);
extern void	  stock_link_event(Work *work, int first_movement,
							   const pg_uuid_t *event_id);
extern bool	  line_is_due(const Call *call, const Reservation *line);
extern bool	  line_is_live(const Call *call, const Reservation *line);
extern bool	  line_is_payable(const Call *call, const Reservation *line);
extern void	  line_end(Call *call, Reservation *line, LineState state,
					   const char *reason);
extern Reservation *order_line(const Order *order, int attempt,
							   const char *product_id, const char *location);
extern void			order_add_line(Order *order, Reservation *line);
extern bool			order_is_live(const Call *call, const Order *order);

/* in table.c */
extern void	  table_init(void);
extern Oid	  table_oid(const char *name); /* InvalidOid: none is ours */
extern Table *table_use(Call *call, TableId id);
extern bool	  table_is_empty(Table *table);
extern Oid	  table_sequence(Call *call, const char *name);
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
extern void	  table_key_text(ScanKey key, AttrNumber column, const char *value);
extern void	  table_delete(Table *table, ItemPointer tid);
extern void	  table_conflict(void);
extern void	  tables_close(Call *call);
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

/* in user_handler.c */
extern void user_handler_init(void);
extern bool user_batch_is_over(const UserBatch *batch);
extern bool user_handler_apply(UserBatch *batch, const InboxOptions *options,
							   Message *message);

/* in wakeup.c */
extern void wakeup_init(void);
extern void wakeup_at_commit(void);

/* in work.c */
extern void	  work_begin(Work *work, const char *function);
extern void	  work_end(Work *work);
extern Order *work_want_order(Work *work, const char *order_id);
extern void	  work_lock_orders(Work *work);
extern bool	  work_holds_line(Work *work, const Reservation *line);
extern List	 *work_due_lines(Work *work, const Level *level, int max_rows);
extern List	 *work_order_lines(Work *work, const char *order_id);
extern void	  work_add_stray(Work *work, Reservation *line);
extern void	  work_load_orders_again(Work *work);
extern Order *work_order(Work *work, const char *order_id);
extern void	  lock_name(int lock_class, const char *name);
extern bool	  work_try_lock_order(const char *order_id);
extern void	  work_unlock_order(const char *order_id);

#endif /* PGSTOCK_H */
