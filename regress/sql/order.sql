--
-- order: all lines of an order or none; equal lines are merged, answers sorted
--
\set row 'product_id, location, requested, granted, status, available, version, replayed'
SELECT receive_stock('order-a', 10), receive_stock('order-b', 5),
	   receive_stock('order-b', 2, 'east'), receive_stock('order-c', 1);
-- in any order, some twice, numbers as ids, unknown fields
SELECT :row FROM reserve_order('order-1', '[
	{"product_id": "order-b", "quantity": 1, "location": "east", "note": "gift"},
	{"product_id": "order-b", "quantity": 2},
	{"product_id": "order-a", "quantity": 3, "location": null},
	{"product_id": "order-b", "quantity": 1, "location": "main"},
	{"product_id": "order-a", "quantity": 1}]', 'ann');
SELECT receive_stock('4711', 2);
SELECT :row FROM reserve_order('order-2', '[{"product_id": 4711, "quantity": 2}]');
-- sorted by bytes, whatever the collation
SELECT receive_stock('order-B', 1), receive_stock('order-é', 1);
SELECT product_id FROM reserve_order('order-3', '[
	{"product_id": "order-é", "quantity": 1}, {"product_id": "order-c", "quantity": 1},
	{"product_id": "order-B", "quantity": 1}]');
SELECT status, count(*) FROM release_stock('order-3') GROUP BY 1;
-- one line does not fit, or is unknown: nothing is taken
SELECT outcome_of($$SELECT reserve_order('order-4', '[
	{"product_id": "order-a", "quantity": 1}, {"product_id": "order-c", "quantity": 2},
	{"product_id": "order-b", "quantity": 9}]')$$);
SELECT outcome_of($$SELECT reserve_order('order-4', '[
	{"product_id": "order-a", "quantity": 1}, {"product_id": "order-x", "quantity": 1}]')$$);
-- merged they are too much, although each line alone would fit
SELECT outcome_of($$SELECT reserve_order('order-4', '[
	{"product_id": "order-a", "quantity": 3}, {"product_id": "order-a", "quantity": 4}]')$$);
SELECT level_of('order-a'), level_of('order-b'), level_of('order-c'),
	   lines_of('order-4') AS no_line, events_of('order-4') AS no_event;
-- the order is the key: its lines in another order are the same request
SELECT :row FROM reserve_order('order-1', '[
	{"product_id": "order-a", "quantity": 4}, {"product_id": "order-b", "quantity": 3},
	{"product_id": "order-b", "quantity": 1, "location": "east"}]', 'ann', '1 day');
SELECT outcome_of($$SELECT reserve_order('order-1', '[
	{"product_id": "order-a", "quantity": 4}]', 'ann')$$);
SELECT outcome_of($$SELECT reserve_order('order-1', '[
	{"product_id": "order-a", "quantity": 4}, {"product_id": "order-b", "quantity": 3},
	{"product_id": "order-b", "quantity": 1, "location": "east"},
	{"product_id": "order-c", "quantity": 1}]', 'ann')$$);
-- while one of its lines lives the order lives
SELECT product_id, location, status FROM release_stock('order-1', NULL,
	'[{"product_id": "order-a", "quantity": 4}, {"product_id": "order-b", "quantity": 3}]');
SELECT outcome_of($$SELECT reserve_order('order-1', '[
	{"product_id": "order-a", "quantity": 4}, {"product_id": "order-b", "quantity": 3},
	{"product_id": "order-b", "quantity": 1, "location": "east"}]', 'ann')$$);
SELECT count(*) FROM release_stock('order-1');
SELECT product_id, location, status, replayed FROM reserve_order('order-1', '[
	{"product_id": "order-c", "quantity": 1}]', 'ann');
SELECT lines_of('order-1');
-- one event for an order, with all its lines
SELECT event_type, jsonb_array_length(payload->'items') AS items
  FROM stock_outbox WHERE key = 'order-1' ORDER BY seq;
-- as many lines as pgstock.max_lines, and no more
SET debug_discard_caches = 0;
SELECT count(receive_stock('order-many-' || i, 1)) FROM generate_series(1, 1001) i;
RESET debug_discard_caches;
SELECT count(*), count(*) FILTER (WHERE granted = 1) AS granted
  FROM reserve_order('order-5', (
	SELECT jsonb_agg(jsonb_build_object('product_id', 'order-many-' || i, 'quantity', 1))
	  FROM generate_series(1, 1000) i));
SELECT outcome_of($$SELECT reserve_order('order-6', (
	SELECT jsonb_agg(jsonb_build_object('product_id', 'order-many-' || i, 'quantity', 1))
	  FROM generate_series(1, 1001) i))$$);
SET pgstock.max_lines = 2;
SELECT outcome_of($$SELECT reserve_order('order-6', '[
	{"product_id": "order-a", "quantity": 1}, {"product_id": "order-a", "quantity": 1},
	{"product_id": "order-a", "quantity": 1}]')$$);
RESET pgstock.max_lines;
SELECT status, count(*) FROM confirm_stock('order-5') GROUP BY 1;
SELECT * FROM verify_stock();
