-- messages about orders whose stock is in other databases: what the handlers
-- of pgstock_front use
SET pgstock.actor = 'routed';
CREATE FUNCTION answered(o text) RETURNS SETOF text LANGUAGE sql AS
	$$SELECT concat_ws(' ', topic, payload ->> 'event_type', payload ->> 'reason', payload ->> 'replayed', payload ->> 'user_id', payload ->> 'payment_id',
		payload ->> 'causation_id', payload -> 'attributes', payload -> 'items') FROM stock_outbox WHERE key = o ORDER BY seq$$;
-- read as the built-in handlers read it
SELECT * FROM pgstock_internal.read_message('{"orderId": 7, "userId": "u", "traceId": "t", "productQuantityMap": {"rou-b": 2, "rou-a": 1}}', '{}', 'order_created') \gx
SELECT order_id, payment_id, idle FROM unnest('{paid,open}'::text[]) status,
	LATERAL pgstock_internal.read_message(jsonb_build_object('order_id', 'rou-1', 'payment_id', 'p', 'status', status), '{}', 'payment_success');
SELECT order_id, items, reason, idle FROM pgstock_internal.read_message('{"order_id": "rou-1", "reason": "no", "items": [{"product_id": "x", "quantity": 1}]}', NULL,
	'order_cancelled');
SELECT order_id, idle FROM pgstock_internal.read_message('{"op": "d", "before": {"order_id": "rou-1"}, "after": null, "source": {}}', '{}', 'order_created');
SELECT pgstock_internal.read_message('{"order_id": "rou-1", "items": []}', '{}', 'order_created');
SELECT pgstock_internal.read_message('{}', '{}', 'ignore');
SELECT pgstock_internal.read_message(NULL, '{}', 'order_created');
-- a refusal is remembered; the built-in handlers here know it
SELECT pgstock_internal.answer_message('{"order_id": "rou-1", "channel": "app", "items": [{"product_id": "rou-a", "quantity": 3}]}', '{"event_id": "e-1"}', 'order_created',
	'StockReserveFailed', 'insufficient', false, 'u', ARRAY[('rou-1', 'rou-a', 'main', 3, 0, 'insufficient', 2, NULL, 5, false)::stock_result]);
SELECT refused FROM pgstock_internal.read_message('{"order_id": "rou-1"}', '{}', 'payment_success');
SELECT pgstock_internal.apply_message('{"order_id": "rou-1", "payment_id": "p-1"}', '{}', 'payment_success');
SELECT pgstock_internal.apply_message('{"order_id": "rou-2"}', '{}', 'payment_success');
SELECT answered('rou-1');
-- a payment that bought nothing is reported once, and is to be refunded
SELECT pgstock_internal.answer_message('{"order_id": "rou-3", "payment_id": "p-3"}', '{}', 'payment_success', 'StockShortfall', 'released', false, NULL,
	ARRAY[('rou-3', 'rou-a', 'main', 3, 0, 'refused', 2, NULL, 5, false)::stock_result]) FROM generate_series(1, 2);
SELECT idle FROM pgstock_internal.read_message('{"order_id": "rou-3", "payment_id": "p-3"}', '{}', 'payment_success');
SELECT answered('rou-3');
-- a reservation expires with its first line
SELECT pgstock_internal.answer_message('{"order_id": "rou-4", "items": [{"product_id": "rou-a", "quantity": 3}]}', '{}', 'order_created', 'StockReserved', NULL, NULL, 'u',
	ARRAY[('rou-4', 'rou-a', 'main', 3, 3, 'granted', 2, '2030-01-02+00', 5, false), ('rou-4', 'rou-b', 'main', 1, 1, 'granted', 2, '2030-01-01+00', 5, false)]::stock_result[]);
SELECT payload ->> 'expires_at', jsonb_array_length(payload -> 'items') FROM stock_outbox WHERE key = 'rou-4';
-- what is no answer
CREATE TYPE routed_row AS (a text);
CREATE FUNCTION answer(type text, reason text, lines anyarray) RETURNS void LANGUAGE sql AS
	$$SELECT pgstock_internal.answer_message('{"order_id": "rou-5"}', '{}', 'payment_success', $1, $2, false, NULL, $3)$$;
SELECT answer('StockExpired', NULL, ARRAY[('rou-5', 'rou-a', 'main', 3, 3, 'granted', 2, NULL, 5, false)::stock_result]);
SELECT answer(NULL, NULL, ARRAY[('rou-5', 'rou-a', 'main', 3, 3, 'granted', 2, NULL, 5, false)::stock_result]);
SELECT answer('StockReserveFailed', NULL, ARRAY[('rou-5', 'rou-a', 'main', 3, 3, 'granted', 2, NULL, 5, false)::stock_result]);
SELECT answer('StockConfirmed', NULL, ARRAY[('rou-5', NULL, NULL, 0, 0, 'unknown_order', 0, NULL, 0, false)::stock_result]);
SELECT answer('StockConfirmed', NULL, '{}'::stock_result[]);
SELECT answer('StockConfirmed', NULL, NULL::stock_result[]);
SELECT answer('StockConfirmed', NULL, ARRAY[row('a')::routed_row]);
SELECT answer('StockConfirmed', NULL, '{1}'::int[]);
SELECT answered('rou-5');
RESET pgstock.actor;
DROP FUNCTION answered, answer;
DROP TYPE routed_row;
