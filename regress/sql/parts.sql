--
-- parts: an event that would be too large is emitted in parts; an answer that
-- is larger than its message is cut;
-- neither prevents the effect of a call or message
--
CREATE FUNCTION long_name(i int) RETURNS text LANGUAGE sql AS $$ SELECT rpad('part-' || i, 250, '"') $$;
CREATE FUNCTION many(first int, n int) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(jsonb_build_object('product_id', long_name(i), 'quantity', 1)) FROM generate_series(first, first + n - 1) i
$$;
SET debug_discard_caches = 0;
SELECT count(receive_stock(long_name(i), 10)) FROM generate_series(1, 2500) i;
RESET debug_discard_caches;
SET pgstock.max_lines = 2500;
-- The events of an order: parts, and whether each fulfils the rules for a part.
CREATE VIEW parts AS
SELECT o.seq, o.key, o.event_type, o.event_id, o.payload->>'part' AS part, o.payload->>'parts' AS parts, o.payload->>'event_id' = o.event_id::text AS own_id,
	   jsonb_array_length(o.payload->'items') AS items, octet_length(o.payload::text) > 900000 AS filled, o.payload->>'payment_id' AS payment_id
  FROM (SELECT seq, key, event_type, event_id, payload::jsonb AS payload FROM stock_outbox WHERE key ~ '^parts-') o;
SELECT count(*) FROM reserve_order('parts-1', many(1, 2500), 'ann');
SELECT status, count(*) FROM confirm_stock('parts-1', 'pay-1') GROUP BY 1;
SELECT key, event_type, part, parts, own_id, items, filled, payment_id FROM parts ORDER BY seq;
SELECT bool_and(octet_length(payload) <= 1000000) FROM pgstock_internal.outbox WHERE aggregateid = 'parts-1';
SELECT event_type, count(DISTINCT event_id) AS ids, sum(items) AS items FROM parts GROUP BY 1 ORDER BY 1;
-- each movement names the part with its line
CREATE TABLE spoken AS SELECT event_id, i->>'product_id' AS product_id FROM stock_outbox o, jsonb_array_elements(o.payload::jsonb->'items') i WHERE o.key = 'parts-1';
SELECT m.kind, count(*), count(s.product_id) AS in_it
  FROM stock_movements m LEFT JOIN spoken s USING (event_id, product_id) WHERE m.order_id = 'parts-1' GROUP BY 1 ORDER BY 1;
DROP TABLE spoken;
-- the same for a message, and its answer again
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-2', 'items', many(1, 2000)));
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-2', 'items', many(1, 2000)));
SELECT apply_one('payment-success', '{"order_id": "parts-2", "payment_id": "pay-2"}');
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-3', 'items', many(1, 2000) || '{"product_id": "parts-none", "quantity": 1}'));
SELECT key, event_type, part, parts, items FROM parts WHERE key > 'parts-1' ORDER BY seq;
-- a message's unknown members are left out where there is no room for them,
-- or in part
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-4', 'items', many(1, 1), 'note', repeat('n', 1200000), 'more', 1));
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-5', 'items', many(1, 2), 'note', repeat('n', 996000)));
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-6', 'items', many(1, 2), 'note', repeat('n', 998500)));
SELECT key, payload::jsonb->'part' AS part, payload::jsonb->'parts' AS parts, payload::jsonb->'cut' AS cut, length(payload::jsonb->'attributes'->>'note') AS note
  FROM stock_outbox WHERE key ~ '^parts-[456]' ORDER BY seq;
-- a difference is reported even where it is left out
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-5', 'items', many(2, 2), 'note', repeat('n', 999000)));
SELECT apply_one('order-created', jsonb_build_object('order_id', 'parts-5', 'items', many(2, 2), 'note', 'n'));
SELECT payload::jsonb->'cut' AS cut, payload::jsonb ? 'differs' AS differs, payload::jsonb ? 'attributes' AS attributes FROM stock_outbox WHERE key = 'parts-5' ORDER BY seq DESC LIMIT 2;
-- a reason is text for people:
-- a stack trace of a megabyte does not prevent a release
SELECT apply_one('order_failed', jsonb_build_object('order_id', 'parts-4', 'reason', repeat('at x.y(z) ', 130000)));
SELECT apply_one('order_failed', jsonb_build_object('order_id', 'parts-5', 'reason', repeat(E'\u0001', 130000)));
SELECT status FROM release_stock('parts-6', repeat('é', 1001)) LIMIT 1;
SELECT order_id, min(length(reason)), max(octet_length(reason)), right(min(reason), 36) AS mark FROM stock_movements
 WHERE order_id ~ '^parts-[456]' AND reason IS NOT NULL GROUP BY 1 ORDER BY 1;
SELECT key, event_type, length(payload::jsonb->>'reason') FROM stock_outbox WHERE key ~ '^parts-[456]' AND event_type <> 'StockReserved' ORDER BY seq;
-- the same for an error that a user's handler raises
CREATE FUNCTION parts_fail(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', repeat('trace ', 300000) USING ERRCODE = '22000'; END $$;
SELECT register_handler('parts', 'parts_fail');
SELECT result, length(reason) FROM apply('[{"topic": "parts", "key": "k", "json": {}}]');
SELECT length(error), length(headers->>'__dlq.errors.message') FROM stock_failed_events f JOIN stock_outbox o ON o.topic = f.topic || '_dlq' WHERE f.topic = 'parts';
SELECT register_handler('parts', NULL);
SELECT * FROM verify_stock() WHERE product_id ~ '^part-';
RESET pgstock.max_lines;
DROP VIEW parts;
DROP FUNCTION parts_fail, many, long_name;
