--
-- overview: sales, what has happened last, the report
--
SELECT clock_timestamp() AS begun \gset
SELECT receive_stock('ov-a', 20), receive_stock('ov-b', 5);
SELECT open_flash_sale('ov-sale', 'ov-a', 4, 2);
SELECT open_flash_sale('ov-later', 'ov-a', 1, starts_at => now() + interval '1 day');
SELECT open_flash_sale('ov-over', 'ov-b', 2, ends_at => now() + interval '1 day');
SELECT status FROM purchase_flash_sale('ov-sale', 'ann', 'ov-1', 2);
SELECT status FROM purchase_flash_sale('ov-sale', 'bob', 'ov-2', 1);
SELECT status FROM confirm_stock('ov-1', 'pay-1');
SELECT status FROM purchase_flash_sale('ov-over', 'ann', 'ov-3', 1);
SELECT activity_id, product_id, quantity, per_user_limit, state, sold, remaining, closed_at FROM stock_sales WHERE activity_id ~ '^ov-' ORDER BY 1;
SELECT sum(orders) AS orders, sum(pieces) AS pieces, bool_and(at <= clock_timestamp()) AS past FROM sale_purchases('ov-sale');
SELECT count(*) FROM sale_purchases('none');
SELECT status FROM purchase_flash_sale('ov-sale', 'cid', 'ov-4', 1);
SELECT state, sold, remaining FROM stock_sales WHERE activity_id = 'ov-sale';
-- given back: no purchase any more
SELECT status FROM release_stock('ov-4', 'changed my mind');
SELECT state, sold, remaining FROM stock_sales WHERE activity_id = 'ov-sale';
SELECT sum(pieces) AS pieces FROM sale_purchases('ov-sale');
-- ended by itself, but not closed yet; closed by itself; closed by a call
UPDATE pgstock_internal.sale SET ends_at = now() - interval '1 second', starts_at = now() - interval '1 hour' WHERE activity_id = 'ov-over';
SELECT state, sold, remaining FROM stock_sales WHERE activity_id = 'ov-over';
SELECT pgstock_internal.end_sale('ov-over');
SELECT state, sold, remaining FROM stock_sales WHERE activity_id = 'ov-over';
SELECT close_flash_sale('ov-sale'), close_flash_sale('ov-later');
SELECT state, sold, remaining FROM stock_sales WHERE activity_id = 'ov-sale';
-- what was bought in closed sales is known until their retention is over
SELECT sum(pieces) AS pieces FROM sale_purchases('ov-sale');
SELECT pgstock_internal.purge_purchases(now() - interval '1 h', 10) AS too_early;
UPDATE pgstock_internal.sale SET closed_at = now() - interval '2 h' WHERE activity_id = 'ov-sale';
SELECT pgstock_internal.purge_purchases(now() - interval '1 h', 2) AS some, pgstock_internal.purge_purchases(now() - interval '1 h', 10) AS rest;
SELECT count(*) FROM sale_purchases('ov-sale');
SELECT sum(pieces) AS pieces FROM sale_purchases('ov-over');
-- what has happened last
SELECT status FROM reserve_stock('ov-b', 2, 'ov-5');
SELECT a ->> 'movement' = (SELECT max(id)::text FROM stock_movements) AS latest,
	   (SELECT l - 'version' FROM jsonb_array_elements(a -> 'levels') l WHERE l ->> 'product_id' = 'ov-b') AS level,
	   (SELECT to_jsonb(v) - 'version' FROM stock_levels v WHERE product_id = 'ov-b') AS of_the_view,
	   a -> 'orders' -> 0 ->> 'order_id' AS newest, (a ->> 'pending')::int > 0 AS pending, a -> 'leader' AS leader
  FROM stock_activity() a;
