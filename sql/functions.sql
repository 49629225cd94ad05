/* ---- Public functions ---------------------------------------------------- */

/*
 * A function with the owner's rights must not call another function in the
 * extension's schema: the owner of that schema could rename it and put other
 * functions under its name.  Code shared by two functions is in
 * pgstock_internal, where only the owner of pgstock can create objects.
 */

CREATE TYPE @extschema@.stock_result AS
(
	order_id	text,
	product_id	text,
	location	text,
	requested	bigint,
	granted		bigint,
	status		text,
	available	bigint,
	expires_at	timestamptz,
	version		bigint,
	replayed	boolean
);
COMMENT ON TYPE @extschema@.stock_result IS
	'result of one line of an order: granted is equal to requested, or 0; '
	'status gives the reason';

CREATE FUNCTION @extschema@.receive_stock(product_id text, quantity bigint,
	location text DEFAULT 'main', reference text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_receive_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.receive_stock IS
	'adds 1 to 2^53 pieces to stock on hand (0 only to create a level), '
	'creating product and level if needed; returns the new on_hand';

CREATE FUNCTION @extschema@.adjust_stock(product_id text, delta bigint,
	reason text, location text DEFAULT 'main')
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_adjust_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.adjust_stock IS
	'changes stock on hand by a difference other than 0, for a reason that is '
	'required; returns the new on_hand; SK002 for an unknown product, SK001 '
	'if less than the reserved stock would remain';

CREATE FUNCTION @extschema@.set_stock(product_id text, on_hand bigint,
	expected_version bigint DEFAULT NULL, location text DEFAULT 'main')
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_set_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.set_stock IS
	'sets stock on hand to 0 to 2^53 pieces and returns it; SK011 if the '
	'level''s version is not expected_version (0: no level exists, NULL: '
	'any), SK001 if less than the reserved stock would remain';

CREATE FUNCTION @extschema@.move_stock(product_id text, quantity bigint,
	from_location text, to_location text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_move_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.move_stock IS
	'moves pieces from one location to another, creating the target level if '
	'needed; SK002 for an unknown product, SK001 for insufficient stock';

CREATE FUNCTION @extschema@.reserve_stock(product_id text, quantity bigint,
	order_id text, user_id text DEFAULT NULL, location text DEFAULT 'main',
	ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
	idempotency_key text DEFAULT NULL)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_stock IS
	'reserves one line for an order until ttl has passed; SK001 for '
	'insufficient stock, SK002 for an unknown product, SK007 if order or key '
	'are in use for another request';

CREATE FUNCTION @extschema@.try_reserve_stock(product_id text, quantity bigint,
	order_id text, user_id text DEFAULT NULL, location text DEFAULT 'main',
	ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
	idempotency_key text DEFAULT NULL)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_try_reserve_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.try_reserve_stock IS
	'reserves one line for an order like reserve_stock, but returns a status '
	'instead of raising SK001 or SK002';

CREATE FUNCTION @extschema@.reserve_order(order_id text, items jsonb,
	user_id text DEFAULT NULL, ttl interval DEFAULT NULL,
	strategy text DEFAULT 'auto', idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_order' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_order IS
	'reserves all lines of an order or none, until ttl has passed; SK001 for '
	'insufficient stock, SK002 for an unknown product, SK007 if order or key '
	'are in use for another request';

CREATE FUNCTION @extschema@.try_reserve_order(order_id text, items jsonb,
	user_id text DEFAULT NULL, ttl interval DEFAULT NULL,
	strategy text DEFAULT 'auto', idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_try_reserve_order' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.try_reserve_order IS
	'reserves all lines of an order or none like reserve_order, but returns a '
	'status for each line instead of raising SK001 or SK002';

/* A named type: the columns of OUT parameters are put together at each call. */
CREATE TYPE @extschema@.availability AS
(
	product_id	text,
	location	text,
	requested	bigint,
	available	bigint,
	fits		boolean
);
COMMENT ON TYPE @extschema@.availability IS
	'whether a line could be reserved: result of check_availability';

CREATE FUNCTION @extschema@.check_availability(items jsonb)
RETURNS SETOF @extschema@.availability
AS 'MODULE_PATHNAME', 'pgstock_check_availability' LANGUAGE C STABLE ROWS 10;
COMMENT ON FUNCTION @extschema@.check_availability IS
	'returns for each line whether reserve_order would reserve it now; locks '
	'and writes nothing, also on a hot standby; an unknown product has 0 '
	'available';

CREATE FUNCTION @extschema@.confirm_stock(order_id text,
	payment_id text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_confirm_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.confirm_stock IS
	'sells the reserved lines of a paid order; returns status shortfall if '
	'expired stock is no longer available; SK004 for an unknown order, SK005 '
	'for an order in another state';

CREATE FUNCTION @extschema@.release_stock(order_id text,
	reason text DEFAULT NULL, items jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_release_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.release_stock IS
	'releases the reserved lines of an order, or the given items, before '
	'payment; SK005 for a confirmed order';

CREATE FUNCTION @extschema@.rollback_stock(order_id text,
	reason text DEFAULT NULL, items jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_rollback_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.rollback_stock IS
	'returns the reserved or confirmed lines of a failed order, or the given '
	'items, to stock';

CREATE FUNCTION @extschema@.return_stock(order_id text,
	items jsonb DEFAULT NULL, restock boolean DEFAULT true,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_return_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.return_stock IS
	'records returned goods of a confirmed order, or the given items, and '
	'adds them to stock on hand if restock is true; SK004 for an unknown '
	'order, SK005 for an order that is not confirmed';

CREATE FUNCTION @extschema@.extend_reservation(order_id text, ttl interval,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_extend_reservation' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.extend_reservation IS
	'sets the expiry time of a reservation to the current time plus ttl; '
	'SK004 for an unknown order, SK006 if the reservation has expired, SK005 '
	'in any other state';

CREATE FUNCTION @extschema@.expire_reservations(max_rows int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_reservations' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.expire_reservations IS
	'expires at most max_rows due lines and returns their number; waits for '
	'locked levels';

CREATE FUNCTION @extschema@.reserve_orders(
	orders jsonb, ttl interval DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_orders' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_orders IS
	'reserves up to pgstock.max_lines orders, each completely or not at all; '
	'returns a status for each line and raises no error for a refusal';

CREATE FUNCTION @extschema@.open_flash_sale(activity_id text,
	product_id text, quantity bigint, per_user_limit bigint DEFAULT 1,
	starts_at timestamptz DEFAULT now(), ends_at timestamptz DEFAULT NULL,
	location text DEFAULT 'main')
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_open_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.open_flash_sale IS
	'opens a flash sale: sets a quota of 1 to 2^53 pieces apart, for sale '
	'between starts_at and ends_at with a limit for each user; the rest is '
	'ordinary stock again after ends_at; SK001 for insufficient stock, 22023 '
	'if activity_id was used before';

CREATE FUNCTION @extschema@.purchase_flash_sale(activity_id text, user_id text,
	order_id text, quantity bigint DEFAULT 1, attributes jsonb DEFAULT NULL)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_purchase_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.purchase_flash_sale IS
	'reserves pieces from the quota of a flash sale; returns status not_open, '
	'over_limit or insufficient for a refusal; attributes, a JSON object, are '
	'published with the event';

CREATE FUNCTION @extschema@.close_flash_sale(activity_id text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_close_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.close_flash_sale IS
	'closes a flash sale and returns the number of pieces left in its quota, '
	'which become ordinary stock, also if it has ended by itself; SK008 if '
	'the sale was never opened, or closed before';

CREATE FUNCTION @extschema@.configure_product(product_id text,
	safety bigint DEFAULT NULL, backorder_limit bigint DEFAULT NULL,
	slots int DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_configure_product' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.configure_product IS
	'sets safety stock, back-order limit (both 0 to 2^53 pieces) and number '
	'of slots (1 to 64) of a product at all locations; NULL keeps a setting, '
	'-1 removes it; SK001 if the limit is below the quantity already '
	'back-ordered';

CREATE FUNCTION @extschema@.set_event_topic(event_type text, topic text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_set_event_topic' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.set_event_topic IS
	'sets the topic of an event type, or of all stock events for event_type '
	'''*''; NULL: events of the type are not written';

/*
 * The function does nothing: EXECUTE on it is the privilege (see
 * extension/outbox/reserved_topic.c).
 */
CREATE FUNCTION pgstock_internal.publish_to_any_topic()
RETURNS void
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS '';
COMMENT ON FUNCTION pgstock_internal.publish_to_any_topic IS
	'does nothing; roles with EXECUTE on it may publish to topics of stock '
	'events and of the inbox';

CREATE FUNCTION @extschema@.publish_event(topic text, key text, payload jsonb,
	event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
	event_id uuid DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'pgstock_publish_event' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_event IS
	'writes an event with a JSON payload, which is published if the '
	'transaction commits; returns event_id; 54000 if it exceeds '
	'pgstock.max_event_bytes, 42501 if the topic is reserved';

CREATE FUNCTION @extschema@.publish_bytes(topic text, key text, payload bytea,
	event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
	event_id uuid DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'pgstock_publish_bytes' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_bytes IS
	'writes an event like publish_event, with a payload that need not be JSON';

CREATE FUNCTION @extschema@.publish_outbox_row()
RETURNS trigger
AS 'MODULE_PATHNAME', 'pgstock_publish_outbox_row' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_outbox_row IS
	'trigger for AFTER INSERT FOR EACH ROW on a Debezium-style outbox table: '
	'publishes the inserted event';

CREATE FUNCTION @extschema@.register_handler(topic text, handler text,
	event_type text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_register_handler' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.register_handler IS
	'registers a function f(payload jsonb, message jsonb) as handler of a '
	'topic, or of one event type in it, to run as the current role; NULL as '
	'handler removes it; 42883, 42P13 or 42501 if it cannot be called';

CREATE FUNCTION @extschema@.bind_topic(topic text, handler text,
	event_type text DEFAULT NULL, fields jsonb DEFAULT NULL,
	options jsonb DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_bind_topic' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.bind_topic IS
	'binds an incoming topic, or one event type in it, to a built-in handler '
	'or to a function like register_handler; fields: JSON paths by field; '
	'options: attributes, order_wait, source; 22023 or 42883 if it is not '
	'valid';

CREATE FUNCTION @extschema@.unbind_topic(topic text,
	event_type text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_unbind_topic' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.unbind_topic IS
	'removes a binding of bind_topic or register_handler; a default topic gets '
	'its own built-in handler again';

CREATE FUNCTION @extschema@.handle_order_created(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_created' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_created IS
	'applies an order-created message: reserves all lines of the order or '
	'none; 22023 for an invalid payload';

CREATE FUNCTION @extschema@.handle_payment_success(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_payment_success' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_payment_success IS
	'applies a payment-success message: confirms the order; 22023 for an '
	'invalid payload, SK004 for an unknown order';

CREATE FUNCTION @extschema@.handle_payment_failed(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_payment_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_payment_failed IS
	'applies a payment-failed message: releases the order; 22023 for an '
	'invalid payload, SK004 for an unknown order';

CREATE FUNCTION @extschema@.handle_order_cancelled(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_cancelled' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_cancelled IS
	'applies an order-cancelled message: releases the order, or rolls it back '
	'if it is paid; 22023 for an invalid payload, SK004 for an unknown order';

CREATE FUNCTION @extschema@.handle_order_failed(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_failed IS
	'applies an order_failed message: rolls the order back; 22023 for an '
	'invalid payload, SK004 for an unknown order';
