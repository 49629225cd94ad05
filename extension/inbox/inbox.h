/*-------------------------------------------------------------------------
 *
 * inbox/inbox.h
 *	  Messages from Kafka: the layer's types, and its functions by file.
 *
 * A message is a record with what becomes of it, in the parts in which that is
 * found: the Record as Kafka delivered it, what message_parse has read in it
 * (Parsed), how it is tried (Try), the row of one that has failed before
 * (FailedEvent), and its Outcome.  Parts that a function only reads are const.
 *
 * The files are listed in their order: none calls one that is listed below it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef INBOX_INBOX_H
#define INBOX_INBOX_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "inbox/payload.h"
#include "orders/orders.h"
#include "outbox/outbox.h"
#include "protocol/dead_letter.h"
#include "protocol/event_header.h"
#include "protocol/failed_state.h"
#include "protocol/outcome.h"
#include "protocol/sqlstate.h"

/*---- A message, part by part ----*/

/* A record as Kafka delivered it.  Nothing changes it. */
typedef struct Record
{
	const char *topic;
	int			partition; /* -1: a call by hand, no record */
	int64		offset;
	int64		sent_at_ms;	 /* -1: unknown */
	bytea	   *key;		 /* or NULL */
	bytea	   *value;		 /* NULL: a tombstone */
	bytea	   *headers;	 /* packed, or NULL */
	const char *fingerprint; /* NULL: a message that waited has its id */
} Record;

/* What a handler does with the lines of a message: how they are parsed. */
typedef enum LineUse
{
	LINES_UNUSED,	/* they are not read */
	LINES_RESERVED, /* required: the handler reserves them */
	LINES_COMPARED, /* with the ledger, if they can be read at all */
	LINES_SELECT	/* optional: they select a part of the order */
} LineUse;

/*
 * The fields that the built-in handlers read; up to FIELD_ITEMS in the message,
 * the others in its items.
 */
typedef enum FieldId
{
	FIELD_ORDER_ID,
	FIELD_USER_ID,
	FIELD_PAYMENT_ID,
	FIELD_STATUS,
	FIELD_REASON,
	FIELD_EVENT_ID,
	FIELD_TIMESTAMP,
	FIELD_ITEMS,
	FIELD_PRODUCT_ID,
	FIELD_QUANTITY,
	FIELD_LOCATION,
	FIELDS /* their number */
} FieldId;

/* A step of a path: a member, or an index of an array. */
typedef struct JsonStep
{
	const char *name; /* UTF-8; NULL: an index */
	int			index;
} JsonStep;

typedef struct JsonPath
{
	const char *label; /* of the field in errors */
	int			n;
	JsonStep	steps[FLEXIBLE_ARRAY_MEMBER];
} JsonPath;

/* Where a binding says that the fields are. */
typedef struct FieldMap
{
	JsonPath *paths[FIELDS]; /* NULL: by its own names */
} FieldMap;

/* What of a message its answer may repeat. */
typedef enum AttributeMode
{
	ATTRIBUTES_ALL, /* all that pgstock does not know, except secrets */
	ATTRIBUTES_NONE,
	ATTRIBUTES_LISTED
} AttributeMode;

typedef struct AttributePolicy
{
	AttributeMode mode;
	int			  n;
	const char	**names; /* UTF-8: ATTRIBUTES_LISTED */
} AttributePolicy;

/* What was read in a record.  An id is unique within its source. */
typedef struct Parsed
{
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
	const char *attributes;	  /* JSON object of the members unknown to us */
	List	   *lines;		  /* of Line, sorted and merged: LINES_RESERVED */
	List	   *stated_lines; /* the same, of a message that reserves nothing */
	LineUse		line_use;
	TimestampTz happened_at; /* the event's own time, else Kafka's */
	int64		sent_at_ms;	 /* the record's, or the one's that was redriven */
	bool		is_redriven; /* sent back from a dead letter topic */
	OutcomeReason remark;	 /* why a field may have been read wrongly */
	OutcomeReason skip;		 /* why there is nothing to apply */
	const char	 *poison;	 /* why it can never be applied, or NULL */
} Parsed;

/*
 * A registered handler.  Its names can be given to other objects, so it has
 * the oids of the function, owner and role too, and the database's identity.
 */
