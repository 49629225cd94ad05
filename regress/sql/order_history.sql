--
-- order_history: what an order went through; stock_orders; orders that hang;
-- its events once more
--
SET pgstock.actor = 'clerk';
CREATE FUNCTION order_steps(order_id text) RETURNS TABLE (kind text, what text, product_id text, quantity bigint, more text) LANGUAGE sql AS $$
SELECT h.kind, h.what, h.product_id, h.quantity,
	   concat_ws(' ', h.detail ->> 'result', h.detail ->> 'attempt', h.detail ->> 'state', h.detail ->> 'reason',
				 CASE WHEN h.trace_id IS NOT NULL THEN 'trace ' || h.trace_id END, CASE WHEN h.detail ? 'replay_of' THEN 'copy' END)
  FROM order_history(order_id) WITH ORDINALITY h ORDER BY h.ordinality
$$;
SELECT receive_stock('oh-a', 10), receive_stock('oh-b', 10);
-- two attempts by SQL: released, then paid and returned
SET pgstock.trace_id = '00-11111111111111111111111111111111-2222222222222222-01';
SELECT status FROM reserve_order('oh-1', '[{"product_id": "oh-b", "quantity": 1}, {"product_id": "oh-a", "quantity": 2}]', 'ann');
RESET pgstock.trace_id;
SELECT * FROM stock_orders WHERE order_id = 'oh-1' AND created_at IS NULL;
SELECT attempt, state, user_id, expires_at > created_at AS expires, confirmed_at, ended_at, lines, quantity, reason, payment_id FROM stock_orders WHERE order_id = 'oh-1';
SELECT status FROM release_stock('oh-1', 'changed my mind');
SELECT attempt, state, ended_at >= created_at AS ended, lines, reason FROM stock_orders WHERE order_id = 'oh-1';
SELECT status FROM reserve_stock('oh-a', 3, 'oh-1', 'ann');
SELECT status FROM confirm_stock('oh-1', 'pay-1');
SELECT attempt, state, confirmed_at >= created_at AS confirmed, ended_at, lines, quantity, payment_id FROM stock_orders WHERE order_id = 'oh-1';
SELECT status FROM return_stock('oh-1');
SELECT attempt, state, lines, quantity, payment_id FROM stock_orders WHERE order_id = 'oh-1';
SELECT * FROM order_steps('oh-1');
SELECT count(*) = count(*) FILTER (WHERE event_id IS NOT NULL AND detail ->> 'actor' ~ '/clerk$') AS linked FROM order_history('oh-1') WHERE kind = 'movement';
-- by messages: before its order, its order, paid, and a second payment
SELECT a.topic, a.result, a.reason FROM apply('[{"topic": "payment-success", "json": {"event_id": "oh-m1", "order_id": "oh-2", "payment_id": "pay-2", "trace_id": "t-2"}}]') a;
SELECT kind, what, event_id, trace_id, detail ->> 'result' AS result FROM order_history('oh-2');
SELECT a.topic, a.result, a.reason FROM apply('[{"topic": "order-created", "json": {"event_id": "oh-m2", "order_id": "oh-2", "trace_id": "t-2", "items": [{"product_id": "oh-b", "quantity": 2}]}}]') a;
SELECT retry_failed_event(order_id => 'oh-2');
SELECT count(*) FILTER (WHERE result = 'applied') AS applied FROM pgstock_internal.relay_retry(10, relay_options());
SELECT a.topic, a.result, a.reason FROM apply('[{"topic": "payment-success", "json": {"event_id": "oh-m3", "order_id": "oh-2", "payment_id": "pay-3"}}]') a;
SELECT * FROM order_steps('oh-2');
SELECT kind, what, event_id, detail ->> 'tries' AS tries, detail ->> 'class' AS class, detail ->> 'error' AS error, detail -> 'failures' IS NOT NULL AS failures FROM order_history('oh-2') WHERE kind IN ('failure', 'message') ORDER BY kind, event_id;
-- refused: no line, but an event; and a poisoned message
SELECT a.topic, a.result, a.reason FROM apply('[{"topic": "order-created", "json": {"event_id": "oh-m4", "order_id": "oh-3", "items": [{"product_id": "oh-b", "quantity": 99}]}},
	{"topic": "order-created", "json": {"event_id": "oh-m5", "order_id": "oh-3", "items": [{"product_id": "oh-b", "quantity": 0}]}}]') a;
