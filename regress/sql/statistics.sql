--
-- statistics: how many calls there were, how they were refused, how long
--
-- The counters are those of the whole database: nothing else calls meanwhile.
--
CREATE FUNCTION counted() RETURNS TABLE (function text, calls bigint, refused bigint, failed bigint, refusals jsonb)
LANGUAGE sql AS $$
SELECT s.function, s.calls, s.refused, s.failed, s.refusals
  FROM stock_statistics s WHERE s.calls > 0 ORDER BY s.function COLLATE "C"
$$;
-- The samples of a metric that are not 0.
CREATE FUNCTION samples(name text) RETURNS TABLE (labels text, value double precision)
LANGUAGE sql AS $$
SELECT m.labels, m.value FROM pgstock_internal.statistics_metrics() m
 WHERE m.name = $1 AND m.value <> 0
$$;
SELECT reset_stock_statistics();
SELECT * FROM counted();
SELECT action, target = current_database() AS here FROM stock_admin_actions ORDER BY at DESC LIMIT 1;

-- Calls that succeed, a repeated one too
SELECT receive_stock('st', 10);
SELECT granted, replayed FROM reserve_stock('st', 1, 'st-1');
SELECT granted, replayed FROM reserve_stock('st', 1, 'st-1');
SELECT status FROM confirm_stock('st-1');
SELECT status FROM confirm_stock('st-1');
SELECT * FROM counted();

-- Refusals that raise
SELECT reset_stock_statistics();
SELECT outcome_of($$SELECT reserve_stock('st', 100, 'st-2')$$);
SELECT outcome_of($$SELECT reserve_stock('st-none', 1, 'st-2')$$);
SELECT outcome_of($$SELECT reserve_stock('st', 2, 'st-1')$$);
SELECT outcome_of($$SELECT reserve_stock('st', 0, 'st-2')$$);
SELECT outcome_of($$SELECT confirm_stock('st-2')$$);
SELECT outcome_of($$SELECT release_stock('st-1')$$);
SELECT outcome_of($$SELECT set_stock('st', 5, expected_version => 99)$$);
SELECT outcome_of($$SELECT close_flash_sale('st-none')$$);
SELECT outcome_of($$SELECT publish_event('st', 'k', to_jsonb(repeat('x', 2000000)))$$);
SELECT * FROM counted();

-- Refusals that are answers: one for each order
SELECT reset_stock_statistics();
SELECT status FROM try_reserve_stock('st', 100, 'st-3');
SELECT status FROM try_reserve_order('st-3', '[{"product_id": "st", "quantity": 1}, {"product_id": "st-none", "quantity": 1}, {"product_id": "st-nil", "quantity": 1}]');
SELECT order_id, status FROM reserve_orders('[{"order_id": "st-4", "items": [{"product_id": "st", "quantity": 100}]},
 {"order_id": "st-5", "items": [{"product_id": "st", "quantity": 200}]},
 {"order_id": "st-6", "items": [{"product_id": "st", "quantity": 1}]}]');
SELECT status FROM purchase_flash_sale('st-none', 'u', 'st-7');
SELECT status FROM release_stock('st-none');
SELECT * FROM counted();

-- Failures: another transaction is the cause, or the server
SELECT reset_stock_statistics();
BEGIN;
SELECT status FROM try_reserve_stock('st', 1, 'st-8');
PREPARE TRANSACTION 'st';
SET lock_timeout = '10ms';
SELECT outcome_of($$SELECT try_reserve_stock('st', 1, 'st-9')$$) LIKE '55P03%' AS waited;
RESET lock_timeout;
ROLLBACK PREPARED 'st';
BEGIN READ ONLY;
SELECT outcome_of($$SELECT receive_stock('st', 1)$$);
ROLLBACK;
SELECT * FROM counted();

-- How transactions end
SELECT reset_stock_statistics();
SELECT granted FROM reserve_stock('st', 1, 'st-10');
BEGIN;
SELECT granted FROM reserve_stock('st', 1, 'st-11');
ROLLBACK;
SELECT granted FROM reserve_stock('st', 100, 'st-11');
BEGIN;
SELECT status FROM try_reserve_stock('st', 100, 'st-11');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT granted FROM reserve_stock('st', 100, 'st-11');
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT granted FROM reserve_stock('st', 1, 'st-12');
PREPARE TRANSACTION 'st';
ROLLBACK PREPARED 'st';
BEGIN;
ROLLBACK;
SELECT * FROM samples('call_transactions_total');

