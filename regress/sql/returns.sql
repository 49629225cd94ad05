--
-- returns: goods are returned, all or some, to be sold again or not; a
-- reservation is extended; due ones expire by hand (all the states: "states")
--
\set row 'product_id, location, requested, granted, status, available, version, replayed'
SELECT outcome_of($$SELECT return_stock('returns-none')$$), outcome_of($$SELECT extend_reservation('returns-none', '1 h')$$);
-- some pieces now, some later, some not for sale again; the rest stays sold
SELECT receive_stock('returns-a', 10), receive_stock('returns-b', 10);
SELECT count(*) FROM reserve_order('returns-1', '[{"product_id": "returns-a", "quantity": 5}, {"product_id": "returns-b", "quantity": 2}]', 'ann');
SELECT count(*) FROM confirm_stock('returns-1', 'P1');
SELECT :row FROM return_stock('returns-1', '[{"product_id": "returns-a", "quantity": 2}]');
SELECT :row FROM return_stock('returns-1', '[{"product_id": "returns-a", "quantity": 1}]', false);
SELECT lines_of('returns-1'), level_of('returns-a'), level_of('returns-b');
SELECT outcome_of($$SELECT return_stock('returns-1', '[{"product_id": "returns-a", "quantity": 3}]')$$);
SELECT :row FROM return_stock('returns-1', restock => NULL);
SELECT lines_of('returns-1'), level_of('returns-a'), level_of('returns-b');
SELECT outcome_of($$SELECT return_stock('returns-1')$$);
SELECT kind, product_id, on_hand_delta, reserved_delta, event_id IS NOT NULL AS has_event FROM stock_movements WHERE order_id = 'returns-1' ORDER BY id;
SELECT event_type, payload->'items' AS items FROM stock_outbox WHERE key = 'returns-1' AND event_type = 'StockReturned' ORDER BY seq;
-- extended from now on; also for ever
SELECT status FROM reserve_stock('returns-a', 1, 'returns-2', ttl => '1 min');
SELECT status, granted, replayed, expires_at > now() + '59 min' AS an_hour FROM extend_reservation('returns-2', '1 h');
SELECT status, expires_at > now() + '59 min' AS an_hour, expires_at IS NULL AS never FROM extend_reservation('returns-2', '0');
SELECT expires_at, due_at FROM pgstock_internal.reservation WHERE order_id = 'returns-2';
SELECT outcome_of($$SELECT extend_reservation('returns-2', '-1 s')$$);
SELECT status, expires_at > now() + '29 min' AS half_an_hour FROM extend_reservation('returns-2', NULL);
SELECT events_of('returns-2'), kind FROM stock_movements WHERE order_id = 'returns-2' ORDER BY id;
-- due ones by hand: one event for each order, as many lines as asked for,
-- the earliest first
SELECT count(*) FROM reserve_order('returns-3', '[{"product_id": "returns-a", "quantity": 1}, {"product_id": "returns-b", "quantity": 1}]', 'bob');
SELECT status FROM reserve_stock('returns-b', 1, 'returns-4');
SELECT expire_reservations() >= 0 AS all_the_others;
SELECT make_due('returns-3'), make_due('returns-4');
UPDATE pgstock_internal.reservation SET due_at = '2019-01-01', expires_at = '2019-01-01' WHERE order_id = 'returns-4';
SELECT expire_reservations(1);
SELECT lines_of('returns-3'), lines_of('returns-4');
SELECT expire_reservations();
SELECT expire_reservations(NULL);
SELECT lines_of('returns-2'), lines_of('returns-3'), level_of('returns-a'), level_of('returns-b');
SELECT key, event_type, payload->>'user_id' AS user_id, jsonb_array_length(payload->'items') AS items FROM stock_outbox WHERE event_type = 'StockExpired' AND key ~ '^returns-[0-9]' ORDER BY seq;
SELECT outcome_of($$SELECT expire_reservations(0)$$);
SELECT * FROM verify_stock();