SELECT * FROM order_steps('oh-3');
SELECT count(*) FROM stock_orders WHERE order_id = 'oh-3';
-- shortfall, expiry, an application's own event with the order's key,
-- a product with the order's name
SELECT status FROM reserve_stock('oh-a', 1, 'oh-4');
SELECT make_due('oh-4');
SELECT expire_reservations() > 0 AS some;
SELECT receive_stock('oh-4', 5), publish_event('shop', 'oh-4', '{"reason": "mine"}') IS NOT NULL AS own, publish_bytes('shop', 'oh-4', 'not json') IS NOT NULL AS bytes;
SELECT * FROM order_steps('oh-4');
-- mixed lines: the state is that of the line furthest from its end
SELECT status FROM reserve_order('oh-5', '[{"product_id": "oh-a", "quantity": 1}, {"product_id": "oh-b", "quantity": 1}]');
SELECT status FROM release_stock('oh-5', 'one', '[{"product_id": "oh-a", "quantity": 1}]');
SELECT state, lines, ended_at, reason FROM stock_orders WHERE order_id = 'oh-5';
SELECT state, count(*) FROM stock_orders WHERE order_id ~ '^oh-' GROUP BY 1 ORDER BY 1;
-- retired: still found; reserved again after that it is another attempt
SELECT status FROM reserve_stock('oh-a', 1, 'oh-6', 'bob');
SELECT status FROM confirm_stock('oh-6', 'pay-6');
UPDATE pgstock_internal.reservation SET confirmed_at = now() - interval '2 days' WHERE order_id = 'oh-6';
SELECT pgstock_internal.retire_orders(now() - interval '1 day', 100) > 0 AS retired;
SELECT attempt, state, user_id, payment_id FROM stock_orders WHERE order_id = 'oh-6';
SELECT kind, what, detail -> 'retired' AS retired FROM order_history('oh-6') WHERE kind = 'reservation';
-- nothing is stored; no id
SELECT * FROM order_history('oh-none');
SELECT outcome_of('SELECT * FROM order_history('''')'), outcome_of('SELECT * FROM order_history(NULL)');
-- the order of facts is that of time, and the same at each call
SELECT count(*) FROM (SELECT at < lag(at) OVER (ORDER BY n) AS back FROM order_history('oh-2') WITH ORDINALITY h (at, kind, what, p, l, q, e, t, d, n)) x WHERE back;
SELECT md5(string_agg(h::text, '' ORDER BY ordinality)) = (SELECT md5(string_agg(h::text, '' ORDER BY ordinality)) FROM order_history('oh-2') WITH ORDINALITY h) AS same FROM order_history('oh-2') WITH ORDINALITY h;
-- by indexes: none of the large tables is read as a whole
BEGIN;
CREATE FUNCTION oh_reads() RETURNS bigint LANGUAGE sql AS $$
SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint FROM pg_class c
 WHERE c.oid::regclass::text ~ '^pgstock_internal.(outbox_[0-9]+|movement_[0-9]+|inbox|reservation|reservation_history_[0-9]+|failed_event|held_event)$'
$$;
SELECT oh_reads() AS before \gset
SELECT count(*) > 0 AS some FROM order_history('oh-2');
SELECT oh_reads() - :before AS read_by_scans;
ROLLBACK;
-- an event that a movement of its order names is found by it, and has no entry
-- in the index on the key; any other has one
SELECT event_type, by_key, count(*) FROM (SELECT o.type AS event_type, o.by_key FROM pgstock_internal.outbox o
	WHERE o.aggregateid IN ('oh-1', 'oh-2', 'oh-3', 'oh-4', 'oh-5', 'oh-6')) e GROUP BY 1, 2 ORDER BY e.event_type COLLATE "C", 2;
SELECT publish_event('shop', repeat('k', 255), '{}') IS NOT NULL AND publish_event('shop', repeat('k', 256), '{}') IS NOT NULL AND publish_event('shop', NULL, '{}') IS NOT NULL AS made;
SELECT octet_length(o.aggregateid) AS bytes, o.by_key FROM pgstock_internal.outbox o WHERE o.aggregatetype = 'shop' AND (o.aggregateid LIKE 'kkkk%' OR o.aggregateid IS NULL) ORDER BY 1;
-- so each of the latest events of orders is found, once;
-- except where a test has purged its movements
WITH latest AS MATERIALIZED (
	SELECT o.seq, o.id, o.by_key, convert_from(o.aggregateid, 'UTF8') AS order_id
	  FROM (SELECT * FROM pgstock_internal.outbox ORDER BY seq DESC LIMIT 1000) o
	 WHERE octet_length(o.aggregateid) BETWEEN 1 AND 255 AND o.format = 'j'
	   AND NOT pgstock_internal.is_level_event(pgstock_internal.payload_json(o.payload, 'j'))
), found AS MATERIALIZED (
	SELECT k.order_id, r.seq
	  FROM (SELECT DISTINCT order_id FROM latest) k, LATERAL pgstock_internal.order_rows(k.order_id) r
)
SELECT count(*) > 10 AS many, count(*) FILTER (WHERE e.found > 1 OR e.found = 0 AND (e.by_key OR e.named)) AS wrong
  FROM (SELECT l.by_key, (SELECT count(*) FROM found f WHERE f.order_id = l.order_id AND f.seq = l.seq) AS found,
			   EXISTS (SELECT FROM pgstock_internal.movement m WHERE m.order_id = l.order_id AND m.event_id = l.id) AS named
		  FROM latest l) e;
-- an id that no order can have
SELECT c, outcome_of(format(c, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i))) FROM unnest(ARRAY['SELECT * FROM order_history(%L)', 'SELECT resend_events(%L, ''x'')',
	'SELECT repair_stock(%L, ''x'')', 'SELECT retry_failed_event(order_id => %L)', 'SELECT pgstock_internal.relay_rewind(%L, ''{0}'', ''{0}'', ''x'')']) c;
SELECT outcome_of(format('SELECT resend_events(%L, %L)', repeat('o', 255), 'x')), outcome_of(format('SELECT resend_events(%L, %L)', repeat('o', 256), 'x'));
-- ---- its events once more ----
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT outcome_of($$SELECT resend_events('oh-1', '')$$), outcome_of($$SELECT resend_events(NULL, 'x')$$);
-- not while one of its events is pending:
-- a copy of an earlier one would be published after it
SELECT outcome_of($$SELECT resend_events('oh-1', 'not published yet')$$);
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT resend_events('oh-1', 'the shop lost them'), resend_events('oh-none', 'nothing');
SELECT o.event_type, o.headers ->> 'replay_of' = lpad(e.seq::text, 20, '0') AS marked, o.event_id = e.event_id AS same_id, o.payload = e.payload AS same
  FROM stock_outbox o JOIN stock_outbox e ON e.event_id = o.event_id AND e.seq < o.seq WHERE o.key = 'oh-1' ORDER BY o.seq;
SELECT what, more FROM order_steps('oh-1') WHERE kind IN ('event', 'admin');
SELECT outcome_of($$SELECT resend_events('oh-1', 'too soon')$$);
-- a copy is not copied, nor a dead letter, and no product's event
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT resend_events('oh-1', 'again'), resend_events('oh-4', 'again');
-- nor while an event of a held topic waits, or one that this transaction wrote,
-- or where another's commit would not be seen
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
BEGIN;
SELECT pgstock_internal.relay_hold('stock-events', 'no', :epoch), pgstock_internal.relay_set_aside(ARRAY[max(seq)], :epoch) FROM stock_outbox WHERE key = 'oh-5';
SELECT outcome_of($$SELECT resend_events('oh-5', 'held')$$);
ROLLBACK;
BEGIN;
SELECT status FROM confirm_stock('oh-5', 'pay-5');
SELECT outcome_of($$SELECT resend_events('oh-5', 'mine')$$);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome_of($$SELECT resend_events('oh-5', 'blind')$$);
ROLLBACK;
SELECT resend_events('oh-5', 'none is pending');
-- nor in silence where the movements that name its events were purged
BEGIN;
DELETE FROM pgstock_internal.movement WHERE order_id = 'oh-1';
SELECT resend_events('oh-1', 'purged');
ROLLBACK;
SELECT action, target, reason, actor = session_user || '/clerk' AS me FROM stock_admin_actions WHERE action = 'resend_events' AND target ~ 'oh-' ORDER BY at;
-- whatever the events and their members are named: a level's are not the
-- order's; an application's own are
SELECT set_event_profile('inventory'), set_event_format('StockReserved', 'StockLevelChanged', 'snake_case');
SELECT receive_stock('oh-20', 5), publish_event('shop', 'oh-20', '{"product_id": "oh-20", "on_hand": 1}') IS NOT NULL AS own;
SELECT status FROM reserve_stock('oh-20', 1, 'oh-20');
SELECT status FROM release_stock('oh-20');
SELECT receive_stock('oh-20', 5);
SELECT event_type FROM stock_outbox WHERE key = 'oh-20' ORDER BY seq;
SELECT what FROM order_history('oh-20') WHERE kind = 'event';
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT resend_events('oh-20', 'renamed');
-- trace and cause are shown with either form of the names
SELECT set_event_profile('inventory');
SELECT a.result FROM apply('[{"topic": "order-created", "json": {"event_id": "oh-m21", "order_id": "oh-21", "trace_id": "t-21", "items": [{"product_id": "oh-b", "quantity": 1}]}}]') a;
SELECT what, trace_id, detail -> 'causation_id' AS causation_id FROM order_history('oh-21') WHERE kind IN ('event', 'movement');
SELECT set_event_profile('default');
-- ---- orders that hang ----
SELECT status FROM reserve_stock('oh-a', 1, 'oh-7', ttl => '0');
SELECT status FROM reserve_stock('oh-a', 1, 'oh-8');
SELECT status FROM reserve_stock('oh-a', 1, 'oh-9');
SELECT a.topic, a.result, a.reason FROM apply('[{"topic": "payment-success", "json": {"event_id": "oh-m9", "order_id": "oh-10"}}]') a;
SELECT order_id FROM stock_hanging_orders WHERE order_id ~ '^oh-';
UPDATE pgstock_internal.reservation SET created_at = now() - interval '3 hours' WHERE order_id ~ '^oh-[789]$';
UPDATE pgstock_internal.failed_event SET first_failed_at = now() - interval '2 hours' WHERE order_id = 'oh-10';
SELECT make_due('oh-9');
SELECT order_id, kind, since < now() - interval '1 hour' AS old, topic, event_id, reason FROM stock_hanging_orders WHERE order_id ~ '^oh-' ORDER BY since, order_id;
-- younger lines are not even grouped
CREATE FUNCTION oh_grouped() RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	plan	jsonb;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) SELECT count(*) FROM stock_hanging_orders' INTO plan;
	RETURN (SELECT sum(n::numeric) FROM jsonb_path_query(plan, 'strict $.** ? (@."Relation Name" == "reservation")."Actual Rows"') n);
END
$$;
SELECT oh_grouped() = count(*) FILTER (WHERE created_at < now() - interval '1 hour') AS old_only, count(*) FILTER (WHERE created_at > now() - interval '1 hour') > 0 AS others FROM pgstock_internal.reservation WHERE state = 'r';
DROP FUNCTION oh_grouped;
SET pgstock.hanging_after = '150 min';
SELECT order_id FROM stock_hanging_orders WHERE order_id ~ '^oh-' ORDER BY 1;
SELECT labels, value >= CASE labels WHEN 'kind="message"' THEN 0 ELSE 3 END AS counted FROM pgstock_internal.relay_metrics() WHERE name = 'orders_hanging' ORDER BY 1;
RESET pgstock.hanging_after;
SELECT outcome_of('SET pgstock.hanging_after = 0') ~ 'outside the valid range' AS refused;
SELECT discard_failed_event(id, 'a test') FROM stock_failed_events WHERE event_id = 'oh-m9';
SELECT pg_advisory_unlock_all();
DROP FUNCTION order_steps;
RESET pgstock.actor;
SELECT * FROM verify_stock();
