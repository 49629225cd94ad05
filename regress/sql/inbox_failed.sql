--
-- inbox_failed: a message that failed alone: retried with growing delays, then
-- a dead letter; at once where no retry can help
--
SELECT receive_stock('inf-a', 100);
-- One message that made its batch fail.
CREATE FUNCTION failed(event_id text, sqlstate text, value jsonb, topic text DEFAULT 'order-created') RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', a.result, a.reason) FROM pgstock_internal.relay_apply_failed(ARRAY[topic], '{0}', ARRAY[nextval('next_offset')], '{-1}',
	ARRAY[convert_to('key', 'UTF8')], ARRAY[convert_to(value::text, 'UTF8')], ARRAY[pack_headers(jsonb_build_object('ce_id', event_id))],
	relay_options(), sqlstate, 'it went "wrong"') a
$$;
CREATE FUNCTION later() RETURNS void LANGUAGE sql AS $$
UPDATE pgstock_internal.failed_event SET next_retry_at = now() - interval '1 min' WHERE state = 'waiting' AND next_retry_at IS NOT NULL
$$;
CREATE VIEW failing AS
SELECT f.event_id, f.order_id, f.state, f.attempts, i.class, i.sqlstate, f.error, n.result, n.reason,
	   round(extract(epoch FROM f.next_retry_at - clock_timestamp()), -3) AS wait_s
  FROM stock_failed_events f JOIN pgstock_internal.failed_event i USING (id) JOIN stock_inbox n ON n.event_id = f.event_id
 WHERE f.event_id ~ '^inf-' ORDER BY f.id;
-- no retry can help: data, constraints, stock
SELECT s, failed('inf-' || s, s, '{"order_id": "inf-1", "items": [{"product_id": "inf-a", "quantity": 1}]}') FROM unnest('{22023,23505,SK001}'::text[]) s;
SELECT * FROM failing;
SELECT headers->>'__dlq.errors.sqlstate' AS sqlstate, headers->>'__dlq.errors.class' AS class, headers->>'__dlq.errors.message' AS message,
	   headers->>'__dlq.errors.delivery.count' AS deliveries FROM stock_outbox WHERE topic = 'order-created_dlq' AND headers->>'ce_id' ~ '^inf-' ORDER BY seq;
-- others wait for a retry: then it succeeds
SELECT failed('inf-e1', 'P0001', '{"order_id": "inf-1", "items": [{"product_id": "inf-a", "quantity": 1}]}');
SELECT * FROM failing WHERE event_id = 'inf-e1';
-- a message with its key waits behind it, one of another topic does not
SELECT apply_one('order-created', '{"order_id": "inf-2", "items": [{"product_id": "inf-a", "quantity": 1}]}', 'key');
SELECT apply_one('payment-failed', '{"order_id": "inf-x"}', 'other key');
SELECT lines_of('inf-1'), lines_of('inf-2');
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options());
SELECT lines_of('inf-1'), lines_of('inf-2');
SELECT event_id, state, attempts, result, reason FROM failing WHERE event_id = 'inf-e1';
-- the failure and its reason are kept for later questions
SELECT event_id, state, class, sqlstate, error FROM failing WHERE event_id = 'inf-e1';
SELECT regexp_replace(f, '^\d{4}-\d\d-\d\dT\S+Z', 'TIME') AS failure FROM pgstock_internal.failed_event, unnest(failures) f WHERE event_id = 'inf-e1';
SELECT failures ~ '^\d{4}-\d\d-\d\dT\S+Z retry P0001: it went "wrong"$' AS shown FROM pgstock_internal.relay_failed(NULL, 'retried', NULL, NULL, NULL, 'inf-1', 0, 10);
-- it fails each time: 10, 30, 60 seconds, then a dead letter
SELECT failed('inf-e2', '42883', '{"order_id": "inf-3", "items": [{"product_id": "inf-a", "quantity": 1}]}');
SELECT event_id, state, attempts, class, sqlstate, result, wait_s FROM failing WHERE event_id = 'inf-e2';
ALTER TABLE pgstock_internal.refused_order RENAME TO refused_order_away;
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'order-created';
SELECT event_id, state, attempts, class, sqlstate, result, wait_s FROM failing WHERE event_id = 'inf-e2';
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'order-created';
SELECT event_id, state, attempts, class, sqlstate, result, wait_s FROM failing WHERE event_id = 'inf-e2';
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'order-created';
SELECT event_id, state, attempts, class, sqlstate, result, wait_s FROM failing WHERE event_id = 'inf-e2';
ALTER TABLE pgstock_internal.refused_order_away RENAME TO refused_order;
SELECT order_id, reason, attempts, handled FROM failed_order_archives WHERE event_id = 'inf-e2';
SELECT topic, headers->>'__dlq.errors.class' AS class, headers->>'__dlq.errors.sqlstate' AS sqlstate, headers->>'__dlq.errors.delivery.count' AS deliveries
  FROM stock_outbox WHERE headers->>'ce_id' = 'inf-e2';