typedef struct RegisteredHandler
{
	const char *function; /* qualified and quoted */
	const char *role;	  /* the one that registered it */
	Oid			function_oid;
	Oid			owner_oid;
	Oid			role_oid;
	Oid			schema_oid; /* the extension's */
	int64		system_id;
	Oid			database;
} RegisteredHandler;

struct BuiltinHandler;

/* What is to be done with the messages of a topic, or of a type in it. */
typedef struct Binding
{
	const char					*event_type; /* "": of all other types */
	const struct BuiltinHandler *builtin;	 /* one of these two */
	const RegisteredHandler		*registered;
	const FieldMap				*fields; /* NULL: nothing is mapped */
	AttributePolicy				 attributes;
	int64						 order_wait_ms; /* -1: the relay's */
	const char					*source;		/* NULL: the topic */
} Binding;

/* The bindings of a topic, with the default one where none replaces it. */
typedef struct TopicBindings
{
	List *bindings;		  /* of Binding */
	bool  is_bound;		  /* some of them are stored */
	bool  has_types;	  /* some are for one type */
	bool  has_registered; /* some have a registered handler */
} TopicBindings;

/* How a message is tried.  At most one of its two handlers is set. */
typedef struct Try
{
	const TopicBindings			*topic;		 /* what may be chosen */
	const Binding				*binding;	 /* the one chosen, or NULL */
	const RegisteredHandler		*registered; /* its handler, or NULL */
	const struct BuiltinHandler *builtin;	 /* or NULL */
	int							 attempts;	 /* failed ones, with this one */
	int	 unfinished; /* earlier ones that began, with no end on record */
	bool isolated;	 /* in a transaction of its own, since there are such */
	bool recorded;	 /* this process's own try is on record */
} Try;

/* What became of a message. */
typedef struct Outcome
{
	OutcomeKind kind;
	ErrorClass	error_class; /* of OUTCOME_WAITING and OUTCOME_DEAD only */
	const char *reason;		 /* of an OutcomeReason or of an error; or NULL */
	const char *sqlstate;	 /* or NULL */
	bool		notable;	 /* the relay's log is to name the message */
	const char *original;	 /* of a duplicate: where the first one stands */
	bool		has_row;	 /* of a duplicate: this very record has its row */
	bool		retries;	 /* of a duplicate: the first one is tried again */
} Outcome;

/* A failure of a message, as its row stores it. */
typedef struct Failure
{
	ErrorClass	error_class;
	const char *sqlstate; /* or NULL */
	const char *reason;
} Failure;

/* The row of a message that has failed before; all zero: it has none. */
typedef struct FailedEvent
{
	int64			id;
	ItemPointerData tid; /* valid once the row is locked */
	TimestampTz		first_failed_at;
	TimestampTz		archived_at; /* DT_NOBEGIN or 0: it was not */
	Failure			last;
	List *history; /* of text, with time: each unlike the one before */
} FailedEvent;

typedef struct Message
{
	const Record *record;
	Parsed		  parsed;
	Try			  try;
	FailedEvent	  failed;
	Outcome		  outcome;
} Message;

/* Whether later messages of its key wait for it; an empty key is none. */
static inline bool
record_has_key(const Record *record)
{
	return record->key != NULL && VARSIZE_ANY_EXHDR(record->key) > 0;
}

/*---- How messages are applied ----*/

/* The relay's settings; see docs/relay-protocol.md. */
typedef struct InboxOptions
{
	const char *group;
	const char *relay;	   /* the process; empty: unknown */
	const char *dlq_topic; /* with {topic} in it */
	int64		order_wait_ms;
	int			retry_count;
	int64	   *retry_delays_ms;
	bool		count_attempts; /* record tries before they begin */
	bool		alert;			/* store an alert for each dead message */
	bool		one_by_one;		/* locks timed out: option "careful" */
} InboxOptions;

/* A built-in handler, and what it implies. */
typedef struct BuiltinHandler
{
	const char *name;  /* in bind_topic() */
	const char *topic; /* that it has by default, or NULL */
	LineUse		line_use;
	bool		opens_order; /* the order is new, and the relay measures how
							  * long it has waited */
	bool		is_payment;	 /* without an order it is dead, not skipped */
	bool		hides_attributes; /* unless the binding says otherwise */
	/* NULL: its messages are ignored */
	Outcome (*apply)(Work *work, const Parsed *parsed, Order *order);
} BuiltinHandler;

