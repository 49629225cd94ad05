--
-- one_by_one: a call about one line of an order reads that line,
-- not all of them:
-- adding thousands one by one takes time in proportion to their number
--
SET debug_discard_caches = 0;
SELECT count(receive_stock('one-' || i, 10)) FROM generate_series(1, 600) i;
RESET debug_discard_caches;
-- How many rows of reservations a command reads.
CREATE FUNCTION rows_read(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before	bigint;
BEGIN
	SELECT pg_stat_get_xact_tuples_fetched('pgstock_internal.reservation_pkey'::regclass) INTO before;
	EXECUTE command;
	RETURN pg_stat_get_xact_tuples_fetched('pgstock_internal.reservation_pkey'::regclass) - before;
END
$$;
SET debug_discard_caches = 0;
SELECT count(reserve_stock('one-' || i, 2, 'one-order')) FROM generate_series(1, 600) i;
RESET debug_discard_caches;
SELECT rows_read($$SELECT reserve_stock('one-601', 1, 'one-order')$$) < 9 AS few FROM receive_stock('one-601', 10);
SELECT rows_read($$SELECT reserve_stock('one-300', 2, 'one-order')$$) < 9 AS again,
	   rows_read($$SELECT release_stock('one-order', items => '[{"product_id": "one-300", "quantity": 1}]')$$) < 9 AS some,
	   rows_read($$SELECT release_stock('one-order', items => '[{"product_id": "one-99", "quantity": 2}, {"product_id": "one-599", "quantity": 2}]')$$) < 9 AS lines;
SELECT outcome_of($$SELECT reserve_stock('one-300', 2, 'one-order')$$);
SELECT outcome_of($$SELECT release_stock('one-order', items => '[{"product_id": "one-none", "quantity": 1}]')$$);
SELECT state, count(*), sum(quantity) FROM stock_reservations WHERE order_id = 'one-order' GROUP BY 1 ORDER BY 1;
-- the line with the last key has ended: the order lives,
-- and a new line has the same attempt
SELECT status FROM release_stock('one-order', items => '[{"product_id": "one-599", "quantity": 2}, {"product_id": "one-98", "quantity": 2}]');
SELECT status FROM reserve_stock('one-99', 3, 'one-order');
SELECT attempt, count(*) FROM pgstock_internal.reservation WHERE order_id = 'one-order' GROUP BY 1 ORDER BY 1;
-- a due line expires before it is reserved again, and others are not touched
SELECT make_due('one-order');
SELECT status FROM reserve_stock('one-5', 10, 'one-order');
SELECT attempt, state, count(*) FROM pgstock_internal.reservation WHERE order_id = 'one-order' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT status FROM reserve_stock('one-6', 10, 'one-order');
SELECT status, count(*) FROM release_stock('one-order') GROUP BY 1;
-- a new attempt reads the former one
SELECT rows_read($$SELECT reserve_stock('one-7', 1, 'one-order')$$) < 20 AS few;
SELECT attempt, state, count(*) FROM pgstock_internal.reservation WHERE order_id = 'one-order' GROUP BY 1, 2 ORDER BY 1, 2;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT status FROM reserve_stock('one-8', 1, 'one-order');
SELECT status FROM release_stock('one-order', items => '[{"product_id": "one-7", "quantity": 1}]');
COMMIT;
SELECT * FROM verify_stock() WHERE product_id ~ '^one-';
DROP FUNCTION rows_read;
