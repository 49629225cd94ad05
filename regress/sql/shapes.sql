--
-- shapes: payments, cancellations and failures as five shops write them: nested
-- and flat, snake and camel case, lists and maps, numeric ids
--
-- bindings.sql has the orders of the same shops.  Here each shop has four
-- orders of two shape-a and a shape-b: one is paid, one is paid and canceled in
-- part, one is declined, one fails.
--
SELECT receive_stock(p, 100) FROM unnest('{shape-a,shape-b}'::text[]) p;
SELECT count(apply_one('order-created', jsonb_build_object('order_id', 8000 + 10 * shop + n, 'items', '[{"product_id": "shape-a", "quantity": 2}, {"product_id": "shape-b", "quantity": 1}]'::jsonb)))
  FROM generate_series(1, 5) shop, generate_series(1, 4) n;
-- nested, camel case, a list
SELECT count(bind_topic('shape.shop', h, h, f)) FROM (VALUES
	('payment_success', '{"order_id": "$.data.orderNo", "payment_id": "$.data.payment.id", "status": "$.data.payment.state", "event_id": "$.meta.id", "timestamp": "$.meta.at"}'::jsonb),
	('order_cancelled', '{"order_id": "$.data.orderNo", "items": "$.data.lines", "product_id": "$.sku", "quantity": "$.qty", "reason": "$.data.why"}'),
	('payment_failed', '{"order_id": "$.data.orderNo", "reason": "$.data.payment.error"}'),
	('order_failed', '{"order_id": "$.data.orderNo", "reason": "$.data.why"}')) b (h, f);
-- flat, camel case: the names of pgstock itself, and one item in the message
SELECT count(bind_topic('shape.carts', h, h, f)) FROM (VALUES
	('payment_success', NULL::jsonb), ('payment_failed', NULL), ('order_failed', NULL),
	('order_cancelled', '{"items": "$", "product_id": "$.productId", "quantity": "$.amount"}')) b (h, f);
-- nested, snake case, a map of quantities
SELECT count(bind_topic('shape.basket', h, h, f)) FROM (VALUES
	('payment_success', '{"order_id": "$.order.id", "payment_id": "$.payment.id", "status": "$.payment.status"}'::jsonb),
	('order_cancelled', '{"order_id": "$.order.id", "items": "$.order.quantities", "reason": "$.cancel_reason"}'),
	('payment_failed', '{"order_id": "$.order.id", "items": "$.order.quantities", "reason": "$.payment.error_text"}'),
	('order_failed', '{"order_id": "$.order.id", "reason": "$.error_text"}')) b (h, f);
-- flat, names with spaces, a map of objects
SELECT count(bind_topic('shape.bestellung', h, h, f)) FROM (VALUES
	('payment_success', '{"order_id": "$[''Bestell-Nr.'']", "payment_id": "$[''Zahlung Nr.'']", "status": "$.Stand"}'::jsonb),
	('order_cancelled', '{"order_id": "$[''Bestell-Nr.'']", "items": "$[\"Stücke je Artikel\"]", "quantity": "$.Stück", "location": "$.Lager", "reason": "$.Grund"}'),
	('payment_failed', '{"order_id": "$[''Bestell-Nr.'']", "reason": "$.Grund"}'),
	('order_failed', '{"order_id": "$[''Bestell-Nr.'']", "reason": "$.Grund"}')) b (h, f);
-- arrays
SELECT count(bind_topic('shape.events', h, h, f)) FROM (VALUES
	('payment_success', '{"order_id": "$.body[0].id", "payment_id": "$.body[1].id"}'::jsonb),
	('order_cancelled', '{"order_id": "$.body[0].id", "items": "$.body[1]"}'),
	('payment_failed', '{"order_id": "$.body[0].id", "reason": "$.body[1][0]"}'),
	('order_failed', '{"order_id": "$.body[0].id", "reason": "$.body[1][0]"}')) b (h, f);
