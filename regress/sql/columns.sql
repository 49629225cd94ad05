--
-- columns: a table of pgstock's to which a column was added is refused, rather
-- than written with NULL in it whatever its default is
--
SELECT receive_stock('col-a', 10);
ALTER TABLE pgstock_internal.level ADD shelf text NOT NULL DEFAULT 'none';
SELECT outcome_of($$SELECT receive_stock('col-b', 1)$$);
SELECT outcome_of($$SELECT reserve_stock('col-a', 1, 'col-1')$$);
ALTER TABLE pgstock_internal.level DROP shelf;
SELECT receive_stock('col-b', 1);
-- each table that is written, also a partitioned one
SELECT t, outcome_of(format('ALTER TABLE pgstock_internal.%I ADD extra int DEFAULT 7', t)) AS alter, outcome_of(c) AS outcome, outcome_of(format('ALTER TABLE pgstock_internal.%I DROP extra', t)) AS back
  FROM (VALUES ('reservation', $$SELECT reserve_stock('col-a', 1, 'col-2')$$),
	('movement', $$SELECT receive_stock('col-a', 1)$$),
	('outbox', $$SELECT publish_event('col', 'k', '{}')$$),
	('idempotency', $$SELECT reserve_stock('col-a', 1, 'col-3', idempotency_key => 'col-k')$$),
	('inbox', $$SELECT apply_one('payment-failed', '{"order_id": "col-4"}')$$),
	('event_topic', $$SELECT set_event_topic('Col', 'col')$$)) AS v (t, c);
SELECT count(*) FROM stock_movements WHERE product_id ~ '^col-';
SELECT status FROM reserve_stock('col-a', 1, 'col-5');
SELECT publish_event('col', 'k', '{}') IS NOT NULL AS published;
SELECT * FROM verify_stock();
