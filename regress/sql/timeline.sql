--
-- timeline: one order goes through every path, and order_history names each
-- step once
--
SET pgstock.actor = 'clerk';
CREATE FUNCTION tl_steps(order_id text) RETURNS TABLE (step text) LANGUAGE sql AS $$
SELECT concat_ws(' ', h.kind, h.what, h.quantity || ' x ' || h.product_id, h.detail ->> 'result', h.detail ->> 'state', regexp_replace(h.detail ->> 'reason', ' at order-created/.*', ''),
				 CASE WHEN h.detail ? 'replay_of' THEN 'copy' END)
  FROM order_history(order_id) WITH ORDINALITY h ORDER BY h.ordinality
$$;
CREATE FUNCTION tl_message(topic text, event_id text, value jsonb, order_id text DEFAULT 'tl-1') RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason)
  FROM apply(jsonb_build_array(jsonb_build_object('topic', topic, 'json', value || jsonb_build_object('event_id', event_id, 'order_id', order_id)))) a
$$;
CREATE FUNCTION tl_expire(order_id text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM make_due(order_id);
	RETURN expire_reservations() > 0;
END
$$;
SELECT receive_stock('tl-a', 10), receive_stock('tl-b', 10);
-- paid before it was created; created and paid; both once more;
-- a piece returned; failed
SELECT tl_message('payment-success', 'tl-m1', '{"payment_id": "tl-p1"}');
SELECT tl_message('order-created', 'tl-m2', '{"items": [{"product_id": "tl-a", "quantity": 2}, {"product_id": "tl-b", "quantity": 1}]}');
SELECT retry_failed_event(order_id => 'tl-1', reason => 'it is here');
SELECT count(*) FROM pgstock_internal.relay_retry(10, relay_options());
SELECT tl_message('order-created', 'tl-m2', '{"items": [{"product_id": "tl-a", "quantity": 2}, {"product_id": "tl-b", "quantity": 1}]}');
SELECT tl_message('order-created', 'tl-m3', '{"items": [{"product_id": "tl-a", "quantity": 2}, {"product_id": "tl-b", "quantity": 1}]}');
SELECT tl_message('payment-success', 'tl-m4', '{"payment_id": "tl-p2"}');
SELECT status FROM return_stock('tl-1', '[{"product_id": "tl-a", "quantity": 1}]');
SELECT tl_message('order_failed', 'tl-m5', '{"reason": "no courier"}');
SELECT * FROM tl_steps('tl-1');
SELECT count(*) AS n FROM tl_steps('tl-1') \gset
-- reserved again, extended, released in two pieces, by a call and by a message;
-- created once more
SELECT status FROM reserve_order('tl-1', '[{"product_id": "tl-a", "quantity": 2}, {"product_id": "tl-b", "quantity": 1}]');
SELECT status FROM extend_reservation('tl-1', '1 day');
SELECT status FROM release_stock('tl-1', 'one less', '[{"product_id": "tl-a", "quantity": 1}]');
SELECT tl_message('order-cancelled', 'tl-m6', '{}');
SELECT tl_message('order-created', 'tl-m7', '{"items": [{"product_id": "tl-a", "quantity": 1}]}');
SELECT * FROM tl_steps('tl-1') OFFSET :n;
SELECT count(*) AS n FROM tl_steps('tl-1') \gset
-- expired and paid late; expired, sold to another, and paid late
SELECT status FROM reserve_stock('tl-a', 1, 'tl-1');
SELECT tl_expire('tl-1');
SELECT status FROM confirm_stock('tl-1', 'tl-p3');
SELECT status FROM return_stock('tl-1', restock => false);
SELECT status FROM reserve_stock('tl-b', 5, 'tl-1');
SELECT tl_expire('tl-1');
SELECT status FROM reserve_stock('tl-b', 10, 'tl-2');
SELECT tl_message('payment-success', 'tl-m8', '{"payment_id": "tl-p4"}');
SELECT * FROM tl_steps('tl-1') OFFSET :n;
SELECT count(*) AS n FROM tl_steps('tl-1') \gset
-- bought in a sale, and failed
SELECT open_flash_sale('tl-s', 'tl-a', 3);
SELECT status FROM purchase_flash_sale('tl-s', 'ann', 'tl-1');
SELECT status FROM rollback_stock('tl-1', 'no address');
-- poisoned, and discarded; an application's own event; all of them once more
SELECT tl_message('payment-failed', 'tl-m9', '{"items": 3}');
SELECT discard_failed_event(id, 'nonsense') FROM stock_failed_events WHERE event_id = 'tl-m9';
SELECT publish_event('shop', 'tl-1', '{}') IS NOT NULL AS made;
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT resend_events('tl-1', 'lost') > 10 AS copies;
SELECT * FROM tl_steps('tl-1') WHERE step !~ 'copy$' OFFSET :n;
-- another order: refused, paid all the same, and canceled
SELECT tl_message('order-created', 'tl-m10', '{"items": [{"product_id": "tl-b", "quantity": 11}]}', 'tl-3');
SELECT tl_message('payment-success', 'tl-m11', '{"payment_id": "tl-p5"}', 'tl-3');
SELECT tl_message('order-cancelled', 'tl-m12', '{"reason": "too late"}', 'tl-3');
SELECT * FROM tl_steps('tl-3');
-- and one that is declined, paid at the second try, and canceled, at first by a
-- dead letter, which is handled by hand
SELECT tl_message('order-created', 'tl-m13', '{"items": [{"product_id": "tl-a", "quantity": 1}]}', 'tl-4');
SELECT tl_message('payment-failed', 'tl-m14', '{"reason": "no money"}', 'tl-4');
SELECT tl_message('payment-success', 'tl-m15', '{"payment_id": "tl-p6"}', 'tl-4');
SELECT tl_message('order-cancelled', 'tl-m16', '{"items": "all"}', 'tl-4');
SELECT mark_failed_event_handled(id, 'by phone') FROM stock_failed_events WHERE event_id = 'tl-m16';
SELECT tl_message('order-cancelled', 'tl-m17', '{"reason": "too late"}', 'tl-4');
SELECT * FROM tl_steps('tl-4');
-- each row of each table is a step, and none is there twice
SELECT o AS order_id, h.kind, count(*) AS steps, count(DISTINCT (h.what, h.product_id, h.location, h.event_id, h.detail)) AS different
  FROM unnest('{tl-1,tl-3,tl-4}'::text[]) o, order_history(o) h GROUP BY 1, 2 ORDER BY 1, h.kind COLLATE "C";
SELECT o AS order_id, (SELECT count(*) FROM stock_movements WHERE order_id = o) AS movements, (SELECT count(*) FROM stock_outbox WHERE key = o) AS events,
	   (SELECT count(*) FROM stock_inbox WHERE order_id = o) AS messages, (SELECT count(*) FROM stock_failed_events WHERE order_id = o) AS failures,
	   (SELECT count(*) FROM stock_reservations WHERE order_id = o) AS reservations FROM unnest('{tl-1,tl-3,tl-4}'::text[]) o;
