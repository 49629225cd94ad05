--
-- user_handler: a user's function for a topic, or for a type in it
--
CREATE SCHEMA uh;
CREATE TABLE uh.seen (id serial, what text, payload jsonb, message jsonb);
CREATE FUNCTION uh.note(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$
INSERT INTO uh.seen (what, payload, message) VALUES ('note', payload, message)
$$;
CREATE FUNCTION uh.shipped(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (what, payload, message) VALUES ('shipped', payload, message);
END
$$;
-- checked at once: the topic, the name, the signature
SELECT outcome_of($$SELECT register_handler('no topic', 'uh.note')$$);
SELECT outcome_of($$SELECT register_handler(NULL, 'uh.note')$$);
SELECT outcome_of($$SELECT register_handler('uh', 'uh.note', '')$$);
SELECT outcome_of($$SELECT register_handler('uh', '')$$);
SELECT outcome_of($$SELECT register_handler('uh', 'uh.missing')$$);
SELECT outcome_of($$SELECT register_handler('uh', 'missing.note')$$);
SELECT outcome_of($$SELECT register_handler('uh', 'uh.note(jsonb, jsonb)')$$);
CREATE FUNCTION uh.one(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION uh.counts(payload jsonb, message jsonb) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION uh.many(payload jsonb, message jsonb) RETURNS SETOF void LANGUAGE sql AS 'SELECT';
CREATE PROCEDURE uh.proc(payload jsonb, message jsonb) LANGUAGE sql AS 'SELECT';
SELECT n, outcome_of(format('SELECT register_handler(%L, %L)', 'uh', 'uh.' || n)) FROM unnest('{one,counts,many,proc}'::text[]) n;
-- a topic of mixed types: each has its handler, and one without is skipped
SELECT register_handler('uh', 'uh.shipped', 'Shipped');
SELECT result, reason, n FROM apply('[{"topic": "uh", "partition": 1, "offset": 0, "key": "k", "time": 1700000000123, "headers": {"ce_id": "uh-1", "ce_type": "Shipped", "x": "y"}, "json": {"a": [1, 2.5]}},
	{"topic": "uh", "partition": 1, "offset": 1, "json": {"eventType": "Shipped", "event_id": "uh-2", "order_id": 7}},
	{"topic": "uh", "partition": 1, "offset": 2, "json": {"event_type": "Delivered", "event_id": "uh-3"}},
	{"topic": "uh", "partition": 1, "offset": 3, "headers": {"ce_type": "Delivered"}, "text": "no JSON, and not ours"},
	{"topic": "uh", "partition": 1, "offset": 4, "json": {"event_id": "uh-4"}}]');
SELECT what, payload, message FROM uh.seen ORDER BY id;
SELECT event_id, order_id, result, reason FROM stock_inbox WHERE topic = 'uh' ORDER BY "offset";
SELECT topic, partition, next_offset FROM pgstock_internal.inbox_offset WHERE topic = 'uh';
-- the whole topic: every message without another handler; any JSON is valid
SELECT register_handler('uh', 'uh.note');
SELECT result, reason, n FROM apply('[{"topic": "uh", "headers": {"ce_type": "Shipped"}, "json": {}}, {"topic": "uh", "json": [1]}, {"topic": "uh", "text": "null"},
	{"topic": "uh", "headers": {"x": null}}, {"topic": "uh", "text": "{"}, {"topic": "uh", "text": ""}, {"topic": "uh", "text": "{\"a\": 1, \"a\": 2}"}, {"topic": "uh", "hex": "22ff22"}]');
SELECT what, payload, message->'key' AS key, message->'event_type' AS type, message->'headers' AS headers FROM uh.seen WHERE id > 2 ORDER BY id;
-- the same message twice is applied once
SELECT result, n FROM apply('[{"topic": "uh", "headers": {"ce_id": "uh-1"}, "json": {}}]');
-- it replaces the built-in handler, and NULL restores that
SELECT receive_stock('uh-a', 10);
SELECT register_handler('order-created', 'uh.note', 'Draft');
SELECT result, reason, n FROM apply('[{"topic": "order-created", "json": {"order_id": "uh-1", "items": [{"product_id": "uh-a", "quantity": 1}]}}]');
SELECT result, reason, n FROM apply('[{"topic": "order-created", "headers": {"ce_type": "Draft"}, "json": {"order_id": "uh-2"}}]');
-- one of each kind: the second one is for the next transaction
SELECT result, reason, n FROM apply('[{"topic": "order-created", "headers": {"ce_type": "Draft"}, "json": {}}, {"topic": "order-created", "json": {"order_id": "uh-8", "items": [{"product_id": "uh-a", "quantity": 1}]}}]');
SELECT register_handler('order-created', 'uh.note');
SELECT apply_one('order-created', '{"order_id": "uh-3", "items": [{"product_id": "uh-a", "quantity": 1}]}');
SELECT topic, event_type, handler, role = current_user AS mine FROM stock_handlers ORDER BY 1, 2;
SELECT register_handler('order-created', NULL), register_handler('order-created', NULL, 'Draft'), register_handler('order-created', NULL);
SELECT apply_one('order-created', '{"order_id": "uh-3", "items": [{"product_id": "uh-a", "quantity": 1}]}');
SELECT lines_of('uh-1'), lines_of('uh-2'), lines_of('uh-3');
-- its changes of stock have the message as their cause, its trace, and the name
-- of the role that registered it
CREATE FUNCTION uh.take(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ SELECT reserve_stock(payload->>'sku', 1, payload->>'order_id') $$;
CREATE ROLE regress_uh;
GRANT USAGE, CREATE ON SCHEMA uh TO regress_uh;
SELECT grant_stock_access('regress_uh', 'admin');
SET ROLE regress_uh;
SELECT register_handler('uh-take', 'uh.take');
RESET ROLE;
SELECT result, reason, n FROM apply('[{"topic": "uh-take", "headers": {"ce_id": "uh-cause", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "json": {"order_id": "uh-4", "sku": "uh-a"}}]');
SELECT payload->>'trace_id' AS trace, payload->>'causation_id' AS cause FROM stock_outbox WHERE key = 'uh-4';
SELECT actor FROM stock_movements WHERE order_id = 'uh-4';
-- only a function of the role's own:
-- it runs with the rights of the role that registers it
REVOKE EXECUTE ON FUNCTION uh.note FROM PUBLIC;
SET ROLE regress_uh;
SELECT outcome_of($$SELECT register_handler('uh-note', 'uh.note')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION uh.note TO regress_uh;
SET ROLE regress_uh;
SELECT register_handler('uh-note', 'uh.note');
RESET ROLE;
SELECT apply_one('uh-note', '{"order_id": "uh-5"}');
SELECT error FROM stock_failed_events WHERE order_id = 'uh-5';
GRANT INSERT ON uh.seen TO regress_uh;
GRANT USAGE ON SEQUENCE uh.seen_id_seq TO regress_uh;
SELECT apply_one('uh-note', '{"order_id": "uh-6"}');
REVOKE EXECUTE ON FUNCTION uh.note FROM regress_uh;
SELECT apply_one('uh-note', '{"order_id": "uh-7"}');
SELECT error FROM stock_failed_events WHERE order_id = 'uh-7';
-- each registration is recorded
SELECT actor = current_user AS mine, action, target, reason FROM stock_admin_actions WHERE action = 'register_handler' ORDER BY at;
-- classes of failure: data at once, the rest in steps;
-- no other message is affected
CREATE FUNCTION uh.fails(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (what, payload) VALUES ('fails', payload);
	IF payload ? 'code' THEN
		RAISE EXCEPTION 'it failed' USING ERRCODE = payload->>'code', DETAIL = 'Thus.';
	END IF;
END
$$;
SELECT register_handler('uh-fails', 'uh.fails');
SELECT result, reason, n FROM apply('[{"topic": "uh-fails", "json": {"id": 1}}]'::jsonb
	|| (SELECT jsonb_agg(jsonb_build_object('topic', 'uh-fails', 'key', 'k' || c, 'json', jsonb_build_object('code', c, 'order_id', 'uh-f-' || c)))
		FROM unnest('{22023,23505,SK001,P0001,42883,XX001,40001,57014,55P03,53100}'::text[]) c)
	|| '[{"topic": "uh-fails", "json": {"id": 2}}]');
SELECT result, reason, n FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'uh-fails', 'key', 'k' || c, 'json', jsonb_build_object('code', c, 'order_id', 'uh-f-' || c)))
		FROM unnest('{22023,23505,SK001,P0001,42883,XX001,40001,57014,55P03,53100}'::text[]) c)
	|| '[{"topic": "uh-fails", "json": {"id": 2}}, {"topic": "uh-fails", "key": "kP0001", "json": {"id": 3}}, {"topic": "uh-fails", "key": "k22023", "json": {"id": 4}}]');
SELECT payload FROM uh.seen WHERE what = 'fails' ORDER BY id;
SELECT f.order_id, f.state, f.attempts, i.class, i.sqlstate, f.error FROM stock_failed_events f JOIN pgstock_internal.failed_event i USING (id) WHERE f.topic = 'uh-fails' ORDER BY f.order_id COLLATE "C";
-- a retry: the messages behind it follow
CREATE OR REPLACE FUNCTION uh.fails(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$
INSERT INTO uh.seen (what, payload, message) VALUES ('again', payload, message)
$$;
UPDATE pgstock_internal.failed_event SET next_retry_at = '2100-01-01' WHERE topic ~ '^uh' AND state = 'waiting' AND next_retry_at IS NOT NULL;
SELECT retry_failed_event(order_id => 'uh-f-P0001'), retry_failed_event(order_id => 'uh-f-SK001');
SELECT topic, result, reason, n, attempts FROM pgstock_internal.relay_retry(50, relay_options());
SELECT topic, result, reason, n, attempts FROM pgstock_internal.relay_retry(50, relay_options());
SELECT payload, message->'attempt' AS attempt FROM uh.seen WHERE what = 'again' ORDER BY id;
SELECT order_id, state, attempts FROM stock_failed_events WHERE topic = 'uh-fails' AND state = 'retried' ORDER BY id;
-- no more than fifty to a transaction, never with built-in ones,
-- in the order of the batch
SELECT sum(n) FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'uh', 'partition', 9, 'offset', i, 'json', '{}'::jsonb)) FROM generate_series(1, 70) i));
SELECT next_offset FROM pgstock_internal.inbox_offset WHERE topic = 'uh' AND partition = 9;
SELECT topic, n FROM apply('[{"topic": "payment-failed", "json": {"order_id": "uh-1"}}, {"topic": "uh", "json": {}}]');
SELECT topic, n FROM apply('[{"topic": "uh", "json": {}}, {"topic": "payment-failed", "json": {"order_id": "uh-1"}}]');
-- a STRICT function cannot be given a tombstone
CREATE FUNCTION uh.strict(payload jsonb, message jsonb) RETURNS void STRICT LANGUAGE sql AS 'SELECT';
SELECT register_handler('uh-strict', 'uh.strict');
SELECT result, reason FROM apply('[{"topic": "uh-strict"}]');
-- a transient error is tried again at once, any other one is not:
-- how often the handler was called
CREATE SEQUENCE uh.calls;
CREATE FUNCTION uh.counted(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('calls');
	RAISE EXCEPTION 'it failed' USING ERRCODE = payload->>'code';
END
$$;
SELECT register_handler('uh-counted', 'uh.counted');
CREATE FUNCTION uh.calls_of(code text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setval('uh.calls', 1, false);
	PERFORM apply(jsonb_build_array(jsonb_build_object('topic', 'uh-counted', 'json', jsonb_build_object('code', code))));
	RETURN nextval('uh.calls') - 1;
END
$$;
SELECT code, uh.calls_of(code) FROM unnest('{08006,53100,57014,40001,40P01,55P03}'::text[]) code;
SELECT code, uh.calls_of(code) FROM unnest('{40000,40002,40003,55000,P0001,22023}'::text[]) code;
-- a timeout is not the reason of a later call
-- that fails before its handler begins
CREATE FUNCTION uh.sleeps(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)';
SELECT register_handler('uh-sleeps', 'uh.sleeps');
SET pgstock.handler_timeout = '20ms';
SELECT result, reason FROM apply('[{"topic": "uh-sleeps", "json": {}}]');
RESET pgstock.handler_timeout;
-- a dropped function, a dropped role
DROP FUNCTION uh.strict;
SELECT result, reason FROM apply('[{"topic": "uh-strict", "json": {}}]');
UPDATE pgstock_internal.user_handler SET role = 'regress_gone' WHERE topic = 'uh-take';
SELECT result, reason FROM apply('[{"topic": "uh-take", "json": {}}]');
DELETE FROM pgstock_internal.failed_event WHERE topic ~ '^uh';
DELETE FROM pgstock_internal.user_handler;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA uh CASCADE;
RESET client_min_messages;
SELECT grant_stock_access('regress_uh', 'none');
DROP ROLE regress_uh;
SELECT * FROM verify_stock();
