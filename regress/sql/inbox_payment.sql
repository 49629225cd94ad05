--
-- inbox_payment: payment-success confirms; a payment without stock is reported,
-- once
--
SELECT receive_stock('inp-a', 20), receive_stock('inp-b', 1);
CREATE FUNCTION pay(order_id text, payment_id text, status text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
SELECT apply_one('payment-success', jsonb_strip_nulls(jsonb_build_object('order_id', order_id,
	'paymentId', payment_id, 'status', status)))
$$;
CREATE VIEW emitted AS
SELECT key, string_agg(concat_ws(' ', event_type, payload->>'reason', payload->>'payment_id'), ', ' ORDER BY seq) AS events
  FROM stock_outbox GROUP BY key;
SELECT (reserve_stock('inp-a', 1, 'inp-' || o, 'ann')).status FROM unnest('{paid,words,rel,rol,rolpaid,due}'::text[]) o;
-- paid: confirmed; repeated under another event id: nothing
SELECT pay('inp-paid', 'P1');
SELECT pay('inp-paid', 'P1');
SELECT payload->>'causation_id' IS NOT NULL AS has_cause, payload->>'user_id' AS user_id
  FROM stock_outbox WHERE key = 'inp-paid' AND event_type = 'StockConfirmed';
-- statuses that count as paid, and those that do not
SELECT s, pay('inp-words', 'P', s) FROM unnest('{failed,pending,"",SUCCESSFUL}'::text[]) s;
SELECT lines_of('inp-words');
SELECT s, reserve_stock('inp-a', 1, 'inp-' || s) IS NOT NULL AS reserved, pay('inp-' || s, 'P', s)
  FROM unnest('{success,Succeeded,PAID,completed}'::text[]) s;
-- paid after the order was released: reported, once,
-- whatever id the message has
SELECT status FROM release_stock('inp-rel', 'cancelled');
SELECT status FROM rollback_stock('inp-rol', 'failed');
SELECT pay('inp-rel', 'P2'), pay('inp-rol', NULL);
SELECT pay('inp-rel', 'P2'), pay('inp-rol', NULL);
-- also when it had been paid before, and that was rolled back with it
SELECT pay('inp-rolpaid', 'P3');
SELECT status FROM rollback_stock('inp-rolpaid', 'failed');
SELECT pay('inp-rolpaid', 'P4');
SELECT pay('inp-rolpaid', 'P4');
-- due, and not expired yet: confirmed
SELECT make_due('inp-due');
SELECT pay('inp-due', 'P5');
-- expired, and the stock is still available: taken again
SELECT status FROM reserve_stock('inp-b', 1, 'inp-exp');
SELECT make_due('inp-exp');
SELECT status FROM reserve_stock('inp-b', 1, 'inp-taker');
SELECT status FROM release_stock('inp-taker');
SELECT pay('inp-exp', 'P6');
-- expired, and nothing left: shortfall, once
SELECT receive_stock('inp-b', 1);
SELECT status FROM reserve_stock('inp-b', 1, 'inp-short', 'bob');
SELECT make_due('inp-short');
SELECT status FROM reserve_stock('inp-b', 1, 'inp-taker');
SELECT pay('inp-short', 'P7');
SELECT pay('inp-short', 'P7');
-- refused, and paid nevertheless
SELECT apply_one('order-created', '{"order_id": "inp-ref", "user_id": "carl", "items": [{"product_id": "inp-b", "quantity": 9}]}');
SELECT pay('inp-ref', 'P8');
SELECT pay('inp-ref', 'P8');
SELECT * FROM emitted WHERE key ~ '^inp-(paid|words|rel|rol|rolpaid|due|exp|short|ref)$' ORDER BY key;
SELECT order_id, state, reason, payment_id FROM stock_reservations
 WHERE order_id ~ '^inp-(paid|words|rel|rol|rolpaid|due|exp|short|ref)$' ORDER BY order_id;
SELECT level_of('inp-a'), level_of('inp-b');
-- the shortfall names the missing pieces
SELECT jsonb_pretty(payload - '{event_id,timestamp,causation_id}'::text[]) FROM stock_outbox
 WHERE event_type = 'StockShortfall' AND key IN ('inp-rel', 'inp-short', 'inp-ref') ORDER BY seq;
-- by hand
SELECT status FROM reserve_stock('inp-a', 1, 'inp-hand');
SELECT handle_payment_success('{"orderId": "inp-hand", "paymentId": "P9"}', NULL);
SELECT lines_of('inp-hand');
SELECT outcome_of($$SELECT handle_payment_success('{"orderId": "inp-none"}', NULL)$$);
DROP VIEW emitted;
DROP FUNCTION pay;
SELECT * FROM verify_stock();
