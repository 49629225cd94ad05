--
-- inbox_value: how a value is read: missing values, values accepted with a
-- remark, and values that are no objects
--
SELECT receive_stock('inv', 100);
-- an empty id counts as missing where none is required
SELECT apply_one('order-created', '{"order_id": "inv-1", "event_id": "", "user_id": "", "trace_id": "", "items": [{"product_id": "inv", "quantity": 1, "location": ""}]}');
SELECT apply_one('payment-success', '{"orderId": "inv-1", "paymentId": "", "userId": ""}');
SELECT user_id, payment_id, location, state FROM stock_reservations WHERE order_id = 'inv-1';
SELECT event_id ~ '^order-created/0/\d+' AS by_place, trace_id FROM stock_inbox WHERE order_id = 'inv-1' AND topic = 'order-created';
SELECT apply_one('order-created', '{"order_id": "", "items": [{"product_id": "inv", "quantity": 1}]}'),
	   apply_one('order-created', '{"order_id": "inv-2", "items": [{"product_id": "", "quantity": 1}]}'),
	   apply_one('order-created', '{"order_id": "inv-2", "productQuantityMap": {"": 1}}');
-- an empty key counts as missing: no message queues behind it
SELECT * FROM apply('[
	{"topic": "payment-success", "key": "", "json": {"order_id": "inv-late"}},
	{"topic": "payment-success", "key": "", "json": {"order_id": "inv-1"}},
	{"topic": "payment-success", "key": "k", "json": {"order_id": "inv-late"}},
	{"topic": "payment-success", "key": "k", "json": {"order_id": "inv-1"}}]');
SELECT apply_one('payment-success', '{"order_id": "inv-1"}', '');
SELECT discard_failed_event(id, 'over') FROM stock_failed_events WHERE order_id ~ '^inv-' AND state = 'waiting';
-- a time without a zone is UTC, and the row has a remark
SELECT (reserve_stock('inv', 1, 'inv-t' || i)).status FROM generate_series(1, 3) i;
SELECT apply_one('order_failed', '{"order_id": "inv-t1", "timestamp": "2026-01-31T12:00:00"}'),
	   apply_one('order_failed', '{"order_id": "inv-t2", "timestamp": "2026-01-31 12:00:00.25"}'),
	   apply_one('order_failed', '{"order_id": "inv-t3", "timestamp": "2026-01-31T12:00:00Z"}');
SELECT apply_one('order_failed', jsonb_build_object('order_id', 'inv-t1', 'timestamp', t)) FROM unnest('{2026-01-31,2026-01-31T12:00,2026-02-30T12:00:00,now}'::text[]) t;
-- the type of a value that is no object; double encoding is a common mistake
SELECT v, (SELECT a.reason FROM apply(jsonb_build_array(jsonb_build_object('topic', 'order_failed', 'text', v))) a) AS reason
  FROM unnest(ARRAY['7', '7.5', '"x"', 'null', 'true', '[]', '"{\"order_id\": 1}"', '"[]"', '"7"', '{]']) v;
-- a zero byte is not JSON, wherever it stands
SELECT * FROM apply(jsonb_build_array(jsonb_build_object('topic', 'order_failed', 'hex',
	encode('{"order_id": 27'::bytea || '\x00' || '}'::bytea, 'hex'))));
-- a product that is added with no stock has a level;
-- later a quantity of 0 is a mistake
SELECT receive_stock('inv-out', 0), receive_stock('inv', 0, 'inv-shop');
SELECT level_of('inv-out'), level_of('inv', 'inv-shop'), events_of('inv-out');
SELECT outcome_of($$SELECT receive_stock('inv-out', 0)$$);
SELECT outcome_of($$SELECT reserve_stock('inv-out', 1, 'inv-3')$$);
SELECT receive_stock('inv-out', 2);
SELECT kind, on_hand_delta, reserved_delta FROM stock_movements WHERE product_id = 'inv-out' ORDER BY id;
-- a ttl for many orders
SELECT order_id, status, expires_at - now() BETWEEN '59 min' AND '61 min' AS an_hour FROM reserve_orders(
	'[{"order_id": "inv-4", "items": [{"product_id": "inv", "quantity": 1}]}, {"order_id": "inv-5", "items": [{"product_id": "inv", "quantity": 1}]}]', ttl => '1 hour');
SELECT order_id, expires_at FROM reserve_orders('[{"order_id": "inv-6", "items": [{"product_id": "inv", "quantity": 1}]}]', '0');
SELECT order_id, expires_at - now() BETWEEN '29 min' AND '31 min' AS half_an_hour FROM reserve_orders('[{"order_id": "inv-7", "items": [{"product_id": "inv", "quantity": 1}]}]', NULL);
SELECT outcome_of($$SELECT reserve_orders('[{"order_id": "inv-8", "items": [{"product_id": "inv", "quantity": 1}]}]', '-1 s')$$);
SELECT * FROM verify_stock('inv');
