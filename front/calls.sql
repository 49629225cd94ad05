/* ---- The calls ----------------------------------------------------------- */

/*
 * The only list of the functions that the front provides: functions.sql creates
 * them from it, access.sql grants rights by it.  A test compares it with
 * pgstock's catalog.  Its part that reserves and settles orders is a function
 * of its own.
 *
 * name, arguments, result: as pgstock has them.
 * shards: an expression over the arguments: the shards that are called.
 * writes: the call is rejected inside a transaction block.
 * levels: the access levels that may call it, besides admin; as in pgstock.
 * rows: if several shards answer, which rows r of an answer a are returned, and
 * in which order.
 */
CREATE FUNCTION pgstock_front.order_call_list()
RETURNS TABLE (name text, arguments text, result text, shards text,
	writes boolean, levels text[], rows text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $list$
VALUES
	('reserve_stock', $$product_id text, quantity bigint, order_id text,
		user_id text DEFAULT NULL, location text DEFAULT 'main',
		ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
		idempotency_key text DEFAULT NULL$$, 'stock_result',
		'shards_of_line($1, $5)', true, '{app}'::text[], NULL),
	('try_reserve_stock', $$product_id text, quantity bigint, order_id text,
		user_id text DEFAULT NULL, location text DEFAULT 'main',
		ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
		idempotency_key text DEFAULT NULL$$, 'stock_result',
		'shards_of_line($1, $5)', true, '{app}', NULL),
	('reserve_order', $$order_id text, items jsonb, user_id text DEFAULT NULL,
		ttl interval DEFAULT NULL, strategy text DEFAULT 'auto',
		idempotency_key text DEFAULT NULL$$, 'SETOF stock_result',
		'shards_of_items($2)', true, '{app}', NULL),
	('try_reserve_order', $$order_id text, items jsonb,
		user_id text DEFAULT NULL, ttl interval DEFAULT NULL,
		strategy text DEFAULT 'auto', idempotency_key text DEFAULT NULL$$,
		'SETOF stock_result', 'shards_of_items($2)', true, '{app}', NULL),
	('extend_reservation', $$order_id text, ttl interval,
		idempotency_key text DEFAULT NULL$$, 'SETOF stock_result',
		'shards_of_order($1)', true, '{app}', NULL),
	('confirm_stock', $$order_id text, payment_id text DEFAULT NULL,
		idempotency_key text DEFAULT NULL$$, 'SETOF stock_result',
		'shards_of_order($1)', true, '{app}', NULL),
	('release_stock', $$order_id text, reason text DEFAULT NULL,
		items jsonb DEFAULT NULL, idempotency_key text DEFAULT NULL$$,
		'SETOF stock_result', 'shards_of_order($1)', true, '{app}', NULL),
	('rollback_stock', $$order_id text, reason text DEFAULT NULL,
		items jsonb DEFAULT NULL, idempotency_key text DEFAULT NULL$$,
		'SETOF stock_result', 'shards_of_order($1)', true, '{app}', NULL),
	('return_stock', $$order_id text, items jsonb DEFAULT NULL,
		restock boolean DEFAULT true, idempotency_key text DEFAULT NULL$$,
		'SETOF stock_result', 'shards_of_order($1)', true, '{app}', NULL)
$list$;
COMMENT ON FUNCTION pgstock_front.order_call_list IS
	'returns the functions of call_list() that reserve or settle an order';

CREATE FUNCTION pgstock_front.call_list()
RETURNS TABLE (name text, arguments text, result text, shards text,
	writes boolean, levels text[], rows text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $list$
SELECT * FROM pgstock_front.order_call_list()
UNION ALL
VALUES
	('receive_stock', $$product_id text, quantity bigint,
		location text DEFAULT 'main', reference text DEFAULT NULL$$, 'bigint',
		'shards_of_line($1, $3)', true, '{}'::text[], NULL),
	('adjust_stock', $$product_id text, delta bigint, reason text,
		location text DEFAULT 'main'$$, 'bigint', 'shards_of_line($1, $4)',
		true, '{}', NULL),
	('set_stock', $$product_id text, on_hand bigint,
		expected_version bigint DEFAULT NULL, location text DEFAULT 'main'$$,
		'bigint', 'shards_of_line($1, $4)', true, '{}',
		NULL),
	('move_stock', $$product_id text, quantity bigint, from_location text,
		to_location text$$, 'void', 'shards_of_move($1, $3, $4)', true, '{}',
		NULL),
	('configure_product', $$product_id text, safety bigint DEFAULT NULL,
		backorder_limit bigint DEFAULT NULL, slots int DEFAULT NULL$$, 'void',
		'shards_of_product($1)', true, '{}', NULL),
	('expire_reservations', $$max_rows int DEFAULT 1000$$, 'integer',
		'all_shards()', true, '{}', NULL),
	('publish_event', $$topic text, key text, payload jsonb,
		event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
		event_id uuid DEFAULT NULL$$, 'uuid', 'shards_of_key($2)', true,
		'{app}', NULL),
	('publish_bytes', $$topic text, key text, payload bytea,
		event_type text DEFAULT NULL, headers jsonb DEFAULT '{}',
		event_id uuid DEFAULT NULL$$, 'uuid', 'shards_of_key($2)', true,
		'{app}', NULL),
	('set_event_topic', 'event_type text, topic text', 'void', 'all_shards()',
		true, '{}', NULL),
	('register_handler', $$topic text, handler text,
		event_type text DEFAULT NULL$$, 'void', 'all_shards()', true, '{}',
		NULL),
	('bind_topic', $$topic text, handler text, event_type text DEFAULT NULL,
		fields jsonb DEFAULT NULL, options jsonb DEFAULT NULL$$, 'void',
		'all_shards()', true, '{}', NULL),
	('unbind_topic', 'topic text, event_type text DEFAULT NULL', 'void',
		'all_shards()', true, '{}', NULL),
	('verify_stock', 'product_id text DEFAULT NULL', 'SETOF stock_difference',
		'all_shards()', false, '{reader}',
		'ORDER BY r.product_id, r.location, r.what'),
	('repair_stock', 'product_id text, reason text', 'SETOF stock_difference',
		'all_shards()', true, '{}', NULL),
	('purge_history', 'before timestamptz', 'bigint', 'all_shards()', true,
		'{}', NULL),
	('check_availability', 'items jsonb', 'SETOF availability',
		'shards_of_items($1)', false, '{reader,app}', $$WHERE a.shard = ANY (
			pgstock_front.shards_of_line(r.product_id, r.location))
	 ORDER BY r.product_id COLLATE "C", r.location COLLATE "C"$$),
	('event_status', 'event_id uuid', 'event_receipt', 'shards_of_event($1)',
		false, '{reader,app}', NULL),
	('wait_for_event', $$event_id uuid, timeout interval DEFAULT '5s'$$,
		'boolean', 'shards_of_event($1)', false, '{app}', NULL),
	('order_history', 'order_id text', 'SETOF history_row',
		'shards_of_order($1)', false, '{reader}', 'ORDER BY r.at'),
	('resend_events', 'order_id text, reason text', 'integer',
		'shards_of_order($1)', true, '{}', NULL)
$list$;
COMMENT ON FUNCTION pgstock_front.call_list IS
	'returns the functions of the front, the shards that each calls, and the '
	'levels that may call it';
