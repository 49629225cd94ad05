/*-------------------------------------------------------------------------
 *
 * inbox/outcome.c
 *	  What becomes of a message: the kinds, the classes of errors, their text.
 *
 * The texts are values of the tables inbox and failed_event, of the relay's
 * metrics and of dead letters' headers.  C code compares the enums.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

static const char *const kind_texts[] = {
	[OUTCOME_APPLIED] = "applied",	   [OUTCOME_SKIPPED] = "skipped",
	[OUTCOME_DUPLICATE] = "duplicate", [OUTCOME_WAITING] = "waiting",
	[OUTCOME_DEAD] = "dead",		   [OUTCOME_STARTED] = "started",
};

static const char *const class_texts[] = {
	[ERROR_CLASS_NONE] = "none",		   [ERROR_CLASS_POISON] = "poison",
	[ERROR_CLASS_PERMANENT] = "permanent", [ERROR_CLASS_RETRY] = "retry",
	[ERROR_CLASS_RETRIES] = "retries",	   [ERROR_CLASS_ORDER] = "order",
	[ERROR_CLASS_QUEUE] = "queue",		   [ERROR_CLASS_CRASH] = "crash",
};

StaticAssertDecl(lengthof(kind_texts) == OUTCOME_KINDS,
				 "each kind of outcome has its text");
StaticAssertDecl(lengthof(class_texts) == ERROR_CLASSES,
				 "each class of errors has its text");

const char *
outcome_text(OutcomeKind kind)
{
	Assert(kind > OUTCOME_NONE && kind < OUTCOME_KINDS);
	return kind_texts[kind];
}

const char *
error_class_text(ErrorClass error_class)
{
	Assert(error_class < ERROR_CLASSES);
	return class_texts[error_class];
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
		if (strcmp(class_texts[i], name) == 0)
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
outcome_skipped(const char *reason)
{
	Assert(reason != NULL);
	return (Outcome){.kind = OUTCOME_SKIPPED, .reason = reason};
}

/* It arrived before its order: this waiting does not count as a try. */
Outcome
outcome_waiting_for_order(void)
{
	return (Outcome){.kind = OUTCOME_WAITING,
					 .reason = "unknown_order",
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
