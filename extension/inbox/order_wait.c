/*-------------------------------------------------------------------------
 *
 * inbox/order_wait.c
 *	  Messages that have arrived before their order.
 *
 * Such a message looks for its order again until the wait of its binding, or
 * the relay's, is over.  The wait is no try, and counts as none.
 *
 * A registered handler may call a built-in one, such as
 * handle_payment_success(), which then raises SK004.  A message whose handler
 * fails with that very error waits as well.  SK004 from anything else is an
 * error of the handler's own.
 *
 * SPDX-License-Identifier: PostgreSQL
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "inbox/inbox.h"

/* The built-in handler that has raised the error last, or NULL. */
static const BuiltinHandler *order_wait_handler;

/*
 * Raises the error of a built-in handler that finds no order.  What marks it is
 * this function's name, which no other SK004 has.
 */
void
order_wait_raise(const BuiltinHandler *handler, const char *order_id)
{
	Assert(handler != NULL && !handler->opens_order);
	order_wait_handler = handler;
	ereport(ERROR, (errcode(ERRCODE_SK_UNKNOWN_ORDER),
					errmsg("there is no order \"%s\"", order_id),
					errhint("Its order-created may not have arrived yet.")));
}

/* Whether an error is that one. */
bool
order_wait_was_raised(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_SK_UNKNOWN_ORDER &&
		   order_wait_handler != NULL && error->funcname != NULL &&
		   strcmp(error->funcname, "order_wait_raise") == 0;
}

/* How long a message waits for its order. */
int64
order_wait_ms(const InboxOptions *options, const Message *message)
{
	const Binding *binding = message->try.binding;

	return binding != NULL && binding->order_wait_ms >= 0
			   ? binding->order_wait_ms
			   : options->order_wait_ms;
}

/* The outcome of a message whose order has not arrived in time. */
Outcome
order_wait_give_up(const Message *message)
{
	const BuiltinHandler *handler = message->try.builtin ? message->try.builtin
														 : order_wait_handler;

	Assert(message->outcome.error_class == ERROR_CLASS_ORDER);
	Assert(handler != NULL);
	if (!handler->is_payment)
		return outcome_skipped(REASON_UNKNOWN_ORDER);
	return outcome_dead(ERROR_CLASS_ORDER,
						outcome_reason_text(REASON_ORDER_ABSENT));
}
