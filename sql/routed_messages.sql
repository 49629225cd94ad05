/* ---- Messages about orders whose stock is in other databases ------------- */

/*
 * For the handlers of pgstock_front: see front/incoming.sql.  payload and
 * message are the arguments of a registered handler, handler is the name of
 * the built-in one whose messages they are.
 */
CREATE FUNCTION pgstock_internal.read_message(payload jsonb, message jsonb,
	handler text, OUT order_id text, OUT user_id text, OUT payment_id text,
	OUT reason text, OUT trace_id text, OUT items jsonb, OUT refused text,
	OUT idle boolean)
AS 'MODULE_PATHNAME', 'pgstock_read_message' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.read_message IS
	'reads a message as a built-in handler does, and locks its order; refused: '
	'why the order was refused; idle: the message changes nothing; 22023 for '
	'an invalid payload';

CREATE FUNCTION pgstock_internal.answer_message(payload jsonb, message jsonb,
	handler text, event_type text, reason text, replayed boolean, user_id text,
	lines anyarray)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_answer_message' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.answer_message IS
	'writes the stock event that answers a message, with the given lines '
	'(stock_result); remembers a refusal that is not replayed, and writes a '
	'payment that has a reason once';

CREATE FUNCTION pgstock_internal.apply_message(payload jsonb, message jsonb,
	handler text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_apply_message' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION pgstock_internal.apply_message IS
	'applies a message by a built-in handler, as handle_order_created() and '
	'the others do; SK004 for an unknown order';