-- From reservation to confirmation, if it commits
UPDATE pgstock_internal.reservation SET created_at = created_at - interval '7 minutes' WHERE order_id = 'st-10';
BEGIN;
SELECT status FROM confirm_stock('st-10');
ROLLBACK;
SELECT * FROM samples('reservation_confirm_seconds_bucket');
SELECT status FROM confirm_stock('st-10');
SELECT * FROM samples('reservation_confirm_seconds_bucket');
SELECT value BETWEEN 420 AND 600 AS seven_minutes FROM samples('reservation_confirm_seconds_sum');
SELECT granted FROM reserve_stock('st', 1, 'st-13');
SELECT apply_one('payment-success', '{"order_id": "st-13", "payment_id": "p"}');
SELECT * FROM samples('reservation_confirm_seconds_count');

-- Times
SELECT function, total_time > 0 AS t, mean_time > 0 AS m, p95_time > 0 AS p95, p99_time >= p95_time AS p99, stats_since < clock_timestamp() AS s
  FROM stock_statistics WHERE calls > 0 ORDER BY function COLLATE "C";
SELECT mean_time, p95_time FROM stock_statistics WHERE function = 'move_stock';
-- Every bound, and the sum of a function's calls
SELECT substring(m.labels FROM 'le="(.*)"') AS le, m.value = s.calls AS all_calls
  FROM pgstock_internal.statistics_metrics() m, stock_statistics s
 WHERE m.name = 'call_duration_seconds_bucket' AND s.function = 'move_stock'
   AND m.labels LIKE '%"move_stock"%';

-- Another session sees them, and its calls are counted as well
SELECT calls AS before FROM stock_statistics WHERE function = 'reserve_stock' \gset
\c -
SELECT granted FROM reserve_stock('st', 1, 'st-20');
SELECT calls - :before AS more FROM stock_statistics WHERE function = 'reserve_stock';
SET pgstock.track_calls = off;
SELECT granted FROM reserve_stock('st', 1, 'st-21');
SELECT calls - :before AS more FROM stock_statistics WHERE function = 'reserve_stock';
RESET pgstock.track_calls;

-- What the proof of the ledger found, of all products
SELECT count(*) AS found FROM verify_stock() \gset
SELECT value = :found AS noted FROM pgstock_internal.statistics_metrics() WHERE name = 'ledger_differences';
SELECT value < 60 AS just_now FROM pgstock_internal.statistics_metrics() WHERE name = 'ledger_verified_seconds';
UPDATE pgstock_internal.level SET on_hand = on_hand + 1 WHERE product_id = 'st';
SELECT count(*) FROM verify_stock('st');
SELECT value = :found AS unchanged FROM pgstock_internal.statistics_metrics() WHERE name = 'ledger_differences';
SELECT count(*) - :found AS more FROM verify_stock();
SELECT value - :found AS more FROM pgstock_internal.statistics_metrics() WHERE name = 'ledger_differences';
UPDATE pgstock_internal.level SET on_hand = on_hand - 1 WHERE product_id = 'st';
SELECT count(*) - :found AS more FROM verify_stock();

-- What is known of the database
SELECT name, substring(labels FROM '^\w+="\w+"') AS labels, value > 0 AS positive FROM pgstock_internal.relay_metrics()
 WHERE name IN ('data_directory_bytes', 'database_info') ORDER BY 1, 2;
SELECT pgstock_internal.metric_label('a', E'b"\\\n');
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SELECT pgstock_internal.metric_label('a', E'b"\\\n');
RESET standard_conforming_strings;

-- Who may read, who may reset
CREATE ROLE regress_st LOGIN;
SELECT grant_stock_access('regress_st', 'reader');
SET ROLE regress_st;
SELECT count(*) > 20 AS functions FROM stock_statistics;
SELECT reset_stock_statistics();
RESET ROLE;
SELECT grant_stock_access('regress_st', 'app');
SET ROLE regress_st;
SELECT count(*) FROM stock_statistics;
RESET ROLE;
SELECT grant_stock_access('regress_st', 'admin');
SET ROLE regress_st;
SELECT reset_stock_statistics();
RESET ROLE;
SELECT grant_stock_access('regress_st', 'none');
DROP ROLE regress_st;
DROP FUNCTION counted, samples;
