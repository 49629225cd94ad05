--
-- redriven: a record that was sent back from a dead letter topic is another try
-- of the message in the archive
--
SELECT receive_stock('red-a', 10);
CREATE FUNCTION red_headers(id text, times int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('a', '1', '__dlq.event.id', id, '__dlq.event.source', 'payment-success', '__dlq.redrive.count', times::text)
$$;
CREATE FUNCTION red(n int, place int, headers jsonb) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_build_object('topic', 'payment-success', 'partition', 9, 'offset', place, 'key', 'red-' || n, 'headers', headers,
						  'json', jsonb_build_object('order_id', 'red-' || n))
$$;
CREATE FUNCTION red_retry() RETURNS TABLE (result text, reason text, n bigint) LANGUAGE sql AS $$
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE state = 'waiting' AND next_retry_at IS NOT NULL AND order_id ~ '^red-';
SELECT r.result, r.reason, r.n FROM pgstock_internal.relay_retry(50, relay_options() || '{"order_wait_ms": 0}') r
$$;
CREATE VIEW red AS SELECT f.order_id, f.state, f.handled, pgstock_internal.headers_json(f.headers) AS headers FROM pgstock_internal.failed_event f WHERE f.order_id ~ '^red-';
-- payments arrive before their orders, and are given up
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(1, 1, '{"ce_id": "red-e1"}'), red(2, 2, '{"ce_id": "red-e2"}'), red(3, 3, '{"ce_id": "red-e3"}')));
SELECT * FROM red_retry();
SELECT order_id, state, headers FROM red ORDER BY order_id;
SELECT reserve_stock('red-a', 1, o) IS NOT NULL FROM unnest('{red-1,red-2,red-3}'::text[]) o;
-- sent back: tried again, in the archive; a later message of its key waits
-- behind it, in the same batch too
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(1, 4, red_headers('red-e1')), red(1, 5, '{"ce_id": "red-e4"}')));
SELECT order_id, state, headers FROM red ORDER BY order_id;
SELECT event_id, result, regexp_replace(reason, '\d+', 'N') AS reason FROM stock_inbox WHERE key = 'red-1' ORDER BY "offset";
SELECT * FROM red_retry();
SELECT * FROM red_retry();
SELECT event_id, result, regexp_replace(reason, '\d+', 'N') AS reason FROM stock_inbox WHERE key = 'red-1' ORDER BY "offset";
SELECT action, regexp_replace(target, '\d+', 'N') AS target, reason FROM stock_admin_actions WHERE action = 'redrive';
-- the same letter once more, and twice in one batch; read again;
-- without its inbox row
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(1, 6, red_headers('red-e1')), red(1, 7, red_headers('red-e1'))));
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(1, 6, red_headers('red-e1'))));
DELETE FROM pgstock_internal.inbox WHERE order_id ~ '^red-';
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(1, 8, red_headers('red-e1'))));
SELECT event_id, result, regexp_replace(reason, '\d+', 'N') AS reason FROM stock_inbox WHERE key = 'red-1' ORDER BY "offset";
-- handled, and discarded: a person has decided
SELECT mark_failed_event_handled(id, 'refunded') FROM stock_failed_events WHERE order_id = 'red-2';
SELECT discard_failed_event(id, 'refunded') FROM stock_failed_events WHERE order_id = 'red-3';
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(2, 9, red_headers('red-e2')), red(3, 10, red_headers('red-e3'))));
SELECT event_id, result, regexp_replace(reason, '\d+', 'N') AS reason FROM stock_inbox WHERE key ~ '^red-[23]' ORDER BY "offset";
SELECT order_id, state FROM stock_reservations WHERE order_id ~ '^red-' ORDER BY 1;
-- given up again: the count is in the next dead letter, and each header once
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(5, 11, '{"ce_id": "red-e5"}')));
SELECT * FROM red_retry();
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(5, 12, red_headers('red-e5', 2))));
SELECT * FROM red_retry();
SELECT s.headers - '__dlq.errors.failed.time' - '__dlq.errors.group' AS headers, (SELECT count(*) FROM regexp_matches(encode(o.headers, 'escape'), '__dlq', 'g'))
  FROM stock_outbox s JOIN pgstock_internal.outbox o USING (seq) WHERE s.key = 'red-5' ORDER BY s.seq;
-- no archive has it: it is new, under its own id and with its own time; the
-- headers of a letter without a count are no identity
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(6, 13, red_headers('red-e6')), red(7, 14, red_headers('red-e7') - '__dlq.redrive.count'),
	red(8, 15, red_headers('red-e8') - '__dlq.event.source')));
SELECT key, event_id ~ '^red-e' AS own, result FROM stock_inbox WHERE key ~ '^red-[678]' ORDER BY key;
-- a damaged id or time does not stop it
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(9, 16, red_headers('') || '{"__dlq.event.time": "yesterday"}'),
	red(9, 17, red_headers(repeat('x', 300)))));
-- what a producer writes under the names of a letter's
-- headers does not get into its letter
SELECT topic, result, reason, n FROM apply('[{"topic": "payment-success", "partition": 9, "offset": 30, "key": "red-14", "text": "poison", "headers":
	{"ce_id": "red-e14", "__dlq.errors.sqlstate": "00000", "__dlq.errors.incomplete": "true", "__dlq.event.time": "never", "__dlq.event.id": "red-e1"}}]');
SELECT headers->>'__dlq.event.id' AS id, headers->>'__dlq.event.time' AS time, headers ?| '{__dlq.errors.sqlstate,__dlq.errors.incomplete}' AS forged
  FROM stock_outbox WHERE key = 'red-14';
-- the source that the binding names is the message's;
-- without the binding it is not
SELECT bind_topic('payment-success', 'payment_success', options => '{"source": "red-shop"}');
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(10, 18, red_headers('red-e10') || '{"__dlq.event.source": "red-shop"}'),
	red(11, 19, red_headers('red-e11'))));
SELECT unbind_topic('payment-success');
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(12, 20, red_headers('red-e12') || '{"__dlq.event.source": "red-shop"}')));
SELECT key, source, event_id ~ '^red-e' AS own, result FROM stock_inbox WHERE key ~ '^red-1[012]' ORDER BY key;
-- one who writes to another topic that shares a source
-- has no message of this one tried again
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(13, 21, '{"ce_id": "red-e13", "ce_source": "/red"}')));
SELECT DISTINCT result, reason FROM red_retry();
SELECT topic, result, regexp_replace(reason, '\d+', 'N') AS reason, n FROM apply(jsonb_build_array(
	red(13, 22, red_headers('red-e13') || '{"__dlq.event.source": "/red"}') || '{"topic": "red-other"}'));
SELECT order_id, state FROM red WHERE order_id = 'red-13';
SELECT topic, result, reason, n FROM apply(jsonb_build_array(red(13, 23, red_headers('red-e13') || '{"__dlq.event.source": "/red"}')));
SELECT order_id, state FROM red WHERE order_id = 'red-13';
DELETE FROM pgstock_internal.failed_event WHERE order_id ~ '^red-' OR key = 'red-14';
DELETE FROM pgstock_internal.admin_action WHERE action = 'redrive' OR reason = 'refunded';
DROP VIEW red;
DROP FUNCTION red_headers, red, red_retry;