SELECT m.topic, type, a.result, a.reason FROM (VALUES
	('shape.shop', 'payment_success', '{"meta": {"id": "shape-e1", "at": 1800000000000}, "data": {"orderNo": 8011, "payment": {"id": 501, "state": "SUCCEEDED"}}}'::jsonb),
	('shape.shop', 'payment_success', '{"meta": {"id": "shape-e1", "at": 1800000000000}, "data": {"orderNo": 8011, "payment": {"id": 501, "state": "SUCCEEDED"}}}'),
	('shape.shop', 'payment_success', '{"data": {"orderNo": 8012, "payment": {"id": 502, "state": "Paid"}}}'),
	('shape.shop', 'order_cancelled', '{"data": {"orderNo": 8012, "why": "changed her mind", "lines": [{"sku": "shape-a", "qty": 1}]}}'),
	('shape.shop', 'payment_success', '{"data": {"orderNo": 8013, "payment": {"id": 503, "state": "PENDING"}}}'),
	('shape.shop', 'payment_failed', '{"data": {"orderNo": 8013, "payment": {"error": "no money"}}}'),
	('shape.shop', 'order_failed', '{"data": {"orderNo": 8014, "why": "lost"}}'),
	('shape.carts', 'payment_success', '{"orderId": 8021, "paymentId": 511, "status": "completed", "userId": 17}'),
	('shape.carts', 'payment_success', '{"orderId": 8022, "paymentId": "p-512"}'),
	('shape.carts', 'order_cancelled', '{"orderId": 8022, "productId": "shape-a", "amount": 1, "reason": "too many"}'),
	('shape.carts', 'payment_failed', '{"orderId": "8023", "failedReason": "no money"}'),
	('shape.carts', 'order_failed', '{"orderId": 8024, "failedReason": "lost", "productQuantityMap": {"shape-a": 2, "shape-b": 1}}'),
	('shape.basket', 'payment_success', '{"order": {"id": 8031}, "payment": {"id": "p-521", "status": "success"}}'),
	('shape.basket', 'payment_success', '{"order": {"id": 8032}, "payment": {"id": "p-522", "status": "success"}}'),
	('shape.basket', 'order_cancelled', '{"order": {"id": 8032, "quantities": {"shape-a": 1}}, "cancel_reason": "too many"}'),
	('shape.basket', 'payment_failed', '{"order": {"id": 8033, "quantities": {"shape-a": 2, "shape-b": 1}}, "payment": {"error_text": "no money"}}'),
	('shape.basket', 'order_failed', '{"order": {"id": 8034}, "error_text": "lost"}'),
	('shape.bestellung', 'payment_success', '{"Bestell-Nr.": 8041, "Zahlung Nr.": 531, "Stand": "PAID"}'),
	('shape.bestellung', 'payment_success', '{"Bestell-Nr.": 8042, "Zahlung Nr.": 532, "Stand": "PAID"}'),
	('shape.bestellung', 'order_cancelled', '{"Bestell-Nr.": 8042, "Grund": "zu viel", "Stücke je Artikel": {"shape-a": {"Stück": 1, "Lager": "main"}}}'),
	('shape.bestellung', 'payment_failed', '{"Bestell-Nr.": 8043, "Grund": "kein Geld"}'),
	('shape.bestellung', 'order_failed', '{"Bestell-Nr.": 8044, "Grund": "verloren"}'),
	('shape.events', 'payment_success', '{"body": [{"id": 8051}, {"id": 541}]}'),
	('shape.events', 'payment_success', '{"body": [{"id": 8052}, {"id": 542}]}'),
	('shape.events', 'order_cancelled', '{"body": [{"id": 8052}, [{"productId": "shape-a", "quantity": 1}]]}'),
	('shape.events', 'payment_failed', '{"body": [{"id": 8053}, ["no money"]]}'),
	('shape.events', 'order_failed', '{"body": [{"id": 8054}, ["lost"]]}')) m (topic, type, value),
	apply(jsonb_build_array(jsonb_build_object('topic', m.topic, 'headers', jsonb_build_object('ce_type', type), 'json', value))) a;
-- the same orders in each shop
SELECT order_id, lines_of(order_id), string_agg(DISTINCT payment_id, ' ') AS payment, string_agg(DISTINCT reason, ' ') AS reason
  FROM stock_reservations WHERE order_id ~ '^80[1-5][1-4]$' GROUP BY order_id ORDER BY order_id COLLATE "C";
SELECT n, count(DISTINCT events_of((8000 + 10 * shop + n)::text)) AS ways, min(events_of((8000 + 10 * shop + n)::text)) AS events
  FROM generate_series(1, 5) shop, generate_series(1, 4) n GROUP BY n ORDER BY n;
SELECT p, level_of(p) FROM unnest('{shape-a,shape-b}'::text[]) p;
-- what does not fit is dead, and says why
SELECT m.topic, type, a.result, a.reason FROM (VALUES
	('shape.shop', 'payment_success', '{"order_id": 8011, "payment_id": 501}'::jsonb), ('shape.basket', 'order_cancelled', '{"order": {"id": 8031, "quantities": {"shape-a": "1"}}}'),
	('shape.bestellung', 'order_failed', '{"Bestell-Nr": 8041}'), ('shape.events', 'payment_failed', '{"body": {"id": 8051}}')) m (topic, type, value),
	apply(jsonb_build_array(jsonb_build_object('topic', m.topic, 'headers', jsonb_build_object('ce_type', type), 'json', value))) a;
SELECT count(unbind_topic(topic, event_type)) FROM stock_bindings WHERE topic ~ '^shape[.]';
SELECT * FROM verify_stock() WHERE product_id ~ '^shape-';
