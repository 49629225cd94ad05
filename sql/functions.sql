/* ---- What people call --------------------------------------------------- */

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
	'one line''s answer: it was taken exactly when granted = requested';

CREATE FUNCTION @extschema@.receive_stock(product_id text, quantity bigint,
	location text DEFAULT 'main', reference text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_receive_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.receive_stock IS
	'adds pieces to what is on hand, makes product and level if new; the new on_hand';

CREATE FUNCTION @extschema@.adjust_stock(product_id text, delta bigint,
	reason text, location text DEFAULT 'main')
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_adjust_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.adjust_stock IS
	'corrects what is on hand by a difference; the new on_hand';

CREATE FUNCTION @extschema@.set_stock(product_id text, on_hand bigint,
	expected_version bigint DEFAULT NULL, location text DEFAULT 'main')
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_set_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.set_stock IS
	'sets what is on hand, if the version is the expected one; SK011 if not';

CREATE FUNCTION @extschema@.move_stock(product_id text, quantity bigint,
	from_location text, to_location text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_move_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.move_stock IS
	'moves pieces between two locations, both sides or neither';

CREATE FUNCTION @extschema@.reserve_stock(product_id text, quantity bigint,
	order_id text, user_id text DEFAULT NULL, location text DEFAULT 'main',
	ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
	idempotency_key text DEFAULT NULL)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_stock IS
	'reserves one line for an order; raises SK001 if there is not enough';

CREATE FUNCTION @extschema@.try_reserve_stock(product_id text, quantity bigint,
	order_id text, user_id text DEFAULT NULL, location text DEFAULT 'main',
	ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
	idempotency_key text DEFAULT NULL)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_try_reserve_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.try_reserve_stock IS
	'as reserve_stock, but a refusal is a row whose status says why';

CREATE FUNCTION @extschema@.reserve_order(order_id text, items jsonb,
	user_id text DEFAULT NULL, ttl interval DEFAULT NULL,
	strategy text DEFAULT 'auto', idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_order' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_order IS
	'reserves all lines of an order or none; raises SK001 if one does not fit';

CREATE FUNCTION @extschema@.try_reserve_order(order_id text, items jsonb,
	user_id text DEFAULT NULL, ttl interval DEFAULT NULL,
	strategy text DEFAULT 'auto', idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_try_reserve_order' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.try_reserve_order IS
	'as reserve_order, but a refusal is rows whose status says why';

CREATE FUNCTION @extschema@.confirm_stock(order_id text,
	payment_id text DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_confirm_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.confirm_stock IS
	'the payment arrived: what is reserved is sold; SK004 for an unknown order';

CREATE FUNCTION @extschema@.release_stock(order_id text,
	reason text DEFAULT NULL, items jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_release_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.release_stock IS
	'cancelled before payment: gives back what is reserved, or only these items';

CREATE FUNCTION @extschema@.rollback_stock(order_id text,
	reason text DEFAULT NULL, items jsonb DEFAULT NULL,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_rollback_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.rollback_stock IS
	'the order failed: gives back what is reserved or confirmed';

CREATE FUNCTION @extschema@.return_stock(order_id text,
	items jsonb DEFAULT NULL, restock boolean DEFAULT true,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_return_stock' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.return_stock IS
	'goods of a confirmed order came back, whole or partly, to be sold again or not';

CREATE FUNCTION @extschema@.extend_reservation(order_id text, ttl interval,
	idempotency_key text DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_extend_reservation' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.extend_reservation IS
	'a reservation lasts that long from now; SK006 if it has expired';

CREATE FUNCTION @extschema@.expire_reservations(max_rows int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'pgstock_expire_reservations' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.expire_reservations IS
	'lets due reservations go; how many lines';

CREATE FUNCTION @extschema@.reserve_orders(
	orders jsonb, ttl interval DEFAULT NULL)
RETURNS SETOF @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_reserve_orders' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.reserve_orders IS
	'many orders at once, each all or none; a refusal touches no other order';

CREATE FUNCTION @extschema@.open_flash_sale(activity_id text,
	product_id text, quantity bigint, per_user_limit bigint DEFAULT 1,
	starts_at timestamptz DEFAULT now(), ends_at timestamptz DEFAULT NULL,
	location text DEFAULT 'main')
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_open_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.open_flash_sale IS
	'sets a quota of a product apart, to be bought in that time, so much by each user';

CREATE FUNCTION @extschema@.purchase_flash_sale(activity_id text, user_id text,
	order_id text, quantity bigint DEFAULT 1)
RETURNS @extschema@.stock_result
AS 'MODULE_PATHNAME', 'pgstock_purchase_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.purchase_flash_sale IS
	'reserves from a sale''s quota for an order; a refusal is a row whose status says why';

CREATE FUNCTION @extschema@.close_flash_sale(activity_id text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'pgstock_close_flash_sale' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.close_flash_sale IS
	'ends a sale: what is left, and what comes back later, is ordinary stock again';

CREATE FUNCTION @extschema@.configure_product(product_id text,
	safety bigint DEFAULT NULL, backorder_limit bigint DEFAULT NULL,
	slots int DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_configure_product' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.configure_product IS
	'safety stock and back-order limit at every location; NULL leaves, -1 takes away';

CREATE FUNCTION @extschema@.set_event_topic(event_type text, topic text)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_set_event_topic' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.set_event_topic IS
	'where an event type goes; NULL: it is not written; type "*": all stock events';

/* EXECUTE on it is a right of its own: extension/outbox/reserved_topic.c. */
CREATE FUNCTION pgstock_internal.publish_to_any_topic()
RETURNS void
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS '';
COMMENT ON FUNCTION pgstock_internal.publish_to_any_topic IS
	'who may execute it may publish to topics of stock events and of the inbox';

CREATE FUNCTION @extschema@.publish_event(topic text, key text, payload jsonb,
	event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
	event_id uuid DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'pgstock_publish_event' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_event IS
	'an event of the application''s own, published when this transaction commits';

CREATE FUNCTION @extschema@.publish_bytes(topic text, key text, payload bytea,
	event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
	event_id uuid DEFAULT NULL)
RETURNS uuid
AS 'MODULE_PATHNAME', 'pgstock_publish_bytes' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_bytes IS
	'as publish_event, for a value that is not JSON';

CREATE FUNCTION @extschema@.publish_outbox_row()
RETURNS trigger
AS 'MODULE_PATHNAME', 'pgstock_publish_outbox_row' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.publish_outbox_row IS
	'AFTER INSERT on a Debezium-style outbox table: the same event through ours';

CREATE FUNCTION @extschema@.register_handler(topic text, handler text,
	event_type text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_register_handler' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.register_handler IS
	'a function f(payload jsonb, message jsonb) for an incoming topic or a type in it; NULL removes';

CREATE FUNCTION @extschema@.handle_order_created(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_created' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_created IS
	'reserves an incoming order, all lines or none';

CREATE FUNCTION @extschema@.handle_payment_success(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_payment_success' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_payment_success IS
	'confirms a paid order';

CREATE FUNCTION @extschema@.handle_payment_failed(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_payment_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_payment_failed IS
	'releases an order whose payment failed';

CREATE FUNCTION @extschema@.handle_order_cancelled(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_cancelled' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_cancelled IS
	'releases a cancelled order, or rolls back what is already paid';

CREATE FUNCTION @extschema@.handle_order_failed(payload jsonb, message jsonb)
RETURNS void
AS 'MODULE_PATHNAME', 'pgstock_handle_order_failed' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.handle_order_failed IS
	'rolls back a failed order';

