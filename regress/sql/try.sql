--
-- try: a refusal is a row with the reason, and nothing is written
--
\set row 'product_id, location, requested, granted, status, available, version, expires_at IS NULL AS no_expiry, replayed'
SELECT receive_stock('try-a', 5), receive_stock('try-b', 2);
SELECT :row FROM try_reserve_stock('try-a', 3, 'try-1');
SELECT :row FROM try_reserve_stock('try-a', 3, 'try-2');
SELECT :row FROM try_reserve_stock('try-x', 1, 'try-2');
SELECT :row FROM try_reserve_stock('try-a', 1, 'try-2', location => 'nowhere');
-- an order: which line, and which would have fitted
SELECT :row FROM try_reserve_order('try-2', '[
	{"product_id": "try-a", "quantity": 2}, {"product_id": "try-b", "quantity": 3},
	{"product_id": "try-x", "quantity": 1}]');
SELECT :row FROM try_reserve_order('try-2', '[
	{"product_id": "try-a", "quantity": 1}, {"product_id": "try-b", "quantity": 2}]');
-- a live reservation answers, however much stock is left
SELECT :row FROM try_reserve_stock('try-a', 3, 'try-1');
SELECT level_of('try-a'), level_of('try-b'), lines_of('try-2'), events_of('try-2');
-- a refusal costs no transaction id
BEGIN;
SELECT status FROM try_reserve_stock('try-a', 9, 'try-3');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;
-- other failures raise errors here too
SELECT outcome_of($$SELECT try_reserve_stock('try-a', 4, 'try-1')$$);
SELECT outcome_of($$SELECT try_reserve_order('try-1', '[{"product_id": "try-a", "quantity": 1}]')$$);
SELECT outcome_of($$SELECT try_reserve_stock('try-a', 0, 'try-3')$$);
SELECT outcome_of($$SELECT try_reserve_order('try-3', '[{"product_id": "try-a", "quantity": 1.5}]')$$);
SELECT * FROM verify_stock();
