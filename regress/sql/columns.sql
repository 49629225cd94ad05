--
-- columns: a table of pgstock's whose columns are not those that it was made
-- with is refused, rather than written with NULL, or read as something else
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
-- a column with another type or collation, or none any more,
-- would be read as something else
CREATE FUNCTION with_key(n int) RETURNS text LANGUAGE sql AS $$
SELECT outcome_of(format('SELECT reserve_stock(''col-a'', 1, ''col-%s'', idempotency_key => ''col-k%s'')', n, n))
$$;
ALTER TABLE pgstock_internal.idempotency ALTER request TYPE text;
SELECT with_key(6);
ALTER TABLE pgstock_internal.idempotency ALTER request TYPE bigint USING request::bigint;
SELECT with_key(6);
ALTER TABLE pgstock_internal.event_topic ALTER event_type TYPE text COLLATE "default";
SELECT outcome_of($$SELECT set_event_topic('Col2', 'col')$$);
ALTER TABLE pgstock_internal.event_topic ALTER event_type TYPE text COLLATE "C";
SELECT outcome_of($$SELECT set_event_topic('Col2', 'col')$$);
BEGIN;
ALTER TABLE pgstock_internal.idempotency DROP answer;
SELECT with_key(7);
ROLLBACK;
SELECT with_key(7);
DROP FUNCTION with_key;
DELETE FROM pgstock_internal.event_topic WHERE topic = 'col';
SELECT status FROM reserve_stock('col-a', 1, 'col-5');
SELECT publish_event('col', 'k', '{}') IS NOT NULL AS published;
SELECT * FROM verify_stock();
