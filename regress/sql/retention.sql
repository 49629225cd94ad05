--
-- retention: the ledger is folded a part at a time; confirmed orders move to
-- the history by month, come back for a call, and end with a DROP
-- (pgstock.confirmed_retention, which needs a reload:
-- tests/e2e/test_retention.py)
--
CREATE FUNCTION upkeep() RETURNS bigint LANGUAGE sql AS $$
SELECT pgstock_internal.purge_old(1000)
$$;
CREATE VIEW parts AS SELECT string_agg(format('%s%s', p.part, p.state), ' ' ORDER BY p.part) AS parts,
	(SELECT count(*) FROM pgstock_internal.movement m WHERE m.part > 0) AS rows,
	(SELECT count(*) FROM pgstock_internal.ledger l WHERE l.part > 0) AS counted
  FROM pgstock_internal.movement_part p;
CREATE FUNCTION pass(by interval) RETURNS void LANGUAGE sql AS $$
UPDATE pgstock_internal.movement_part SET since = since - by
$$;
-- what other tests wrote becomes openings
LOAD 'pgstock';
SELECT purge_history(clock_timestamp()) >= 0 AS done;
DO $$ BEGIN WHILE upkeep() > 0 LOOP COMMIT; END LOOP; END $$;
SELECT receive_stock('ret-a', 100), receive_stock('ret-b', 100);
SELECT count(*) FROM pgstock_internal.movement WHERE product_id = 'ret-a' AND part = 1;
SELECT pgstock_internal.movement_rotate('80 days', 1000);
TABLE parts;
-- no switch before a quarter of the retention; then the next part is written,
-- and the former is sealed
SELECT pass('19 days'), pgstock_internal.movement_rotate('80 days', 1000);
SELECT pass('2 days'), pgstock_internal.movement_rotate('80 days', 1000);
TABLE parts;
SELECT count(*) FROM reserve_stock('ret-a', 1, 'ret-1');
SELECT part, count(*) FROM pgstock_internal.movement WHERE product_id ~ '^ret-' AND part > 0 GROUP BY 1 ORDER BY 1;
SELECT pgstock_internal.movement_rotate('80 days', 1000);
TABLE parts;
-- not old enough; then a page at a time, and each step adds up
SELECT pass('79 days'), pgstock_internal.movement_rotate('80 days', 1000);
TABLE parts;
SELECT pass('2 days'), pgstock_internal.movement_fold(clock_timestamp() - interval '80 days', 1);
TABLE parts;
SELECT * FROM verify_stock();
SELECT kind, product_id, on_hand_delta, reserved_delta FROM stock_movements WHERE product_id ~ '^ret-' ORDER BY product_id, id;
SELECT pgstock_internal.movement_fold(clock_timestamp() - interval '80 days', 1), pgstock_internal.movement_fold(clock_timestamp() - interval '80 days', 1);
TABLE parts;
SELECT * FROM verify_stock();
-- truncated, and used again later
DO $$ BEGIN WHILE pgstock_internal.movement_empty() = 0 LOOP PERFORM pg_stat_clear_snapshot(); END LOOP; END $$;
TABLE parts;
SELECT * FROM verify_stock();
-- all parts are in use: one is added, which no other role may read
BEGIN;
INSERT INTO pgstock_internal.movement_part SELECT n, 'l' FROM generate_series(1, 6) n ON CONFLICT DO NOTHING;
SELECT pgstock_internal.movement_next_part();
SELECT relacl FROM pg_class WHERE oid = 'pgstock_internal.movement_7'::regclass;
ROLLBACK;
-- confirmed orders: off by default
SHOW pgstock.confirmed_retention;
SELECT pgstock_internal.retire_after();
CREATE FUNCTION sell(id text, ago interval) RETURNS void LANGUAGE sql AS $$
SELECT count(*) FROM reserve_order(id, '[{"product_id": "ret-a", "quantity": 2}, {"product_id": "ret-b", "quantity": 1}]', 'ann');
SELECT count(*) FROM confirm_stock(id, 'P' || id);
UPDATE pgstock_internal.reservation r SET created_at = r.created_at - ago, confirmed_at = r.confirmed_at - ago WHERE r.order_id = id
$$;
SELECT sell('ret-2', '25 days'), sell('ret-3', '25 days'), sell('ret-4', '1 day'), sell('ret-5', '200 days'), sell('ret-6', '25 days'), sell('ret-7', '25 days');
SELECT count(*) FROM return_stock('ret-3', '[{"product_id": "ret-b", "quantity": 1}]');
SELECT upkeep() >= 0 AS done;
SELECT count(*) FROM pgstock_internal.reservation_history;
-- an order moves as a whole, once none of its lines can change: ret-3 has one
-- that ended now, ret-4 is too young
SELECT pgstock_internal.retire_orders(clock_timestamp() - interval '20 days', 1000);
SELECT order_id, product_id, state, user_id, settled_at = confirmed_at AS settled FROM pgstock_internal.reservation_history WHERE order_id ~ '^ret-' ORDER BY 1, 2;
SELECT order_id, count(*) FROM pgstock_internal.reservation WHERE order_id ~ '^ret-' GROUP BY 1 ORDER BY 1;
-- the view shows them all, and the months are nobody else's
SELECT order_id, string_agg(state, ' ' ORDER BY product_id) FROM stock_reservations WHERE order_id ~ '^ret-' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE i.inhparent = 'pgstock_internal.reservation_history'::regclass AND c.relacl IS NOT NULL;
-- each call that settles an order finds it
SELECT status, granted, available FROM return_stock('ret-2', '[{"product_id": "ret-a", "quantity": 1}]');
SELECT order_id, product_id, quantity, state FROM pgstock_internal.reservation WHERE order_id = 'ret-2' ORDER BY 2;
SELECT count(*) FROM pgstock_internal.reservation_history WHERE order_id = 'ret-2';
SELECT status FROM rollback_stock('ret-6', 'lost');
SELECT status, replayed FROM confirm_stock('ret-7');
SELECT outcome_of($$SELECT release_stock('ret-7')$$), outcome_of($$SELECT extend_reservation('ret-7', '1 h')$$);
SELECT * FROM verify_stock();
-- and so does a message
SELECT pgstock_internal.retire_orders(clock_timestamp() - interval '20 days', 1000);
SELECT count(*) FROM pgstock_internal.reservation_history WHERE order_id = 'ret-7';
SELECT apply_one('payment-success', '{"order_id": "ret-7", "payment_id": "P2"}');
SELECT apply_one('order_failed', '{"order_id": "ret-7"}');
-- a call that reserves does not look there: the id then means the new order
SELECT status, replayed FROM reserve_stock('ret-b', 1, 'ret-5');
SELECT status FROM confirm_stock('ret-5');
SELECT status, product_id, granted FROM return_stock('ret-5');
SELECT outcome_of($$SELECT return_stock('ret-5')$$);
-- an order that was sold and moved is answered under its key as before
SELECT status, granted, replayed FROM reserve_stock('ret-a', 1, 'ret-9', idempotency_key => 'ret-key');
SELECT status FROM confirm_stock('ret-9');
UPDATE pgstock_internal.reservation SET confirmed_at = confirmed_at - interval '30 days' WHERE order_id = 'ret-9';
SELECT pgstock_internal.retire_orders(clock_timestamp() - interval '20 days', 1000);
SELECT count(*) FROM pgstock_internal.reservation_history WHERE order_id = 'ret-9';
SELECT status, granted, replayed FROM reserve_stock('ret-a', 1, 'ret-9', idempotency_key => 'ret-key');
SELECT status FROM return_stock('ret-9');
-- a month is dropped when all of it is past that time, and no later one
SELECT pgstock_internal.history_drop(clock_timestamp() - interval '232 days');
SELECT pgstock_internal.history_drop(clock_timestamp() - interval '80 days');
SELECT count(*) FROM pgstock_internal.reservation_history WHERE order_id = 'ret-5';
SELECT * FROM verify_stock();
-- purchases of an open sale stay: its limit counts them
SELECT open_flash_sale('ret-sale', 'ret-a', 5, 2);
SELECT status FROM purchase_flash_sale('ret-sale', 'ann', 'ret-8');
SELECT status FROM confirm_stock('ret-8');
UPDATE pgstock_internal.reservation SET confirmed_at = confirmed_at - interval '30 days' WHERE order_id = 'ret-8';
SELECT pgstock_internal.retire_orders(clock_timestamp() - interval '20 days', 1000);
SELECT lines_of('ret-8');
SELECT close_flash_sale('ret-sale');
SELECT pgstock_internal.retire_orders(clock_timestamp() - interval '20 days', 1000);
SELECT count(*) FROM pgstock_internal.reservation_history WHERE order_id = 'ret-8';
SELECT status FROM return_stock('ret-8');
SELECT outcome_of($$SELECT return_stock('ret-none')$$);
SELECT * FROM verify_stock();
-- nothing of this is left for other tests
DELETE FROM pgstock_internal.failed_event WHERE order_id ~ '^ret-';
SELECT pgstock_internal.movement_seal() >= 0 AS sealed;
DO $$ BEGIN WHILE pgstock_internal.movement_fold('infinity', 1000) > 0 LOOP END LOOP; END $$;
DO $$ BEGIN WHILE EXISTS (SELECT FROM pgstock_internal.movement_part WHERE state = 'f') LOOP PERFORM pgstock_internal.movement_empty(), pg_stat_clear_snapshot(); END LOOP; END $$;
TABLE parts;
DROP VIEW parts;
DROP FUNCTION upkeep, pass, sell;