SELECT string_agg(k, ' ' ORDER BY k) AS members FROM jsonb_object_keys(stock_activity()) k;
-- the backlog is counted up to a bound
SELECT n FROM pgstock_internal.pending(2);
-- and so is what waits and what is open
BEGIN;
INSERT INTO pgstock_internal.failed_event (topic, partition, "offset", event_id, attempts, state, class, error, first_failed_at, archived_at, handled, source)
SELECT 'ov', 0, n, '', 1, w.state, 'permanent', 'e', now(), w.archived_at, false, '' FROM generate_series(1, 1001) n, (VALUES ('waiting', NULL), ('archived', now())) w (state, archived_at);
SELECT a -> 'failed_waiting' AS waiting, a -> 'failed_open' AS open FROM stock_activity() a;
ROLLBACK;
-- the report
SELECT status FROM confirm_stock('ov-5', 'pay-5');
SELECT status FROM return_stock('ov-5', '[{"product_id": "ov-b", "quantity": 1}]');
SELECT status FROM try_reserve_stock('ov-b', 100, 'ov-6');
SELECT a.result FROM apply('[{"topic": "order-created", "json": {"event_id": "ov-m1", "order_id": "ov-7", "items": [{"product_id": "ov-b", "quantity": 0}]}}]') a;
SELECT stock_report(:'begun') AS report \gset
SELECT m ->> 'kind' AS kind, m -> 'orders' AS orders, m -> 'pieces' AS pieces FROM jsonb_array_elements(:'report'::jsonb -> 'movements') m;
SELECT sum((d -> 'reserved')::int) AS reserved, sum((d -> 'confirmed')::int) AS confirmed FROM jsonb_array_elements(:'report'::jsonb -> 'days') d;
SELECT p.* FROM jsonb_array_elements(:'report'::jsonb -> 'products') p;
SELECT :'report'::jsonb #- '{failures,open}' -> 'failures' AS failures;
SELECT (:'report'::jsonb #>> '{calls,refusals,insufficient}')::int > 0 AS refused, f -> 'p99_ms' IS NOT NULL AS latency
  FROM jsonb_array_elements(:'report'::jsonb #> '{calls,functions}') f WHERE f ->> 'function' = 'try_reserve_stock';
SELECT stock_report(now() - interval '20 years', now() - interval '19 years') - 'since' - 'until' - 'calls' #- '{failures,open}' AS nothing;
SELECT (r ->> 'until')::timestamptz - (r ->> 'since')::timestamptz AS by_default FROM stock_report() r;
\set SHOW_CONTEXT never
SELECT stock_report(now(), now() - interval '1 day');
\set SHOW_CONTEXT errors
-- refusals and latencies are those of the period's days: the counters of each
-- day are kept, those of other runs of the server too
DELETE FROM pgstock_internal.call_day;
SELECT reset_stock_statistics();
DELETE FROM pgstock_internal.call_day;
CREATE FUNCTION ov_calls(since timestamptz, until timestamptz DEFAULT NULL) RETURNS TABLE (of_day boolean, calls jsonb, refused jsonb, p99 boolean, refusals jsonb) LANGUAGE sql AS $$
SELECT (c ->> 'since')::timestamptz = ov_calls.since, f -> 'calls', f -> 'refused', (f -> 'p99_ms') > '0', c -> 'refusals'
  FROM (SELECT stock_report(ov_calls.since, ov_calls.until) -> 'calls') r (c)
  LEFT JOIN jsonb_array_elements(c -> 'functions') f ON f ->> 'function' = 'try_reserve_stock'
$$;
CREATE FUNCTION ov_day(n int) RETURNS timestamptz LANGUAGE sql AS $$
SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + n * interval '24 h'
$$;
SELECT status FROM try_reserve_stock('ov-b', 100, 'ov-8');
SELECT status FROM try_reserve_stock('ov-none', 1, 'ov-8');
-- before the first row, those of the whole run
SELECT * FROM ov_calls(ov_day(-7));
SELECT pgstock_internal.keep_calls();
UPDATE pgstock_internal.call_day SET day = day - 10;
SELECT * FROM ov_calls(ov_day(-7));
SELECT status FROM try_reserve_stock('ov-b', 100, 'ov-8');
SELECT pgstock_internal.keep_calls();
SELECT ctid AS written FROM pgstock_internal.call_day ORDER BY day DESC LIMIT 1 \gset
SELECT pgstock_internal.keep_calls();
SELECT ctid = :'written' AS not_again FROM pgstock_internal.call_day ORDER BY day DESC LIMIT 1;
SELECT * FROM ov_calls(ov_day(-7));
SELECT * FROM ov_calls(ov_day(-12), ov_day(-5));
SELECT * FROM ov_calls(ov_day(-9), ov_day(-1));
SELECT * FROM ov_calls(ov_day(-12));
INSERT INTO pgstock_internal.call_day
SELECT stats_since - interval '30 days', function, day + 8, 5, 5, 0, '{"insufficient": 5}', 50, buckets FROM pgstock_internal.call_day ORDER BY day LIMIT 1;
SELECT * FROM ov_calls(ov_day(-3), ov_day(-1));
SELECT * FROM ov_calls(ov_day(-12));
-- the last row before a time stays, with which what still counts begins
INSERT INTO pgstock_internal.call_day
SELECT stats_since, function, day - 1, calls, refused, failed, refusals, total_time, buckets FROM pgstock_internal.call_day
 WHERE day < (now() AT TIME ZONE 'UTC')::date - 9;
SELECT pgstock_internal.purge_calls(ov_day(-9)), pgstock_internal.purge_calls(ov_day(-1)), count(*) FROM pgstock_internal.call_day;
SELECT * FROM ov_calls(ov_day(-7));
-- an array of an earlier version
SELECT pgstock_internal.call_quantile('{1,2}', 0.5) AS other, pgstock_internal.call_quantile('{0,0,0,0,0,0,0,0,0,0,0,0,0}', 0.5) AS none,
	   pgstock_internal.call_quantile('{0,10,0,0,0,0,0,0,0,0,0,0,0}', 0.5) AS half;
DROP FUNCTION ov_calls, ov_day;
-- the relay: none leads here
SELECT string_agg(k, ' ' ORDER BY k) AS members FROM jsonb_object_keys(stock_status()) k;
SELECT s ->> 'status' AS status, s -> 'problems' -> 0 AS problem, s -> 'leader' AS leader, s -> 'relays' AS relays,
	   (s -> 'pending_events')::int > 0 AS pending, s ->> 'database' = current_database() AS here,
	   (SELECT o -> 'next_offset' > '0' FROM jsonb_array_elements(s -> 'offsets') o WHERE o ->> 'topic' = 'order-created' AND o ->> 'partition' = '0') AS read
  FROM stock_status() s;
