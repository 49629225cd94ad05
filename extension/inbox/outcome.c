/*-------------------------------------------------------------------------
 *
 * inbox/outcome.c
 *	  What becomes of a message; protocol/outcome.h has the words for it.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

const char *
outcome_text(OutcomeKind kind)
{
	Assert(kind > OUTCOME_NONE && kind < OUTCOME_KINDS);
	return outcome_kind_texts[kind];
}

const char *
error_class_text(ErrorClass error_class)
{
	Assert(error_class < ERROR_CLASSES);
	return error_class_texts[error_class];
}

const char *
outcome_reason_text(OutcomeReason reason)
{
	Assert(reason > REASON_NONE && reason < OUTCOME_REASONS);
	return outcome_reason_texts[reason];
}

/*
 * The class that a row of failed_event holds.  One that this version does not
 * know is none: an error here would stop the retries of all messages.
 */
ErrorClass
error_class_from_text(const char *name)
{
	for (int i = 0; i < ERROR_CLASSES; i++)
	{
		if (strcmp(error_class_texts[i], name) == 0)
			return (ErrorClass) i;
	}
	return ERROR_CLASS_NONE;
}

Outcome
outcome_applied(void)
{
	return (Outcome){.kind = OUTCOME_APPLIED};
}

Outcome
outcome_skipped(OutcomeReason reason)
{
	return (Outcome){.kind = OUTCOME_SKIPPED,
					 .reason = outcome_reason_text(reason)};
}

/* The relay's log is to name the message, for this reason. */
void
outcome_note(Outcome *outcome, OutcomeReason reason)
{
	outcome->reason = outcome_reason_text(reason);
	outcome->notable = true;
}

/* It arrived before its order: this waiting does not count as a try. */
Outcome
outcome_waiting_for_order(void)
{
	return (Outcome){.kind = OUTCOME_WAITING,
					 .reason = outcome_reason_text(REASON_UNKNOWN_ORDER),
					 .error_class = ERROR_CLASS_ORDER};
}

Outcome
outcome_dead(ErrorClass error_class, const char *reason)
{
	Assert(error_class != ERROR_CLASS_NONE && reason != NULL);
	return (Outcome){.kind = OUTCOME_DEAD,
					 .reason = reason,
					 .error_class = error_class};
}