typedef enum BuiltinHandlerId
{
	HANDLER_ORDER_CREATED,
	HANDLER_PAYMENT_SUCCESS,
	HANDLER_PAYMENT_FAILED,
	HANDLER_ORDER_CANCELLED,
	HANDLER_ORDER_FAILED,
	HANDLER_IGNORE,
	BUILTIN_HANDLERS
} BuiltinHandlerId;

/* The calls of registered handlers in one transaction. */
typedef struct HandlerBatch
{
	TimestampTz began_at;
	int			calls;
	bool		succeeded; /* at least one has */
} HandlerBatch;

/* Calls the function of a message's registered handler. */
typedef void (*HandlerCall)(const Message *message, Oid function);

/* A call that applies messages one by one, with short lock timeouts. */
typedef struct LockPatience
{
	TimestampTz began_at;
	int			tried;
	NameMap		locked; /* of Line: products whose lock timed out */
} LockPatience;

/* Room for what message_id_text makes: both parts, and a length. */
#define MESSAGE_ID_TEXT_BYTES (2 * STOCK_ID_BYTES_MAX + 128)

/*---- Functions, lowest file first ----*/

/* in outcome.c */
extern const char *outcome_text(OutcomeKind kind);
extern const char *error_class_text(ErrorClass error_class);
extern const char *outcome_reason_text(OutcomeReason reason);
extern ErrorClass  error_class_from_text(const char *name);
extern Outcome	   outcome_applied(void);
extern Outcome	   outcome_skipped(OutcomeReason reason);
extern Outcome	   outcome_waiting_for_order(void);
extern Outcome	   outcome_dead(ErrorClass error_class, const char *reason);
extern void		   outcome_note(Outcome *outcome, OutcomeReason reason);

/* in fingerprint.c */
extern const char *fingerprint(int64 time_ms, const bytea *key,
							   const bytea *value, const bytea *headers);

/* in json_path.c */
extern JsonPath		 *json_path_parse(const char *text, const char **fault);
extern struct json_t *json_path_find(const JsonPath *path, struct json_t *root);

/* in field_map.c */
/* Whether a name of ours is a member's, which is not terminated. */
static inline bool
field_name_is(const char *name, const char *member, int length)
{
	return strncmp(name, member, length) == 0 && name[length] == '\0';
}

static inline bool
field_is_mapped(const FieldMap *map, FieldId id)
{
	return map != NULL && map->paths[id] != NULL;
}

extern FieldMap	  *field_map_from_jsonb(Jsonb *object);
extern const char *field_map_unused(const FieldMap *map, bool ids_only);
extern void field_get_names(FieldId id, const char **snake, const char **camel);
extern const char *field_label(const FieldMap *map, FieldId id);
extern FieldId	   field_last(const FieldMap *map);
extern bool field_is_known(const FieldMap *map, const char *name, int length);

/* in attributes.c */
extern const char *attributes_find(const char *object, int length,
								   const char *name, int *value_length);

extern char *attributes_cut(const char *object, int length,
							const AttributePolicy *policy, const FieldMap *map);

/* in message_id.c */
extern char *message_id_header(List *headers, const char *name);
extern void	 message_id_assign(const Record *record, List *headers,
							   const Payload *payload, const char *body_id,
							   Parsed *parsed);
extern char *message_id_text(const Parsed *parsed);
extern int64 message_id_value_hash(const Record *record);

/* in message_field.c */
extern void	 message_set_poison(Parsed *parsed, const char *reason);
extern char *message_text(Parsed *parsed, const char *utf8, const char *label);
extern struct json_t *message_member(Parsed *parsed, struct json_t *object,
									 const char *snake, const char *camel);
extern char			 *message_optional_id(Parsed *parsed, struct json_t *object,
										  const char *snake, const char *camel,
										  const char *label);
extern char			 *message_string(Parsed *parsed, const struct json_t *value,
									 const char *label);
extern char			 *message_find_id(struct json_t *object, const char *snake,
									  const char *camel);
extern struct json_t *field_get(const FieldMap *map, FieldId id, Parsed *parsed,
								struct json_t *object);
extern char *field_get_id(const FieldMap *map, FieldId id, Parsed *parsed,
						  struct json_t *object);
