/*-------------------------------------------------------------------------
 *
 * inbox/failure.c
 *	  What an error means for a message: the classes of SQLSTATEs, and what
 *	  follows from them.
 *
 *	transient	The message is not at fault, and the same call may succeed.
 *				A registered handler is called again at once, and a call of
 *				the relay's fails as a whole: the relay makes it again.
 *	permanent	The data is at fault, and no try changes that: dead.
 *	other		Tries after growing delays, then dead.
 *
 * The transient states are those of protocol/sqlstate.h, as in the relay.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "inbox/inbox.h"

PG_FUNCTION_INFO_V1(pgstock_is_conflict);

/*
 * How often a message that waits for its order looks for it.  The tests on a
 * slow server set it: dev/stage.
 */
#ifndef ORDER_LOOK_MS
#define ORDER_LOOK_MS 1000
#endif

/* Classes. */
static const char *const permanent_states[] = {
	"22", /* data exception */
	"23", /* integrity constraint violation */
	"SK", /* pgstock's own */
	NULL,
};

/* Whether the same call may succeed if it is made again. */
bool
failure_is_transient(const ErrorData *error)
{
	return sqlstate_is_transient(unpack_sql_state(error->sqlerrcode));
}

/* is_conflict(sqlstate text) RETURNS boolean: for the steps of the upkeep */
Datum
pgstock_is_conflict(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(sqlstate_is_listed(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									  sqlstate_conflicts));
}

/* Why a try failed, for people. */
const char *
failure_reason(const ErrorData *error)
{
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		return error->message;
	return psprintf("another session has locked what it needs: %s",
					error->message);
}

/* What becomes of a message after so many failed tries, the last with this. */
Outcome
failure_outcome(const InboxOptions *options, int attempts, const char *sqlstate,
				const char *reason)
{
	Outcome outcome = {.reason = reason, .sqlstate = sqlstate};

	Assert(attempts > 0);
	if (sqlstate_is_listed(sqlstate, permanent_states))
	{
		outcome.kind = OUTCOME_DEAD;
		outcome.error_class = ERROR_CLASS_PERMANENT;
	}
	else if (attempts > options->retry_count)
	{
		outcome.kind = OUTCOME_DEAD;
		outcome.error_class = ERROR_CLASS_RETRIES;
	}
	else
	{
		outcome.kind = OUTCOME_WAITING;
		outcome.error_class = ERROR_CLASS_RETRY;
	}
	return outcome;
}

/* When a waiting message is tried next. */
TimestampTz
failure_next_try(const InboxOptions *options, const Message *message,
				 TimestampTz now)
{
	int	  attempts = message->try.attempts;
	int64 delay_ms;

	if (message->outcome.error_class == ERROR_CLASS_ORDER)
		delay_ms = Min(ORDER_LOOK_MS, order_wait_ms(options, message));
	else
	{
		Assert(message->outcome.error_class == ERROR_CLASS_RETRY);
		Assert(attempts > 0 && attempts <= options->retry_count);
		delay_ms = options->retry_delays_ms[attempts - 1];
	}
	return now + delay_ms * 1000;
}
