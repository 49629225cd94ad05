/*-------------------------------------------------------------------------
 *
 * orders/orders.h
 *	  The verbs that SQL calls, and the events that they emit.
 *
 * Each verb is a check of arguments, then a unit of work (stock/work.c).
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef ORDERS_ORDERS_H
#define ORDERS_ORDERS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "stock/stock.h"

/* A request under an explicit idempotency key. */
typedef struct Keyed
{
	const char *key;	/* NULL: none */
	const char *verb;	/* NULL: it reserves */
	const char *detail; /* what counts besides order and lines, or NULL */
	TupleDesc	desc;	/* stock_result; only with a key */
	bool		raise;	/* a reservation that has ended is an error */
	List	   *stored; /* of Answer: given before, as it was; NIL: none was */
	TimestampTz stored_at;
} Keyed;

/* A request to reserve. */
typedef struct Request
{
	char	   *order_id;
	char	   *user_id;	 /* or NULL */
	char	   *activity_id; /* the sale, or NULL */
	Strategy	strategy;
	TimestampTz expires_at;
	const char *attributes;	 /* JSON object for the event, or NULL */
	bool		whole_order; /* the lines are the order, not a part of it */
	List	   *lines;		 /* of Line, sorted by product and location */
} Request;

/* How a request stands to what the order holds. */
typedef enum ReserveStanding
{
	STANDING_NEW,	  /* nothing live is in its way */
	STANDING_REPLAY,  /* it was granted, and its lines live */
	STANDING_ANOTHER, /* live lines differ from it */
} ReserveStanding;

/* One order of reserve_orders(). */
typedef struct BatchRequest
{
	Request		request;
	Keyed		keyed;
	const char *trace_id; /* NULL: the transaction's */
} BatchRequest;

/* The contents of an event besides its items; NULL: left out. */
typedef struct Event
{
	const char *type;
	const char *topic;
	const char *order_id;
	const char *user_id;
	const char *activity_id;
	const char *reason;
	const char *payment_id;
	TimestampTz expires_at; /* DT_NOEND: left out */
	const char *differs;	/* JSON: fields that differ in the message */
	bool		replayed;
	bool		wanted;		 /* items carry wanted and available */
	bool		by_movement; /* set by event_emit_movements */
	List	   *items;		 /* of Answer */
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
	bool		declined;	/* released, but another payment may follow */
	bool		pays;		/* a payment: takes what was declined again too */
	TimestampTz expires_at; /* of extend */
} Settle;

/* A flash sale. */
typedef struct Sale
{
	char	   *activity_id;
	char	   *product_id;
	char	   *location;
	int			slot;	  /* of the quota's level */
	int64		quantity; /* of the quota when it was opened, and moved since */
	int64		per_user_limit;
	TimestampTz starts_at;
	TimestampTz ends_at; /* DT_NOEND: when it is closed */
	bool		closed;
	int64		left_at_end; /* pieces that were left when it ended by itself,
							  * or SALE_NOT_ENDED */
} Sale;

#define SALE_NOT_ENDED (-1)

/* in json_args.c */
extern char *args_attributes(FunctionCallInfo fcinfo, int n);
extern List *args_items(Jsonb *items);
extern List *args_orders(Jsonb *orders, TimestampTz expires_at);

/* in idempotency.c */
extern Keyed idempotency_arg(FunctionCallInfo fcinfo, int n);
extern bool	 idempotency_look(Work *work, Keyed *keyed, const char *order_id,
							  List *lines);
extern List *idempotency_answers(Work *work, const Keyed *keyed,
								 const char *order_id);
extern List *idempotency_find(Work *work, Keyed *keyed, const char *order_id,
							  List *lines);

extern void idempotency_store(Call *call, const Keyed *keyed,
							  const char *order_id, List *lines, List *answers);

/* in reserve.c */
extern List *reserve_apply(Work *work, const Request *request, bool *granted);
extern bool	 reserve_could_fit(Work *work, const Request *request);
extern ReserveStanding reserve_standing(Work *work, const Request *request);
extern bool			   reserve_is_replay(Work *work, const Request *request);
extern List			  *reserve_refuse(Work *work, const Request *request,
									  AnswerStatus otherwise);
extern void reserve_request_levels(Work *work, const Request *request);

/* What a verb is called, where it leads, and what it emits. */
typedef struct SettleVerbInfo
{
	const char	*function;	 /* of SQL */
	const char	*name;		 /* in messages */
	AnswerStatus status;	 /* of the answer */
	const char	*kind;		 /* of the movement */
	LineState	 state;		 /* of a line that it ends */
	const char	*event_type; /* or NULL */
	bool		 must_know;	 /* SK004 for an unknown order */
} SettleVerbInfo;

/* in settle.c */
extern const SettleVerbInfo settle_verbs[]; /* by SettleVerb */
extern List *settle_apply(Work *work, const Settle *settle, Order *order);
extern void	 settle_request_levels(Work *work, const Order *order);

/* in expire.c */
extern int64 expire_reachable(Work *work, Level *level, int64 wanted);
extern void	 expire_make_room(Work *work, Level *level, int64 wanted);
extern int	 expire_lines(Work *work, List *lines);
extern List *expire_find_own(Work *work, const Order *order);
extern void	 expire_request_own_levels(Work *work, const Order *order);

/* in supply.c */
extern void supply_make_level(Work *work, Level *level);

/* in flash_sale.c */
extern bool	 sale_allows(Work *work, const Reservation *line);
extern Sale *sale_find(Call *call, const char *activity_id);
extern List *sale_lines(Work *work, const char *activity_id,
						const char *user_id);
extern int	 sale_new_slot(void);
extern void	 sale_insert(Call *call, const Sale *sale);
extern void	 sale_change_quantity(Call *call, const char *activity_id,
								  int64 delta);
extern void	 sale_mark_closed(Call *call, const char *activity_id, int64 left);

/* How an event is published. */
typedef struct EventFormat
{
	const char *topic; /* NULL: it is not written */
	const char *name;  /* of its type */
	bool		camel; /* its members are named in camelCase */
} EventFormat;

/* in event_format.c */
extern void event_format_init(void);
extern void event_format_find(const char *type, const char *topic,
							  EventFormat *format);

/* in stock_event.c */
extern pg_uuid_t event_emit(Work *work, const Event *event);
extern void event_emit_movements(Work *work, Event *event, int first_movement);
extern void event_emit_level(Work *work, Level *level, const char *kind,
							 const char *reference);
extern void event_emit_refusal(Work *work, const char *order_id,
							   const char *user_id, const char *reason,
							   List *answers, bool replayed,
							   const char *differs);

#endif /* ORDERS_ORDERS_H */
