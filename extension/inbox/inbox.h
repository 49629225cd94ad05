/*-------------------------------------------------------------------------
 *
 * inbox/inbox.h
 *	  Messages from Kafka, and what becomes of them.
 *
 * A batch of messages is one unit of work.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef INBOX_INBOX_H
#define INBOX_INBOX_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "orders/orders.h"
#include "outbox/outbox.h"

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

/* in message.c */
extern void		   message_parse(Message *message);
extern void		   message_parse_any(Message *message);
extern void		   message_parse_headers(Message *message);
extern TimestampTz message_time(int64 ms);
extern int64	   message_time_ms(TimestampTz at);
extern bool		   message_time_is_sane(int64 ms);

/* in attributes.c */
extern char *attributes_cut(const char *object, int length,
							const char *const *known, int n);

/* in message_id.c */
extern char *name_header(List *headers, const char *name);
extern void	 name_message(Message *message, List *headers, const char *body_id);
extern char *name_as_text(const Message *message);
extern int64 name_value_hash(const Message *message);

/* in fingerprint.c */
extern const char *fingerprint(int64 time_ms, const bytea *key,
							   const bytea *value, const bytea *headers);

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

/* in partition.c */
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

/* in payment.c */
extern Outcome payment_success(Work *work, Message *message, Order *order);

/* in order_difference.c */
extern bool	 differs_lines(const Order *order, List *told);
extern char *differs_json(const Message *message, const Order *order);
extern List *differs_part(Call *call, const Order *order, List *told,
						  bool *differs);

/* in handler_registration.c */
extern void				  user_handlers_find(Call *call, List *messages);
extern const UserHandler *user_handler_choose(const Message *message);
extern Oid				  registered_role(const Message *message);
extern Oid				  registered_function(const Message *message);
extern const char		 *registered_search_path(const Message *message);

/* in user_handler.c */
extern void user_handler_init(void);
extern bool user_batch_is_over(const UserBatch *batch);
extern bool user_handler_apply(UserBatch *batch, const InboxOptions *options,
							   Message *message);

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

/* in lock_patience.c */
extern void		  careful_begin(Careful *careful);
extern bool		  careful_is_over(const Careful *careful);
extern void		  careful_wait(const Careful *careful, const Message *message);
extern void		  careful_note(Careful *careful, const Message *message,
							   const ErrorData *failure);
extern ErrorData *guard_call(void (*step)(void *), void *arg);

/* in alert.c */
extern void alert_store(Call *call, const Message *message);

#endif /* INBOX_INBOX_H */
