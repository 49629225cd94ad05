--
-- batch: many orders in one commit, each all or none; a refused order affects
-- no other; the answers are in the order of the request
--
\set row 'order_id, product_id, location, requested, granted, status, available, replayed'
SELECT receive_stock('batch-a', 5), receive_stock('batch-b', 2);
SELECT :row FROM reserve_orders('[
	{"order_id": "batch-2", "user_id": "ann", "items": [{"product_id": "batch-b", "quantity": 1}, {"product_id": "batch-a", "quantity": 3}]},
	{"order_id": "batch-1", "items": [{"product_id": "batch-a", "quantity": 3}, {"product_id": "batch-b", "quantity": 1}]},
	{"order_id": "batch-3", "user_id": null, "items": [{"product_id": "batch-x", "quantity": 1}]},
	{"order_id": 4, "items": [{"product_id": "batch-a", "quantity": 1}, {"product_id": "batch-a", "quantity": 1}]}]');
SELECT level_of('batch-a'), level_of('batch-b'), lines_of('batch-1'), lines_of('batch-2'), lines_of('4');
SELECT events_of('batch-1'), events_of('batch-2'), events_of('4');
-- repeated: granted orders are replayed, refused ones are tried again
SELECT receive_stock('batch-a', 5);
SELECT :row FROM reserve_orders('[
	{"order_id": "batch-2", "user_id": "ann", "items": [{"product_id": "batch-a", "quantity": 3}, {"product_id": "batch-b", "quantity": 1}]},
	{"order_id": "batch-1", "items": [{"product_id": "batch-a", "quantity": 3}, {"product_id": "batch-b", "quantity": 1}]}]');
-- an order that lives with other lines, or another user: its row reports it,
-- the others are reserved
SELECT :row FROM reserve_orders('[{"order_id": "batch-5", "items": [{"product_id": "batch-a", "quantity": 1}]},
	{"order_id": "batch-2", "user_id": "ann", "items": [{"product_id": "batch-a", "quantity": 1}, {"product_id": "batch-b", "quantity": 9}]},
	{"order_id": "4", "user_id": "bob", "items": [{"product_id": "batch-a", "quantity": 2}]}]');
SELECT lines_of('batch-2'), lines_of('batch-5'), events_of('batch-2');
-- the same order twice in one batch: the second is the first one's replay
SELECT :row FROM reserve_orders('[
	{"order_id": "batch-6", "items": [{"product_id": "batch-a", "quantity": 1}]},
	{"order_id": "batch-6", "items": [{"product_id": "batch-a", "quantity": 1}]}]');
SELECT events_of('batch-6');
-- due lines of others make room for as many orders as they can
SELECT receive_stock('batch-c', 4);
SELECT status FROM reserve_stock('batch-c', 4, 'batch-7');
SELECT make_due('batch-7');
SELECT :row FROM reserve_orders('[
	{"order_id": "batch-8", "items": [{"product_id": "batch-c", "quantity": 5}]},
	{"order_id": "batch-9", "items": [{"product_id": "batch-c", "quantity": 3}]},
	{"order_id": "batch-10", "items": [{"product_id": "batch-c", "quantity": 1}]}]');
SELECT lines_of('batch-7'), events_of('batch-7'), level_of('batch-c');
-- a large one
SELECT status, count(*) FROM reserve_orders((SELECT jsonb_agg(jsonb_build_object('order_id', 'batch-m' || i, 'items',
	'[{"product_id": "batch-m", "quantity": 1}]'::jsonb)) FROM generate_series(1, 500) i, (SELECT receive_stock('batch-m', 300)) r)) GROUP BY 1 ORDER BY 1;
-- what all of them want together, 2^63 + 1, is no reason not to lock the level
SET pgstock.max_lines = 2000;
SELECT status, count(*) FROM reserve_orders((SELECT jsonb_agg(jsonb_build_object('order_id', 'batch-w' || i, 'items', jsonb_build_array(
	jsonb_build_object('product_id', 'batch-w', 'quantity', CASE i WHEN 0 THEN 1 ELSE 2::numeric ^ 53 END::bigint))))
	FROM generate_series(0, 1024) i, (SELECT receive_stock('batch-w', 5)) r)) GROUP BY 1 ORDER BY 1;
