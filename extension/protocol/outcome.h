/*-------------------------------------------------------------------------
 *
 * protocol/outcome.h
 *	  Results of messages: the kinds, the classes of errors, the reasons, and
 *	  their texts.
 *
 * The texts are values of the tables inbox and failed_event, of the results of
 * relay_apply(), of the relay's metrics and of dead letters' headers.  The
 * extension writes them and the relay reads them; both compare the enums.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#ifndef PROTOCOL_OUTCOME_H
#define PROTOCOL_OUTCOME_H

/* The result of a message. */
typedef enum OutcomeKind
{
	OUTCOME_NONE, /* not decided; to the relay, one of a later version */
	OUTCOME_APPLIED,
	OUTCOME_SKIPPED,
	OUTCOME_DUPLICATE,
	OUTCOME_WAITING,
	OUTCOME_DEAD,
	OUTCOME_STARTED, /* its try is on record, and has not begun */
	OUTCOME_KINDS
} OutcomeKind;

static const char *const outcome_kind_texts[OUTCOME_KINDS] = {
	[OUTCOME_NONE] = "",		   [OUTCOME_APPLIED] = "applied",
	[OUTCOME_SKIPPED] = "skipped", [OUTCOME_DUPLICATE] = "duplicate",
	[OUTCOME_WAITING] = "waiting", [OUTCOME_DEAD] = "dead",
	[OUTCOME_STARTED] = "started",
};

/* Why a message waits or is dead. */
typedef enum ErrorClass
{
	ERROR_CLASS_NONE,
	ERROR_CLASS_POISON,	   /* parsing found that it can never be applied */
	ERROR_CLASS_PERMANENT, /* its data raised an error, and would again */
	ERROR_CLASS_RETRY,	   /* any other error: there are tries left */
	ERROR_CLASS_RETRIES,   /* ... and there are none left */
	ERROR_CLASS_ORDER,	   /* its order has not arrived */
	ERROR_CLASS_QUEUE,	   /* an earlier message of its key waits */
	ERROR_CLASS_CRASH,	   /* its tries ended with the process */
	ERROR_CLASSES
} ErrorClass;

static const char *const error_class_texts[ERROR_CLASSES] = {
	[ERROR_CLASS_NONE] = "none",		   [ERROR_CLASS_POISON] = "poison",
	[ERROR_CLASS_PERMANENT] = "permanent", [ERROR_CLASS_RETRY] = "retry",
	[ERROR_CLASS_RETRIES] = "retries",	   [ERROR_CLASS_ORDER] = "order",
	[ERROR_CLASS_QUEUE] = "queue",		   [ERROR_CLASS_CRASH] = "crash",
};

/*
 * The reason of a result, where it is not the text of an error:
 * docs/events.md, "Results".
 */
typedef enum OutcomeReason
{
	REASON_NONE, /* to the relay, any other text */
	REASON_ALREADY,
	REASON_CONFIRMED,
	REASON_DIFFERS,
	REASON_ID_REUSED,
	REASON_IGNORED,
	REASON_ITEMS_DIFFER,
	REASON_KEY_WAITS, /* an earlier message of its key does */
	REASON_NO_HANDLER,
	REASON_NOT_PAID,
	REASON_ORDER_ABSENT, /* its order did not arrive */
	REASON_PAID_TWICE,
	REASON_REFUSED,
	REASON_ROW_DELETED,
	REASON_SHORTFALL,
	REASON_STALE,
	REASON_TIMESTAMP_WITHOUT_ZONE,
	REASON_UNKNOWN_ORDER,
	OUTCOME_REASONS
} OutcomeReason;

static const char *const outcome_reason_texts[OUTCOME_REASONS] = {
	[REASON_NONE] = "",
	[REASON_ALREADY] = "already",
	[REASON_CONFIRMED] = "confirmed",
	[REASON_DIFFERS] = "differs",
	[REASON_ID_REUSED] = "id_reused",
	[REASON_IGNORED] = "ignored",
	[REASON_ITEMS_DIFFER] = "items_differ",
	[REASON_KEY_WAITS] = "an earlier message of its key waits",
	[REASON_NO_HANDLER] = "no_handler",
	[REASON_NOT_PAID] = "not_paid",
	[REASON_ORDER_ABSENT] = "its order did not arrive in time",
	[REASON_PAID_TWICE] = "paid_twice",
	[REASON_REFUSED] = "refused",
	[REASON_ROW_DELETED] = "row_deleted",
	[REASON_SHORTFALL] = "shortfall",
	[REASON_STALE] = "stale",
	[REASON_TIMESTAMP_WITHOUT_ZONE] = "timestamp_without_zone",
	[REASON_UNKNOWN_ORDER] = "unknown_order",
};

#endif /* PROTOCOL_OUTCOME_H */
