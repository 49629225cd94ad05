--
-- strategies: they differ in which call waits, not in the answer
--
SELECT receive_stock('strategies-a', 12), receive_stock('strategies-b', 12);
SELECT configure_product('strategies-b', slots => 3);
-- The answer; then everything is released.
CREATE FUNCTION answers_of(strategy text, OUT answers text)
LANGUAGE plpgsql AS $$
BEGIN
	SELECT string_agg(concat_ws(' ', product_id, granted, status, available), E'\n')
	  INTO answers FROM (
		SELECT * FROM try_reserve_stock('strategies-a', 2, 's1-' || $1, strategy => $1)
		UNION ALL
		SELECT * FROM try_reserve_stock('strategies-a', 99, 's2-' || $1, strategy => $1)
		UNION ALL
		SELECT * FROM try_reserve_order('s3-' || $1, '[{"product_id": "strategies-a", "quantity": 1},
			{"product_id": "strategies-b", "quantity": 12}]', strategy => $1)
		UNION ALL
		SELECT * FROM try_reserve_stock('strategies-b', 1, 's4-' || $1, strategy => $1)
		UNION ALL
		SELECT * FROM try_reserve_stock('strategies-none', 1, 's5-' || $1, strategy => $1)) a;
	PERFORM release_stock('s1-' || $1), release_stock('s3-' || $1);
END
$$;
SELECT answers_of('auto');
SELECT s, answers_of(s) = answers_of('auto') AS same FROM unnest('{pessimistic,optimistic,advisory}'::text[]) s;
-- an order that this very transaction has changed is no conflict
BEGIN;
SELECT status FROM reserve_stock('strategies-a', 1, 'strategies-1', strategy => 'optimistic');
SELECT status FROM reserve_stock('strategies-a', 1, 'strategies-2', strategy => 'optimistic');
SELECT status FROM reserve_stock('strategies-b', 1, 'strategies-3', strategy => 'optimistic');
SELECT status FROM reserve_stock('strategies-b', 9, 'strategies-4', strategy => 'optimistic');
COMMIT;
-- the lock by product is of a class of its own
BEGIN;
SELECT status FROM reserve_stock('strategies-a', 1, 'strategies-5', strategy => 'advisory');
SELECT to_hex(objsubid::int) AS class, count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() GROUP BY 1 ORDER BY 1;
COMMIT;
SELECT * FROM verify_stock('strategies-a') UNION ALL SELECT * FROM verify_stock('strategies-b');
