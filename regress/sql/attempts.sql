--
-- attempts: each try is recorded before it begins, so that a message that ends
-- the process each time is found and given up.  A session that ends between the
-- record and the try stands for the process that died.
--
SELECT receive_stock('att-a', 100);
CREATE SCHEMA att;
CREATE TABLE att.seen (id int);
CREATE FUNCTION att.note(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO att.seen VALUES ((payload->>$$id$$)::int)';
SELECT register_handler('att-user', 'att.note');
-- Applies a batch of a topic, from an offset on; its results.
CREATE FUNCTION att.batch(topic text, first int, last int, retries int DEFAULT 3) RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C"), 'nothing')
  FROM (SELECT jsonb_agg(jsonb_build_object('topic', topic, 'offset', i, 'headers', jsonb_build_object('ce_id', topic || i),
			'json', jsonb_build_object('id', i, 'order_id', topic || '-' || i, 'items', '[{"product_id": "att-a", "quantity": 1}]'::jsonb)) ORDER BY i) AS batch FROM generate_series(first, last) i) b,
	   LATERAL apply(b.batch, relay_options() || jsonb_build_object('count_attempts', true, 'retry_delays_ms', (SELECT coalesce(jsonb_agg(1000), '[]') FROM generate_series(1, retries)))) r
$$;
CREATE VIEW att.record AS SELECT topic, first_offset, last_offset, started, suspect_to FROM pgstock_internal.inbox_attempt WHERE topic ~ '^(att|order-cr)' ORDER BY topic;
-- a built-in handler's first try in a session is recorded,
-- the others cost nothing
SELECT att.batch('order-created', 0, 4);
SELECT * FROM att.record;
SELECT att.batch('order-created', 0, 4), att.batch('order-created', 5, 9);
SELECT * FROM att.record;
-- all tries of users' handlers are recorded
SELECT att.batch('att-user', 0, 4);
SELECT att.batch('att-user', 0, 4);
SELECT att.batch('att-user', 5, 9);
SELECT * FROM att.record;
-- the process dies: the messages of the try are applied one at a time,
-- up to its end
\c -
CALL wait_alone();
SELECT att.batch('att-user', 5, 12);
SELECT * FROM att.record;
SELECT att.batch('att-user', 5, 12), att.batch('att-user', 6, 12);
SELECT att.batch('att-user', 6, 12), att.batch('att-user', 7, 12);
-- and dies again, with the message that caused it
SELECT * FROM att.record;
\c -
CALL wait_alone();
SELECT att.batch('att-user', 7, 12);
\c -
CALL wait_alone();
SELECT att.batch('att-user', 7, 12);
\c -
CALL wait_alone();
SELECT att.batch('att-user', 7, 12);
SELECT * FROM att.record;
\c -
CALL wait_alone();
-- the fourth death is the last
SELECT att.batch('att-user', 7, 12);
SELECT att.batch('att-user', 7, 12);
SELECT order_id, reason, attempts FROM failed_order_archives WHERE event_id = 'att-user7';
SELECT headers->>'__dlq.errors.class' AS class, headers->>'__dlq.errors.delivery.count' AS deliveries FROM stock_outbox WHERE headers->>'ce_id' = 'att-user7';
-- the others continue, and once the suspects are through, together again
SELECT att.batch('att-user', 8, 12), att.batch('att-user', 9, 12);
SELECT att.batch('att-user', 9, 12);
SELECT att.batch('att-user', 10, 12), att.batch('att-user', 10, 12);
SELECT * FROM att.record;
SELECT id FROM att.seen ORDER BY id;
-- the same with a built-in handler, and without retry delays;
-- one death of a batch is no reason to give up
SELECT att.batch('order-created', 10, 12, 0);
\c -
CALL wait_alone();
SELECT att.batch('order-created', 10, 12, 0);
\c -
CALL wait_alone();
SELECT att.batch('order-created', 10, 12, 0);
SELECT att.batch('order-created', 10, 12, 0);
SELECT att.batch('order-created', 11, 12, 0), att.batch('order-created', 11, 12, 0);
SELECT att.batch('order-created', 12, 14, 0), att.batch('order-created', 12, 14, 0);
SELECT att.batch('order-created', 13, 16, 0);
SELECT order_id, reason, attempts FROM failed_order_archives WHERE event_id = 'order-created10';
SELECT lines_of('order-created-9'), lines_of('order-created-10'), lines_of('order-created-16');
-- a message behind a suspect is not tried with it: it may wait through many
-- deaths, and none counts against it
CREATE FUNCTION att.two() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C")
  FROM apply('[{"topic": "order_failed", "partition": 81, "offset": 5, "json": {"order_id": "order-created-9"}},
			   {"topic": "order_failed", "partition": 82, "offset": 5, "json": {"order_id": "order-created-16"}}]', relay_options() || '{"count_attempts": true}') r
$$;
SELECT att.two();
\c -
CALL wait_alone();
SELECT att.two();
\c -
CALL wait_alone();
SELECT att.two();
\c -
CALL wait_alone();
SELECT att.two();
SELECT partition, first_offset, started FROM pgstock_internal.inbox_attempt WHERE partition IN (81, 82) ORDER BY 1;
SELECT att.two();
SELECT lines_of('order-created-9');
-- a waiting message: its tries count the same,
-- once the session that made them has ended
CREATE OR REPLACE FUNCTION att.note(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
SELECT att.batch('att-user', 13, 14), att.batch('att-user', 13, 14);
CREATE FUNCTION att.retry() RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C", r.n), 'nothing')
  FROM pgstock_internal.relay_retry(50, relay_options() || '{"count_attempts": true}') r WHERE r.topic = 'att-user'
$$;
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE topic = 'att-user' AND state = 'waiting';
SELECT att.retry();
\c -
CALL wait_alone();
SELECT att.retry();
SELECT started, state FROM pgstock_internal.failed_event WHERE topic = 'att-user' ORDER BY id;
SELECT att.retry();
SELECT started, attempts, state FROM pgstock_internal.failed_event WHERE topic = 'att-user' ORDER BY id;
\c -
CALL wait_alone();
SELECT att.retry();
\c -
CALL wait_alone();
SELECT att.retry();
\c -
CALL wait_alone();
SELECT att.retry();
SELECT att.retry();
SELECT event_id, attempts, state, error FROM stock_failed_events WHERE topic = 'att-user' ORDER BY id;
-- and the same for waiting messages: only the one that is tried is counted
CREATE FUNCTION att.waiting() RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C", r.n), 'nothing')
  FROM pgstock_internal.relay_retry(50, relay_options() || '{"count_attempts": true}') r WHERE r.topic = 'payment-success'
$$;
SELECT n, result FROM apply('[{"topic": "payment-success", "partition": 83, "offset": 1, "json": {"order_id": "att-1"}}, {"topic": "payment-success", "partition": 83, "offset": 2, "json": {"order_id": "att-2"}}]');
CREATE VIEW att.waits AS SELECT string_agg(started::text, ' ' ORDER BY id) AS started FROM pgstock_internal.failed_event WHERE topic = 'payment-success' AND partition = 83;
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE topic = 'payment-success' AND partition = 83;
\c -
CALL wait_alone();
SELECT att.waiting();
TABLE att.waits;
\c -
CALL wait_alone();
SELECT att.waiting();
TABLE att.waits;
\c -
CALL wait_alone();
SELECT att.waiting();
TABLE att.waits;
SELECT att.waiting();
TABLE att.waits;
SELECT att.waiting();
TABLE att.waits;
SELECT att.waiting();
TABLE att.waits;
DELETE FROM pgstock_internal.failed_event WHERE topic = 'payment-success' AND partition = 83;
-- a relay that lives and only loses its connections: none of its tries has
-- killed a process, in however many sessions it begins them
CREATE FUNCTION att.by(relay text, topic text, first int, last int) RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C"), 'nothing')
  FROM (SELECT jsonb_agg(jsonb_build_object('topic', topic, 'partition', 90, 'offset', i, 'headers', jsonb_build_object('ce_id', topic || '-by-' || i),
			'json', jsonb_build_object('id', i)) ORDER BY i) AS batch FROM generate_series(first, last) i) b,
	   LATERAL apply(b.batch, relay_options() || jsonb_build_object('count_attempts', true, 'relay', relay)) r
$$;
CREATE OR REPLACE FUNCTION att.note(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO att.seen VALUES ((payload->>$$id$$)::int)';
SELECT att.by('one', 'att-user', 100, 104);
\c -
CALL wait_alone();
SELECT att.by('one', 'att-user', 100, 104);
SELECT att.by('one', 'att-user', 105, 109);
\c -
CALL wait_alone();
BEGIN;
SELECT att.by('one', 'att-user', 105, 109);
ROLLBACK;
\c -
CALL wait_alone();
BEGIN;
SELECT att.by('one', 'att-user', 105, 109);
ROLLBACK;
SELECT started, suspect_to FROM pgstock_internal.inbox_attempt WHERE topic = 'att-user' AND partition = 90;
\c -
CALL wait_alone();
SELECT att.by('one', 'att-user', 105, 109);
-- another process: the former may have died of it
SELECT att.by('one', 'att-user', 110, 112);
\c -
CALL wait_alone();
SELECT att.by('two', 'att-user', 110, 112);
SELECT started, suspect_to FROM pgstock_internal.inbox_attempt WHERE topic = 'att-user' AND partition = 90;
SELECT att.by('two', 'att-user', 110, 112);
-- the same for a waiting message
CREATE FUNCTION att.retry_by(relay text) RETURNS text LANGUAGE sql AS $$
SELECT coalesce(string_agg(format('%s %s %s', r.n, r.result, r.reason), ', ' ORDER BY r.result COLLATE "C", r.n), 'nothing')
  FROM pgstock_internal.relay_retry(50, relay_options() || jsonb_build_object('count_attempts', true, 'relay', relay)) r WHERE r.topic = 'att-user'
$$;
CREATE OR REPLACE FUNCTION att.note(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
SELECT att.by('one', 'att-user', 120, 120);
SELECT att.by('one', 'att-user', 120, 120);
UPDATE pgstock_internal.failed_event SET next_retry_at = CASE event_id WHEN 'att-user-by-120' THEN timestamptz '2020-01-01' ELSE '2100-01-01' END
 WHERE topic = 'att-user' AND state = 'waiting' AND next_retry_at IS NOT NULL;
SELECT att.retry_by('one');
\c -
CALL wait_alone();
BEGIN;
SELECT att.retry_by('one');
ROLLBACK;
\c -
CALL wait_alone();
SELECT started FROM pgstock_internal.failed_event WHERE event_id = 'att-user-by-120';
SELECT att.retry_by('two');
SELECT started FROM pgstock_internal.failed_event WHERE event_id = 'att-user-by-120';
DELETE FROM pgstock_internal.failed_event WHERE topic = 'att-user';
DELETE FROM pgstock_internal.inbox_attempt WHERE partition = 90;
-- a record covers messages that may share a transaction: no more than fifty,
-- and of one kind
CREATE TEMP TABLE kinds AS SELECT jsonb_agg(jsonb_build_object('topic', 'att-user', 'partition', 1, 'offset', i, 'json', '{}'::jsonb)) AS mine,
	'[{"topic": "payment-failed", "partition": 77, "offset": 0, "json": {}}]'::jsonb AS built_in FROM generate_series(0, 59) i;
SELECT result, n FROM kinds, apply(built_in || mine, relay_options() || '{"count_attempts": true}');
SELECT topic, first_offset, last_offset FROM pgstock_internal.inbox_attempt WHERE partition <> 0 ORDER BY topic;
SELECT result, n FROM kinds, apply(mine || built_in, relay_options() || '{"count_attempts": true}');
SELECT topic, first_offset, last_offset FROM pgstock_internal.inbox_attempt WHERE partition <> 0 ORDER BY topic;
DELETE FROM pgstock_internal.failed_event WHERE topic = 'att-user';
DELETE FROM pgstock_internal.user_handler;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA att CASCADE;
RESET client_min_messages;
SELECT * FROM verify_stock();
