--
-- availability: whether lines would fit, without a lock and without a write
--
SELECT receive_stock('avail-a', 5), receive_stock('avail-a', 2, 'east'), receive_stock('avail-b', 3);
-- a row a line, sorted and merged as reserve_order does it;
-- an unknown product has none
SELECT * FROM check_availability('[{"product_id": "avail-b", "quantity": 3}, {"product_id": "avail-a", "quantity": 2},
	{"product_id": "avail-a", "quantity": 4}, {"product_id": "avail-a", "quantity": 2, "location": "east"}, {"product_id": "avail-none", "quantity": 1}]');
SELECT granted, status FROM try_reserve_order('avail-0', '[{"product_id": "avail-a", "quantity": 6}]');
-- reservations, safety stock, back-orders and slots count
SELECT status FROM reserve_stock('avail-a', 2, 'avail-1');
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 3}]');
SELECT configure_product('avail-a', safety => 1);
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 3}]');
SELECT configure_product('avail-a', safety => -1, backorder_limit => 10, slots => 4);
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 13}, {"product_id": "avail-a", "quantity": 12, "location": "east"}]');
SELECT configure_product('avail-a', backorder_limit => -1);
-- a due line counts as expired where the request needs it, and stays as it is
SELECT make_due('avail-1');
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 3}]');
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 5}]');
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 6}]');
SELECT lines_of('avail-1');
SELECT granted, status FROM reserve_stock('avail-a', 5, 'avail-2');
SELECT available, fits FROM check_availability('[{"product_id": "avail-a", "quantity": 1}]');
-- a sale's quota is not for others
SELECT open_flash_sale('avail-s', 'avail-b', 2);
SELECT available, fits FROM check_availability('[{"product_id": "avail-b", "quantity": 2}]');
-- the place where a level was read last is only a hint: its row has changed
-- since, it is gone, another's is there now
SELECT available FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
SELECT receive_stock('avail-b', 7);
SELECT available FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
BEGIN;
SELECT receive_stock('avail-b', 1);
SELECT available FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
ROLLBACK;
SELECT available FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
VACUUM FULL pgstock_internal.level;
SELECT product_id, location, available = (SELECT l.available FROM stock_levels l WHERE (l.product_id, l.location) = (c.product_id, c.location)) AS same
  FROM check_availability('[{"product_id": "avail-b", "quantity": 1}, {"product_id": "avail-a", "quantity": 1, "location": "east"}]') c;
BEGIN;
DELETE FROM pgstock_internal.level WHERE product_id = 'avail-b';
SELECT available, fits FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
ROLLBACK;
-- read-only, without a transaction id,
-- and with no lock that a reader does not take
BEGIN TRANSACTION READ ONLY;
SELECT available, fits FROM check_availability('[{"product_id": "avail-b", "quantity": 1}]');
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing,
	   (SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks l WHERE pid = pg_backend_pid() AND relation::regclass::text ~ 'pgstock_internal.(level|reservation)') AS modes,
	   (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS advisory;
COMMIT;
-- bad items are answered as reserve_order answers them
SELECT i, outcome_of(format('SELECT * FROM check_availability(%L)', i)) = outcome_of(format('SELECT * FROM reserve_order(%L, %L)', 'avail-bad', i)) AS same,
	   left(outcome_of(format('SELECT * FROM check_availability(%L)', i)), 60) AS outcome
  FROM unnest(ARRAY[NULL, '{}', '[]', '3', '[1]', '[{}]', '[{"product_id": "a"}]', '[{"product_id": "", "quantity": 1}]',
	'[{"product_id": "a", "quantity": 0}]', '[{"product_id": "a", "quantity": 1.0}]', '[{"product_id": "a", "quantity": "1"}]',
	'[{"product_id": "a", "quantity": 9007199254740993}]', '[{"product_id": true, "quantity": 1}]']) i;
BEGIN;
SET LOCAL pgstock.max_lines = 1;
SELECT outcome_of($$SELECT check_availability('[{"product_id": "a", "quantity": 1}, {"product_id": "b", "quantity": 1}]')$$);
COMMIT;
SELECT configure_product('avail-a', slots => -1), close_flash_sale('avail-s');
SELECT * FROM verify_stock();