SELECT lines_of('inf-3'), level_of('inf-a');
-- each failure that differs from the one before it is recorded,
-- and repeated ones are not
SELECT regexp_replace(f, '^\S+', 'TIME') AS failure FROM pgstock_internal.failed_event, unnest(failures) f WHERE event_id = 'inf-e2';
UPDATE pgstock_internal.failed_event SET state = 'waiting', next_retry_at = now() - interval '1 s' WHERE event_id = 'inf-e2';
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'order-created';
SELECT event_id, state, class, sqlstate, error, result FROM failing WHERE event_id = 'inf-e2';
SELECT lines_of('inf-3');
-- a message that waited for its order has that recorded, once
SELECT apply_one('payment-success', '{"order_id": "inf-late", "event_id": "inf-e8"}');
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'payment-success';
SELECT status FROM reserve_stock('inf-a', 1, 'inf-late');
SELECT later();
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'payment-success';
SELECT f.event_id, f.state, f.error, array_length(i.failures, 1) FROM stock_failed_events f JOIN pgstock_internal.failed_event i USING (id) WHERE f.event_id = 'inf-e8';
-- without delays there is one try
SELECT a.result FROM pgstock_internal.relay_apply_failed('{order-created}', '{0}', ARRAY[nextval('next_offset')], '{-1}', '{NULL}', '{"{\"order_id\": \"inf-4\", \"items\": [{\"product_id\": \"inf-a\", \"quantity\": 1}]}"}', '{NULL}',
	relay_options() || '{"retry_delays_ms": []}', 'XX000', 'cannot happen') a;
-- a waiting message that can no longer be applied, because a limit has changed
SELECT failed('inf-e5', 'P0001', '{"order_id": "inf-5", "items": [{"product_id": "inf-a", "quantity": 1}, {"product_id": "inf-b", "quantity": 1}]}');
SELECT later();
SET pgstock.max_lines = 1;
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(10, relay_options()) WHERE topic = 'order-created';
RESET pgstock.max_lines;
-- a duplicate or poison needs no class of error
SELECT failed('inf-e1', 'P0001', '{"order_id": "inf-1"}'), failed('inf-e6', 'P0001', '[]'), failed('inf-e7', 'P0001', '{}', 'no-topic');
-- its arguments
SELECT outcome_of($$SELECT pgstock_internal.relay_apply_failed('{}', '{}', '{}', '{}', '{}', '{}', '{}', relay_options(), 'P0001', 'm')$$);
SELECT outcome_of($$SELECT pgstock_internal.relay_apply_failed('{a}', '{0}', '{0}', '{0}', '{NULL}', '{NULL}', '{NULL}', relay_options(), NULL, 'm')$$);
SELECT outcome_of($$SELECT pgstock_internal.relay_retry(10, NULL)$$), outcome_of($$SELECT pgstock_internal.relay_retry(NULL, relay_options())$$);
DELETE FROM pgstock_internal.failed_event WHERE state = 'waiting';
DROP VIEW failing;
DROP FUNCTION failed, later;
SELECT * FROM verify_stock();
