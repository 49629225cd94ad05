/*-------------------------------------------------------------------------
 *
 * base/statistics.h
 *	  The counted SQL functions, and the counters of a database.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef BASE_STATISTICS_H
#define BASE_STATISTICS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "port/atomics.h"

/* The SQL functions that are counted; statistics_report.c has their names. */
typedef enum CallFunction
{
	CALL_RESERVE_STOCK,
	CALL_TRY_RESERVE_STOCK,
	CALL_RESERVE_ORDER,
	CALL_TRY_RESERVE_ORDER,
	CALL_RESERVE_ORDERS,
	CALL_CONFIRM_STOCK,
	CALL_RELEASE_STOCK,
	CALL_ROLLBACK_STOCK,
	CALL_RETURN_STOCK,
	CALL_EXTEND_RESERVATION,
	CALL_EXPIRE_RESERVATIONS,
	CALL_OPEN_FLASH_SALE,
	CALL_PURCHASE_FLASH_SALE,
	CALL_CLOSE_FLASH_SALE,
	CALL_RECEIVE_STOCK,
	CALL_ADJUST_STOCK,
	CALL_SET_STOCK,
	CALL_MOVE_STOCK,
	CALL_CONFIGURE_PRODUCT,
	CALL_PUBLISH_EVENT,
	CALL_PUBLISH_BYTES,
	CALL_PUBLISH_OUTBOX_ROW,
	CALL_SET_EVENT_TOPIC,
	CALL_REGISTER_HANDLER,
	CALL_HANDLE_ORDER_CREATED,
	CALL_HANDLE_PAYMENT_SUCCESS,
	CALL_HANDLE_PAYMENT_FAILED,
	CALL_HANDLE_ORDER_CANCELLED,
	CALL_HANDLE_ORDER_FAILED,
	CALL_FUNCTIONS, /* their number */
	CALL_NO_FUNCTION
} CallFunction;

/*
 * Why a call was refused or failed.  The last two are failures: the database
 * could not do what was asked; all others are refusals, whose cause is the
 * state of the stock or the caller.
 */
typedef enum CallStatus
{
	CALL_INSUFFICIENT,
	CALL_UNKNOWN_PRODUCT,
	CALL_UNKNOWN_ORDER,
	CALL_OVER_LIMIT,
	CALL_NOT_OPEN,
	CALL_WRONG_STATE,
	CALL_EXPIRED,
	CALL_SHORTFALL,
	CALL_ALREADY,
	CALL_KEY_REUSED,
	CALL_STALE_VERSION,
	CALL_INVALID,  /* an argument */
	CALL_CONFLICT, /* with another transaction: run it again */
	CALL_ERROR,
	CALL_STATUSES, /* their number */
	CALL_NO_STATUS
} CallStatus;

/* How a transaction with at least one counted call has ended. */
typedef enum CallTransaction
{
	CALL_COMMITTED,
	CALL_REFUSED,	  /* rolled back after a refusal */
	CALL_ROLLED_BACK, /* for any other reason */
	CALL_TRANSACTIONS /* their number */
} CallTransaction;

#define CALL_BOUNDS	   12
#define CONFIRM_BOUNDS 15

typedef struct CallCounters
{
	pg_atomic_uint64 time_us;
	pg_atomic_uint64 refusals[CALL_STATUSES];
	pg_atomic_uint64 buckets[CALL_BOUNDS + 1]; /* the last: above all bounds */
} CallCounters;

/* The counters of a database. */
typedef struct Statistics
{
	pg_atomic_uint64 since; /* TimestampTz of the last reset */
	CallCounters	 calls[CALL_FUNCTIONS];
	pg_atomic_uint64 transactions[CALL_TRANSACTIONS];
	pg_atomic_uint64 confirm_us;
	pg_atomic_uint64 confirm_buckets[CONFIRM_BOUNDS + 1];
	pg_atomic_uint64 verified_at; /* TimestampTz; 0: not since the start */
	pg_atomic_uint64 differences; /* that verify_stock() found then */
} Statistics;

/* in statistics.c */
extern const int64 call_bounds_us[CALL_BOUNDS];
extern const int64 confirm_bounds_us[CONFIRM_BOUNDS];

extern void		   statistics_init(void);
extern Statistics *statistics_use(void);
extern void		   statistics_clear(Statistics *statistics);
extern Datum	   statistics_call(CallFunction function, PGFunction body,
								   FunctionCallInfo fcinfo);
extern void		   statistics_refuse(CallStatus status);
extern void		   statistics_confirm(int64 us);

/*
 * Defines an SQL function whose calls are counted; its body is NAME_body.
 * Stands in place of PG_FUNCTION_INFO_V1.
 */
#define PGSTOCK_COUNTED_FUNCTION(name, id)               \
	PG_FUNCTION_INFO_V1(name);                           \
	static Datum name##_body(PG_FUNCTION_ARGS);          \
	Datum		 name(PG_FUNCTION_ARGS)                  \
	{                                                    \
		return statistics_call(id, name##_body, fcinfo); \
	}                                                    \
	extern int no_such_variable

#endif /* BASE_STATISTICS_H */