RESET pgstock.max_lines;
SELECT level_of('batch-w'), lines_of('batch-w0');
-- a line more of an order, a time of its own, and the trace of its events
SELECT receive_stock('batch-d', 9), receive_stock('batch-e', 9);
SELECT :row FROM reserve_orders('[
	{"order_id": "batch-11", "items": [{"product_id": "batch-d", "quantity": 1}], "trace_id": "trace-11"},
	{"order_id": "batch-11", "whole": false, "items": [{"product_id": "batch-e", "quantity": 2}], "ttl": "2 hours"},
	{"order_id": "batch-11", "whole": false, "items": [{"product_id": "batch-e", "quantity": 2}]},
	{"order_id": "batch-11", "whole": false, "items": [{"product_id": "batch-e", "quantity": 3}]},
	{"order_id": "batch-12", "whole": false, "items": [{"product_id": "batch-e", "quantity": 1}], "ttl": "0"}]', '1 hour');
SELECT order_id, product_id, round(extract(epoch FROM expires_at - now()) / 3600) AS hours FROM stock_reservations
	WHERE order_id IN ('batch-11', 'batch-12') ORDER BY 1, 2;
SELECT key, payload->>'trace_id' AS trace_id, payload #>> '{items,0,product_id}' AS product FROM stock_outbox
	WHERE key IN ('batch-11', 'batch-12') ORDER BY seq;
-- idempotency keys: the answer is stored,
-- that of a reservation that has ended is not "granted"
\set keyed '[{"order_id": "batch-14", "idempotency_key": "batch-z", "items": [{"product_id": "batch-d", "quantity": 1}]}, {"order_id": "batch-13", "idempotency_key": "batch-y", "items": [{"product_id": "batch-d", "quantity": 99}]}]'
SELECT :row FROM reserve_orders(:'keyed');
SELECT receive_stock('batch-d', 200);
SELECT :row FROM reserve_orders(:'keyed');
SELECT status FROM release_stock('batch-14');
SELECT :row FROM reserve_orders(:'keyed');
SELECT outcome_of(format('SELECT reserve_orders(%L)', replace(:'keyed', '99', '98')));
SELECT outcome_of(format('SELECT reserve_orders(%L)', replace(:'keyed', 'batch-y', 'batch-z')));
-- invalid arguments
\pset format unaligned
\pset tuples_only on
SELECT o, outcome_of(format('SELECT reserve_orders(%L)', o)) FROM unnest(ARRAY['{}', '7', '[]', '[1]', '[{}]', '[{"order_id": "x"}]',
	'[{"items": [{"product_id": "a", "quantity": 1}]}]', '[{"order_id": "", "items": [{"product_id": "a", "quantity": 1}]}]',
	'[{"order_id": "x", "items": {}}]', '[{"order_id": "x", "items": []}]', '[{"order_id": "x", "items": [{"product_id": "a", "quantity": 0}]}]',
	'[{"order_id": "x", "user_id": "", "items": [{"product_id": "a", "quantity": 1}]}]', '[{"order_id": true, "items": [{"product_id": "a", "quantity": 1}]}]',
	'[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "ttl": 5}]', '[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "ttl": "soon"}]',
	'[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "ttl": "-1 s"}]', '[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "whole": 1}]',
	'[{"order_id": "x", "whole": false, "items": [{"product_id": "a", "quantity": 1}, {"product_id": "b", "quantity": 1}]}]',
	'[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "idempotency_key": ""}]', '[{"order_id": "x", "items": [{"product_id": "a", "quantity": 1}], "trace_id": []}]']) o;
SELECT outcome_of('SELECT reserve_orders(NULL)');
SELECT * FROM verify_stock();
