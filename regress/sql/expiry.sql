--
-- expiry: a due line counts as expired; reserve expires due lines when it needs
-- their stock, but only if then the whole request fits
--
SELECT receive_stock('expiry-a', 5), receive_stock('expiry-a', 5, 'east'), receive_stock('expiry-b', 1);
SELECT status FROM reserve_stock('expiry-a', 2, 'expiry-1', 'ann');
SELECT status FROM reserve_stock('expiry-a', 2, 'expiry-2');
SELECT status FROM reserve_stock('expiry-a', 5, 'expiry-3', location => 'east');
SELECT make_due(o) FROM unnest('{expiry-1,expiry-2,expiry-3}'::text[]) o;
-- enough stock without them: they remain
SELECT status, available FROM reserve_stock('expiry-a', 1, 'expiry-4');
SELECT lines_of('expiry-1'), lines_of('expiry-2'), level_of('expiry-a');
-- one line needs them, but the other does not fit: they remain,
-- nothing is written
BEGIN;
SELECT product_id, granted, status FROM try_reserve_order('expiry-5', '[
	{"product_id": "expiry-a", "quantity": 2}, {"product_id": "expiry-b", "quantity": 2}]');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
SELECT outcome_of($$SELECT reserve_order('expiry-5', '[
	{"product_id": "expiry-a", "quantity": 2}, {"product_id": "expiry-x", "quantity": 1}]')$$);
-- even with them not enough: those at another location do not count
SELECT granted, status FROM try_reserve_stock('expiry-a', 5, 'expiry-5');
SELECT lines_of('expiry-1'), lines_of('expiry-2'), lines_of('expiry-3'),
	   level_of('expiry-a'), level_of('expiry-a', 'east');
-- with them it fits
SELECT product_id, granted, status, available FROM reserve_order('expiry-5', '[
	{"product_id": "expiry-a", "quantity": 3}, {"product_id": "expiry-b", "quantity": 1}]');
SELECT lines_of('expiry-1'), lines_of('expiry-2'), lines_of('expiry-3'),
	   level_of('expiry-a'), level_of('expiry-a', 'east');
SELECT kind, reserved_delta, order_id, event_id IS NOT NULL AS has_event
  FROM stock_movements WHERE product_id = 'expiry-a' AND location = 'main' ORDER BY id;
SELECT event_type, key, payload->>'user_id' AS user_id, payload->'items' AS items
  FROM stock_outbox WHERE key IN ('expiry-1', 'expiry-2', 'expiry-5') ORDER BY seq;
SELECT ended_at IS NOT NULL AS has_end FROM stock_reservations WHERE order_id = 'expiry-1';
-- the same order again, its own due line in the way
SELECT status, replayed, available FROM reserve_stock('expiry-a', 5, 'expiry-3', location => 'east');
SELECT lines_of('expiry-3'), events_of('expiry-3'), level_of('expiry-a', 'east');
-- also when stock is left: in the stream StockExpired must precede the new
-- reservation
SELECT receive_stock('expiry-c', 10);
SELECT status FROM reserve_stock('expiry-c', 2, 'expiry-6');
SELECT make_due('expiry-6');
SELECT status, replayed, available FROM reserve_stock('expiry-c', 2, 'expiry-6');
SELECT status FROM reserve_stock('expiry-c', 8, 'expiry-7');
SELECT lines_of('expiry-6'), events_of('expiry-6'), level_of('expiry-c');
-- also where the new attempt has other products
SELECT receive_stock('expiry-d', 10);
SELECT status FROM reserve_order('expiry-8', '[{"product_id": "expiry-d", "quantity": 6}]');
SELECT make_due('expiry-8');
SELECT receive_stock('expiry-b', 1);
SELECT status FROM reserve_order('expiry-8', '[{"product_id": "expiry-b", "quantity": 1}]');
SELECT status FROM reserve_stock('expiry-d', 10, 'expiry-9');
SELECT lines_of('expiry-8'), events_of('expiry-8'), level_of('expiry-d');
SELECT status FROM confirm_stock('expiry-8');
-- one line of a live order is due: only that one is reserved again
SELECT receive_stock('expiry-e', 3), receive_stock('expiry-f', 1);
SELECT status FROM reserve_stock('expiry-e', 1, 'expiry-10', ttl => '0');
SELECT status FROM reserve_stock('expiry-f', 1, 'expiry-10');
SELECT make_due('expiry-10');
UPDATE pgstock_internal.reservation SET expires_at = NULL, due_at = NULL
 WHERE order_id = 'expiry-10' AND product_id = 'expiry-e';
SELECT status, replayed FROM reserve_stock('expiry-e', 1, 'expiry-10');
SELECT status, replayed FROM reserve_stock('expiry-f', 1, 'expiry-10');
SELECT lines_of('expiry-10'), level_of('expiry-e'), level_of('expiry-f'), events_of('expiry-10');
-- a line without expires_at is never due
SELECT granted, status FROM try_reserve_stock('expiry-e', 3, 'expiry-11');
-- upkeep: a batch at a time, until nothing is due
SELECT receive_stock('expiry-g', 9), receive_stock('expiry-h', 9);
SELECT count(*) FROM reserve_orders('[{"order_id": "expiry-12", "items": [{"product_id": "expiry-g", "quantity": 1}, {"product_id": "expiry-h", "quantity": 1}]},
	{"order_id": "expiry-13", "items": [{"product_id": "expiry-g", "quantity": 1}]}, {"order_id": "expiry-14", "items": [{"product_id": "expiry-h", "quantity": 1}]}]');
SELECT make_due(o) FROM unnest('{expiry-12,expiry-13,expiry-14}'::text[]) o;
SELECT pgstock_internal.keeper_is_here(), pgstock_internal.expire_due(3), pgstock_internal.relay_expire(3) > 0 AS later;
SELECT lines_of('expiry-12'), lines_of('expiry-13'), lines_of('expiry-14');
SELECT key, jsonb_array_length(payload->'items') FROM stock_outbox WHERE event_type = 'StockExpired' AND key ~ 'expiry-1[234]' ORDER BY 1, seq;
-- the time until the next one is due; without any: a minute
SELECT status FROM reserve_stock('expiry-g', 1, 'expiry-15', ttl => '50 s');
SELECT pgstock_internal.expire_due(3) BETWEEN 10000000 AND 50000000 AS next, pgstock_internal.relay_expire(3), pgstock_internal.until_due('3000-01-01');
SELECT * FROM verify_stock();