extern char *field_get_optional_id(const FieldMap *map, FieldId id,
								   Parsed *parsed, struct json_t *object);
extern char *field_find_id(const FieldMap *map, FieldId id,
						   struct json_t *object);

/* in payload.c */
extern int	payload_frame_length(const bytea *value);
extern bool payload_load(const Record *record, Payload *payload,
						 Parsed *parsed);
extern void payload_open(List *headers, Payload *payload);
extern void payload_free(Payload *payload);

/* in message_lines.c */
extern void message_parse_line_use(Parsed *parsed, const FieldMap *map,
								   struct json_t *message);

/* in binding.c */
extern Binding *binding_new(const char				*event_type,
							const BuiltinHandler	*builtin,
							const RegisteredHandler *registered, Jsonb *fields,
							Jsonb *options);

extern TopicBindings *binding_topic(List *bindings, bool is_bound);
extern const Binding *binding_choose(const TopicBindings *topic,
									 const char			 *event_type);

/* in message.c */
extern const Binding *message_parse(const Record		*record,
									const TopicBindings *topic,
									TimestampTz default_time, Parsed *parsed);
extern void message_parse_headers(const Record *record, Parsed *parsed);

/* in options.c */
extern InboxOptions options_from_jsonb(Jsonb *object);
extern char		   *options_dead_letter_topic(const InboxOptions *options,
											  const char		 *topic);

/* in batch_cut.c */
extern List *batch_cut_by_kind(List *messages);
extern List *batch_cut_isolated(List *messages);
extern List *batch_cut_by_handler(List *messages);

/* in partition.c */

/* The messages of one partition in a batch. */
typedef struct PartitionBatch
{
	Message *first;
	Message *last;
	bool	 has_news; /* not all of them are duplicates, once applied */
} PartitionBatch;

extern List *partition_batches(List *messages);
extern bool	 partition_find_row(Call *call, Table *table, const char *index,
								const Record *record, ItemPointer tid);
extern bool	 partition_lock_row(Call *call, Table *table, const char *index,
								const Record *record, ItemPointer tid);

/* in offset.c */
extern void offset_advance(Call *call, List *messages);
extern bool offset_is_past(Call *call, const Record *record);

/* in attempt.c */
extern void	   attempt_set_process(const InboxOptions *options);
extern int64   attempt_process(void);
extern int64   attempt_session(void);
extern bool	   attempt_session_is_alive(int64 id);
extern int	   attempt_max(const InboxOptions *options);
extern bool	   attempt_record_batch(Call *call, List **messages);
extern Outcome attempt_exhausted(int unfinished);

/* in order_wait.c */
extern void	 order_wait_raise(const BuiltinHandler *handler,
							  const char		   *order_id);
extern bool	 order_wait_was_raised(const ErrorData *error);
extern int64 order_wait_ms(const InboxOptions *options, const Message *message);
extern Outcome order_wait_give_up(const Message *message);

/* in failure.c */
extern bool		   failure_is_transient(const ErrorData *error);
extern const char *failure_reason(const ErrorData *error);
extern Outcome	   failure_outcome(const InboxOptions *options, int attempts,
								   const char *sqlstate, const char *reason);
extern TimestampTz failure_next_try(const InboxOptions *options,
									const Message *message, TimestampTz now);

/* in alert.c */
extern void alert_store(Call *call, int64 failed_id);

/* in dead_letter.c */
extern void dead_letter_publish(Call *call, const InboxOptions *options,
								const Record *record, const Parsed *parsed,
								int attempts, Outcome *outcome);

/* in failed_event.c */
extern void	 failed_event_store(Call *call, const InboxOptions *options,
								Message *message);
extern bool	 failed_event_lock_due(Call *call, Message *message);
extern void	 failed_event_lock_again(Call *call, Message *message);
extern bool	 failed_event_record_tries(Call *call, List *messages);
extern List *failed_event_list_due(Call *call, int max_rows);
extern int64 failed_event_first_waiting(Call *call, const Record *record,
										int64 except_id, ItemPointer tid);
extern void	 failed_event_suspend(Call *call, Message *message);
extern void	 failed_event_make_due(Call *call, ItemPointer tid);
extern bool	 failed_event_redrive(Call *call, Message *message);

