--
-- inbox_order: order-created: all lines or none, and every message is answered
--
SELECT receive_stock('ino-a', 10), receive_stock('ino-b', 2), receive_stock('17', 5);
-- granted: an event with its cause, its trace, and the unknown members
SELECT * FROM apply('[{"topic": "order-created", "key": "ino-1", "headers":
	{"ce_id": "cause-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	"json": {"order_id": "ino-1", "user_id": "ann", "event_id": "not used", "event_type": "OrderCreated",
		"event_version": 1, "timestamp": "2026-01-01T00:00:00Z", "channel": "web", "amount": 19.9,
		"tags": [1.10, 7, null, "\u00e9"],
		"items": [{"product_id": "ino-b", "quantity": 1}, {"product_id": "ino-a", "quantity": 1},
				  {"product_id": "ino-a", "quantity": 2, "location": "main"}]}}]');
SELECT jsonb_pretty(payload - '{event_id,timestamp,expires_at}'::text[]), payload ? 'expires_at' AS expires
  FROM stock_outbox WHERE key = 'ino-1';
SELECT o.traceparent FROM pgstock_internal.outbox o JOIN stock_outbox s USING (seq) WHERE s.key = 'ino-1';
SELECT event_id, key, order_id, result, reason, trace_id FROM stock_inbox WHERE order_id = 'ino-1';
-- refused: the line, the requested and the available quantity; nothing is taken
SELECT apply_one('order-created', '{"order_id": "ino-2", "userId": "bob", "items":
	[{"product_id": "ino-a", "quantity": 1}, {"product_id": "ino-b", "quantity": 2}]}');
SELECT apply_one('order-created', '{"order_id": "ino-3", "items":
	[{"product_id": "ino-x", "quantity": 1}, {"product_id": "ino-b", "quantity": 2}]}');
SELECT topic, jsonb_pretty(payload - '{event_id,timestamp,causation_id}'::text[])
  FROM stock_outbox WHERE key IN ('ino-2', 'ino-3') ORDER BY seq;
SELECT level_of('ino-a'), level_of('ino-b'), lines_of('ino-1'), lines_of('ino-2');
-- all accepted forms
SELECT o, apply_one('order-created', o) FROM unnest(ARRAY[
	'{"orderId": "ino-4", "eventId": "e4", "userId": 7, "productQuantityMap": {"ino-a": 1, "17": 1}}',
	'{"order_id": 1005, "items": [{"productId": 17, "quantity": 1}], "reason": "x", "status": "new"}',
	'{"order_id": "ino-6", "orderId": "ino-6", "timestamp": 1700000000000, "items": [{"product_id": "17", "quantity": 1, "location": null}], "productQuantityMap": null}']::jsonb[]) o;
SELECT lines_of('ino-4'), lines_of('1005'), lines_of('ino-6'), level_of('17');
SELECT DISTINCT user_id FROM stock_reservations WHERE order_id = 'ino-4';
SELECT payload ? 'attributes' AS attributes FROM stock_outbox WHERE key IN ('ino-4', '1005', 'ino-6');
-- a known order is answered again, with its last result; nothing changes
CREATE FUNCTION again(order_id text) RETURNS text LANGUAGE sql AS $$
SELECT apply_one('order-created', jsonb_build_object('order_id', order_id, 'items',
	'[{"product_id": "ino-a", "quantity": 9}]'::jsonb));
$$;
CREATE VIEW last_answer AS
SELECT o.key, o.topic, o.event_type, o.payload->>'reason' AS reason, o.payload->>'replayed' AS replayed,
	   o.payload->>'payment_id' AS payment_id, o.payload->>'user_id' AS user_id, o.payload ? 'expires_at' AS expires,
	   (SELECT string_agg(format('%s %s', i->>'product_id', i->>'quantity'), ', ') FROM jsonb_array_elements(o.payload->'items') i) AS items
  FROM stock_outbox o WHERE o.seq = (SELECT max(l.seq) FROM stock_outbox l WHERE l.key = o.key);
SELECT again('ino-1'), again('ino-2'), again('ino-3');
SELECT status FROM reserve_stock('ino-a', 1, 'ino-c', 'carl');
SELECT status FROM confirm_stock('ino-c', 'payment-c');
SELECT status FROM reserve_stock('ino-a', 1, 'ino-l');
SELECT status FROM release_stock('ino-l', 'cancelled by phone');
SELECT status FROM reserve_stock('ino-a', 1, 'ino-r');
SELECT status FROM rollback_stock('ino-r');
SELECT status FROM reserve_stock('ino-a', 1, 'ino-d');
SELECT make_due('ino-d');
SELECT again('ino-c'), again('ino-l'), again('ino-r'), again('ino-d');
SELECT * FROM last_answer WHERE key ~ '^ino-([1-3]|[clrd])$' ORDER BY key;
SELECT level_of('ino-a'), lines_of('ino-1'), lines_of('ino-c');
-- new stock does not change the answer to a refused order
SELECT receive_stock('ino-b', 100);
SELECT again('ino-2');
SELECT topic, event_type, reason, replayed FROM last_answer WHERE key = 'ino-2';
-- but the application may reserve it, and then that is its last result
SELECT status FROM reserve_stock('ino-b', 1, 'ino-2');
SELECT again('ino-2');
SELECT topic, event_type, reason, replayed FROM last_answer WHERE key = 'ino-2';
-- due lines of other orders are no reason to refuse
SELECT receive_stock('ino-e', 1);
SELECT status FROM reserve_stock('ino-e', 1, 'ino-e1');
SELECT make_due('ino-e1');
SELECT apply_one('order-created', '{"order_id": "ino-e2", "items": [{"product_id": "ino-e", "quantity": 1}]}');
SELECT lines_of('ino-e1'), lines_of('ino-e2');
-- the setting gives its expiry
SET pgstock.reservation_ttl = 0;
SELECT apply_one('order-created', '{"order_id": "ino-7", "items": [{"product_id": "ino-a", "quantity": 1}]}');
RESET pgstock.reservation_ttl;
SELECT expires_at FROM stock_reservations WHERE order_id = 'ino-7';
-- by hand, or from a user's function: no cause but the message's
SELECT handle_order_created('{"order_id": "ino-8", "items": [{"product_id": "ino-a", "quantity": 1}]}', NULL);
SELECT handle_order_created('{"order_id": "ino-9", "items": [{"product_id": "ino-a", "quantity": 1}]}',
	'{"topic": "orders", "partition": 3, "offset": 4, "key": "k", "event_id": "cause-9", "event_type": "t", "headers": {}}');
SELECT key, payload->>'causation_id' AS cause FROM stock_outbox WHERE key IN ('ino-8', 'ino-9');
SELECT outcome_of($$SELECT handle_order_created('{"order_id": "ino-9"}', NULL)$$);
SELECT outcome_of($$SELECT handle_order_created(NULL, NULL)$$);
DROP VIEW last_answer;
DROP FUNCTION again;
SELECT * FROM verify_stock();
