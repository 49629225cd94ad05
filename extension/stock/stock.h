/*-------------------------------------------------------------------------
 *
 * stock/stock.h
 *	  Levels, lines and the unit of work.
 *
 * A call is one unit of work: it collects what it needs, locks it in the one
 * order, decides in memory, and writes at the end.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef STOCK_STOCK_H
#define STOCK_STOCK_H

#include "postgres.h"

#include "base/base.h"
#include "protocol/answer_status.h"
#include "protocol/line_state.h"

#define STOCK_SLOTS_MAX 64
#define STOCK_MAIN		"main" /* the default location */
#define SLOT_MAIN		0	   /* a level's first row; a sale's is below it */

/* A level's columns, as sql/stock_tables.sql has them. */
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
	LEVEL_NEEDS_ALL_SLOTS
};

/*
 * A row of a level, or the request for it.  With slots a level is several rows,
 * whose sum it is.
 */
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
	bool			deleted; /* its row is to be deleted */
	int64			on_hand;
	int64			reserved;
	int64			safety;
	int64			backorder_limit;
	int				slot;
	int				slots;			 /* from which a call takes first */
	int				slots_made;		 /* that there are, those included */
	bool			needs_all_slots; /* to take of it */
	int64			version;
	int64			wanted;	   /* request, of the first row: from any slot */
	bool			all_slots; /* request, of the first row */
	bool			this_slot; /* request: this row */
	int64 due; /* of the first: pieces of due lines, -1: not counted */
} Level;

/* How a call that takes locks its levels, and when it waits. */
typedef enum Strategy
{
	STRATEGY_WAIT, /* auto and pessimistic: for the row */
	STRATEGY_OPTIMISTIC,
	STRATEGY_ADVISORY
} Strategy;

/* Whether a payment takes the stock of an ended line again. */
typedef enum Retake
{
	RETAKE_BY_STATE, /* one that has expired: yes; any other: no */
	RETAKE_YES,		 /* the payment was declined, another may follow */
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
	TimestampTz		expires_at;	  /* DT_NOEND: never */
	TimestampTz		ended_at;	  /* DT_NOBEGIN: not ended */
	TimestampTz		confirmed_at; /* DT_NOBEGIN: never */
	Retake			retake;
	bool			event_owed; /* it has expired, no event reports it yet */
	ItemPointerData tid;		/* valid unless is_new */
	bool			is_new;
	bool			dirty;
} Reservation;

/* An order, with all lines that it ever had, or with those asked for. */
typedef struct Order
{
	char *order_id;
	bool  loaded;
	int	  attempt;		/* the latest, 0: it has no line yet */
	List *lines;		/* of Reservation, every attempt: by line_compare_key */
	List *asked;		/* of Line, request: these and the last line */
	bool  if_live;		/* request: and a live line, if there is one */
	bool  with_history; /* request: its lines may be in the history */
} Order;

/* One line of a request: merged, so no two have the same key. */
typedef struct Line
{
	char *product_id;
	char *location;
	int	  slot;
	int64 quantity;
} Line;

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
	bool		no_event; /* no event of this work reports it */
} Movement;

/* The unit of work: all that one call touches. */
typedef struct Work
{
	Call	 call;
	List	*orders;	  /* of Order, sorted once locked */
	List	*other_lines; /* of Reservation: changed lines of others */
	NameMap	 other_line_names;
	int		 event_locks; /* kept on orders outside the work */
	List	*levels;	  /* of Level: wishes; first rows, sorted, once read */
	Strategy strategy;
	bool	 orders_locked;
	bool	 levels_locked;
	List	*movements; /* of Movement, to be written */
	List	*refused;	/* of order id and reason */
	NameMap	 refused_names;
	NameMap	 surplus; /* payments noted by this work */
} Work;

/* What a call answers for a line: stock_result. */
typedef struct Answer
{
	char		*order_id;
	char		*product_id; /* NULL: the order is unknown */
	char		*location;
	int64		 requested;
	int64		 granted;
	AnswerStatus status;
	int64		 available;
	int64		 version;
	TimestampTz	 expires_at; /* DT_NOEND: none */
	bool		 replayed;
	const char	*activity_id; /* the level is this sale's quota, or NULL */
} Answer;

/* in work.c */
extern void work_begin(Work *work, const char *function);
extern void work_set_strategy(Work *work, Strategy strategy);
extern void work_end(Work *work);

/* in order.c */
extern Reservation *order_find_line(const Order *order, int attempt,
									const char *product_id,
									const char *location);
extern Reservation *order_new_line(Order *order, int attempt, const Line *line);
extern void			order_set_attempt(Order *order, int attempt);
extern void			order_request_lines(Order *order, List *lines, bool live);
extern void			order_request_history(Order *order);
extern void			order_add_line(Order *order, Reservation *line);
extern bool			order_is_live(const Call *call, const Order *order);
extern Order	   *work_find_order(Work *work, const char *order_id);
extern bool			work_try_lock_order(const char *order_id);
extern bool			work_keep_order_lock(Work *work);
extern void			work_unlock_order(const char *order_id);
extern Order	   *work_request_order(Work *work, const char *order_id);
extern void			work_lock_orders(Work *work);
extern void			work_load_orders_again(Work *work);

/* in line.c */
extern bool line_is_due(const Call *call, const Reservation *line);
extern bool line_is_live(const Call *call, const Reservation *line);
extern bool line_is_payable(const Call *call, const Reservation *line);
extern void line_end(Call *call, Reservation *line, LineState state,
					 const char *reason);