/* in key_queue.c */
extern char *key_queue_name(const Record *record);
extern bool	 key_queue_lock_if_behind(Call *call, const Message *message);
extern bool	 key_queue_suspend_if_behind(Call *call, Message *message);
extern void	 key_queue_wake_next(Call *call, const Message *message);

/* in order_state.c */
extern bool order_has_state(Call *call, const Order *order, LineState state);
extern Reservation *order_latest_line(const Order *order);
extern List		   *order_answers(Work *work, const Order *order);
extern const char  *order_end_reason(Call *call, const Order *order);
extern bool			order_is_newer(Work *work, const Order *order,
								   TimestampTz happened_at);

/* in order_difference.c */
extern bool	 order_difference_in_lines(const Order *order, List *stated);
extern char *order_difference_json(const Parsed *parsed, const Order *order);
extern List *order_difference_select(const Order *order, List *stated,
									 bool *differs);

/* in payment.c */
extern bool payment_is_paid(const char *status);
extern bool payment_is_surplus(Work *work, const Parsed *parsed,
							   const Order *order);
extern void payment_report(Work *work, const Parsed *parsed, const Order *order,
						   const Event *event);
extern Outcome payment_success(Work *work, const Parsed *parsed, Order *order);

/* in builtin_handlers.c */
extern const BuiltinHandler *builtin_handler(BuiltinHandlerId id);
extern const BuiltinHandler *builtin_handler_find(const char *name);
extern const BuiltinHandler *builtin_handler_of_topic(const char *topic);
extern void	   builtin_handler_request_levels(Work *work, const Parsed *parsed);
extern Outcome builtin_handler_apply(Work *work, const BuiltinHandler *handler,
									 const Parsed *parsed);

/* in handler_registration.c */
#define HANDLER_SIGNATURE_HINT \
	"A handler is f(payload jsonb, message jsonb) RETURNS void."

extern RegisteredHandler *registration_from_name(const char *name, Oid schema,
												 const char *hint);
extern Oid				  registration_role(const RegisteredHandler *handler,
											const char				*topic);
extern Oid		   registration_function(const RegisteredHandler *handler,
										 const char				 *topic);
extern const char *registration_search_path(const RegisteredHandler *handler,
											const char				*topic);

/* in binding_table.c */
extern void			  binding_load(Call *call, List *messages);
extern TopicBindings *binding_of_handler(const BuiltinHandler *builtin);
extern bool			  binding_lock_topic(Call *call, const char *topic);

/* in handler_fence.c */
extern void		  handler_fence_init(void);
extern ErrorData *handler_fence_call(const Message *message, HandlerCall call);
extern bool		  handler_fence_timed_out(void);

/* in registered_handler.c */
extern bool registered_handler_batch_is_over(const HandlerBatch *batch);
extern bool registered_handler_apply(HandlerBatch		*batch,
									 const InboxOptions *options,
									 Message			*message);

/* in lock_patience.c */
extern void lock_patience_begin(LockPatience *patience);
extern bool lock_patience_is_over(const LockPatience *patience);
extern void lock_patience_set_timeout(const LockPatience *patience,
									  const Parsed		 *parsed);
extern void lock_patience_note(LockPatience *patience, const Parsed *parsed,
							   const ErrorData *error);

/* in prepare.c */
extern void prepare_message(const InboxOptions *options, Message *message);

/* in inbox_row.c */
extern void inbox_row_insert(Call *call, const Message *message);
extern void inbox_row_update(Call *call, const Message *message);
extern void inbox_row_find_duplicates(Call *call, List *messages);
extern void inbox_row_find_duplicates_in_batch(List *messages);

/* in batch_lock.c */
extern void batch_lock_ids(Call *call, List *messages);
extern void batch_lock_stock(Work *work, List *messages);

/* in builtin_handler_call.c */
extern Message *handler_message_args(FunctionCallInfo	   fcinfo,
									 const BuiltinHandler *handler);
extern void		handler_call_message(FunctionCallInfo	   fcinfo,
									 const BuiltinHandler *handler);

/* in batch_args.c */
extern InboxOptions batch_options_arg(FunctionCallInfo fcinfo, int n);
extern List		   *batch_messages_arg(FunctionCallInfo fcinfo);
extern Datum		batch_return(FunctionCallInfo fcinfo, List *messages);
extern Datum batch_return_started(FunctionCallInfo fcinfo, List *messages);

#endif /* INBOX_INBOX_H */