extern void line_reserve(Call *call, Reservation *line, const Level *slot,
						 int64 quantity, TimestampTz expires_at);
extern void line_set_buyer(Reservation *line, char *user_id, char *activity_id);
extern void line_extend(Reservation *line, TimestampTz expires_at);
extern void line_reduce(Reservation *line, int64 quantity);
extern void line_confirm(Call *call, Reservation *line, const char *payment_id);
extern void line_set_payment(Reservation *line, const char *payment_id);
extern void line_set_retake(Reservation *line, Retake retake);
extern void line_set_event_owed(Reservation *line, bool owed);
extern void line_move(Reservation *line, int slot);
extern char		   *line_order_id(TupleTableSlot *slot);
extern Reservation *line_read(TupleTableSlot *slot, Order *order);
extern void			line_write(Call *call, Reservation *line);

/* in due_line.c */
extern void	 work_add_other_line(Work *work, Reservation *line);
extern bool	 work_has_locked_line(Work *work, const Reservation *line);
extern List *work_due_lines(Work *work, const Level *level, int max_rows);
extern int64 work_due_quantity(Work *work, Level *level);
extern void	 level_uncount_due(const Call *call, Level *level,
							   const Reservation *line);
extern List *work_order_lines(Work *work, const char *order_id);

/* in level.c */
extern Level *work_find_level(Work *work, const char *product_id,
							  const char *location, int slot);
extern Level *work_request_level(Work *work, const char *product_id,
								 const char *location, int slot);
extern Level *work_request_all_slots(Work *work, const char *product_id,
									 const char *location);

extern Level *level_peek(Call *call, char *product_id, char *location);

extern void	 work_request_stock(Work *work, const char *product_id,
								const char *location, int slot, int64 quantity);
extern void	 level_read(Level *level, TupleTableSlot *slot);
extern void	 level_load_rest(Call *call, Level *first);
extern bool	 level_lacks_rows(const Level *first);
extern void	 level_load_row_again(Call *call, Level *row);
extern void	 work_read_levels(Work *work);
extern void	 level_request_heir(Work *work, const Level *sale, int place);
extern List *work_product_levels(Call *call, const char *product_id,
								 const char *location, bool sales);
extern void	 level_must_exist(const Level *level);

extern void level_make(Level *level);
extern void level_make_slots(Level *first, int slots);
extern void level_configure(Level *first, int64 safety, int64 backorder_limit);
extern void level_raise_version(Level *first);
extern void level_delete(Level *quota);
extern void level_raise_insufficient(const char *product_id,
									 const char *location, int64 wanted,
									 int64 available, const char *hint);

extern int64 level_on_hand(Work *work, const Level *level);
extern void	 work_write_levels(Work *work);

/* in level_lock.c */
extern void work_lock_levels(Work *work);
extern void work_lock_free_levels(Work *work);

/* in row_version_hint.c */
extern void row_version_hint_note(const Call *call, const Level *level);
extern bool row_version_hint_find(const Call *call, Table *table,
								  const Level *level);

/* in slot.c */
extern int64  slot_unreserved(const Level *slot);
extern Level  level_sum(const Level *level);
extern int64  level_unreserved(const Level *level);
extern int64  level_available(const Level *level);
extern Level *level_slot_to_take(Level *level);
extern void	  level_require(const Level *level, int64 wanted);
extern void	  level_even_out(Level *level);

/* in ledger.c */
extern void level_change(Work *work, Level *level, int64 on_hand_delta,
						 int64 reserved_delta, const char *kind,
						 const char *order_id, const char *reason,
						 const char *reference);
extern bool ledger_has_unlinked(Work *work, int first_movement,
								const char *order_id);
extern void ledger_link_event(Work *work, int first_movement,
							  const pg_uuid_t *event_id);
extern void movement_set_event(Movement *movement, const pg_uuid_t *event_id);
extern void ledger_link_no_event(Work *work, int first_movement);
extern void ledger_write(Work *work);

/* in level_mark.c */
extern void level_mark_init(void);
extern void level_mark_write(Work *work);

/* in refused_order.c */
extern const char *refused_find(Work *work, const char *order_id);
extern void refused_store(Work *work, const char *order_id, const char *reason);
extern void refused_write(Work *work);

/* in args.c */
extern int64	args_quantity(FunctionCallInfo fcinfo, int n, const char *name);
extern Strategy args_strategy(FunctionCallInfo fcinfo, int n);
extern TimestampTz args_default_expiry(void);
extern TimestampTz args_expiry_of(Datum ttl);
extern TimestampTz args_expiry(FunctionCallInfo fcinfo, int n);
extern Line		  *line_new(char *product_id, char *location, int64 quantity);
extern Line		  *line_new_in_slot(char *product_id, char *location, int slot,
									int64 quantity);
extern int	 level_key_compare(const char *product_a, const char *location_a,
							   const char *product_b, const char *location_b);
extern List *lines_merge(List *lines);

/* in answer.c */
extern Answer	  *answer_new(const char *order_id, const char *product_id,
							  const char *location, int64 requested);
extern void		   answer_level(Answer *answer, const Level *level);
extern Answer	  *answer_of_line(Work *work, const Reservation *line,
								  int64 quantity);
extern const char *answer_status_text(AnswerStatus status);
extern Datum	   answer_datum(const Answer *answer, TupleDesc desc);
extern Answer	  *answer_from_datum(Datum row, TupleDesc desc);
extern Datum answer_return_row(FunctionCallInfo fcinfo, const Answer *answer);
extern Datum answer_return_set(FunctionCallInfo fcinfo, List *answers);

#endif /* STOCK_STOCK_H */
