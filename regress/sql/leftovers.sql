--
-- leftovers: work that a handler defers is done within its own subtransaction,
-- and a change to its own message stops no other message
--
CREATE SCHEMA lo;
CREATE ROLE regress_lo;
CREATE ROLE regress_lo_other;
GRANT USAGE, CREATE ON SCHEMA lo TO regress_lo, regress_lo_other;
SELECT grant_stock_access('regress_lo', 'admin'), grant_stock_access('regress_lo_other', 'admin');
-- Runs the commands in the payload.
CREATE FUNCTION lo.runs(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	command	text;
BEGIN
	FOR command IN SELECT jsonb_array_elements_text(payload->'run') LOOP
		EXECUTE command;
	END LOOP;
END
$$;
CREATE TABLE lo.ran (what text, who text);
CREATE TABLE lo.first (a int);
CREATE TABLE lo.second (a int);
GRANT ALL ON ALL TABLES IN SCHEMA lo TO PUBLIC;
CREATE FUNCTION lo.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO lo.ran VALUES (tg_table_name, current_user);
	RETURN NULL;
END
$$;
-- Fired by a deferred constraint, it defers another.
CREATE FUNCTION lo.defers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.a = 1 THEN
		SET CONSTRAINTS ALL DEFERRED;
	ELSIF NEW.a = 2 THEN
		BEGIN
			EXECUTE 'SET CONSTRAINTS lo.second_late DEFERRED';
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	ELSIF NEW.a = 3 THEN
		SET CONSTRAINTS ALL IMMEDIATE;
	ELSIF NEW.a = 5 THEN
		CREATE TABLE lo.fresh (a int);
		CREATE CONSTRAINT TRIGGER fresh_late AFTER INSERT ON lo.fresh DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lo.note();
		BEGIN
			SET CONSTRAINTS ALL IMMEDIATE;
			PERFORM 1 / 0;
		EXCEPTION WHEN division_by_zero THEN
			INSERT INTO lo.fresh VALUES (5);
		END;
	END IF;
	INSERT INTO lo.second VALUES (NEW.a);
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER first_late AFTER INSERT ON lo.first DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lo.defers();
CREATE CONSTRAINT TRIGGER second_late AFTER INSERT ON lo.second DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lo.note();
SET ROLE regress_lo;
SELECT register_handler('lo', 'lo.runs', 'Mine');
SET ROLE regress_lo_other;
SELECT register_handler('lo', 'lo.runs', 'Other');
RESET ROLE;
CREATE SEQUENCE lo.key;
-- A transaction, as the relay makes it; each message is "type:
-- command | command".
CREATE FUNCTION lo.apply(VARIADIC commands text[]) RETURNS TABLE (result text, reason text, n bigint) LANGUAGE sql AS $$
SELECT a.result, a.reason, a.n FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'lo', 'key', nextval('lo.key'), 'headers', jsonb_build_object('ce_type', split_part(c.command, ': ', 1)),
	'json', jsonb_build_object('order_id', 'lo-' || c.n, 'run', string_to_array(substr(c.command, strpos(c.command, ': ') + 2), ' | '))) ORDER BY c.n)
	FROM unnest(commands) WITH ORDINALITY AS c (command, n))) a
$$;
-- no trigger runs at COMMIT, as the relay's role:
-- a trigger deferred again is refused, or runs before
SELECT * FROM lo.apply('Mine: INSERT INTO lo.first VALUES (1)');
SELECT * FROM lo.apply('Mine: INSERT INTO lo.first VALUES (2)', 'Mine: INSERT INTO lo.first VALUES (3)', 'Other: INSERT INTO lo.first VALUES (4)');
SELECT * FROM lo.ran ORDER BY what, who;
-- nor one of a trigger that is created meanwhile
SELECT * FROM lo.apply('Mine: INSERT INTO lo.first VALUES (5)');
SELECT * FROM lo.ran WHERE what = 'fresh';
TRUNCATE lo.ran, lo.first, lo.second;
-- before that, a handler may change between DEFERRED and IMMEDIATE
SELECT * FROM lo.apply('Mine: SET CONSTRAINTS ALL DEFERRED | INSERT INTO lo.first VALUES (4) | SET CONSTRAINTS lo.second_late DEFERRED | INSERT INTO lo.second VALUES (4)');
SELECT * FROM lo.ran ORDER BY what, who;
-- within its time limit
SET pgstock.handler_timeout = '100ms';
CREATE FUNCTION lo.sleeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE TABLE lo.third (a int);
GRANT ALL ON lo.third TO PUBLIC;
CREATE CONSTRAINT TRIGGER third_late AFTER INSERT ON lo.third DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lo.sleeps();
SELECT * FROM lo.apply('Mine: INSERT INTO lo.third VALUES (1)');
RESET pgstock.handler_timeout;
-- the next handler cannot read a cursor or large object that was left open
CREATE FUNCTION lo.opens() RETURNS void LANGUAGE plpgsql AS $$ DECLARE c refcursor := 'lo_secret'; BEGIN OPEN c FOR SELECT 'secret'; END $$;
BEGIN;
DECLARE mine CURSOR FOR SELECT 'kept';
SELECT * FROM lo.apply('Mine: SELECT lo.opens() | DECLARE lo_more CURSOR FOR SELECT 1', 'Mine: SELECT lo_from_bytea(16999, ''secret'') | SELECT lo_open(16999, 262144)', 'Other: FETCH lo_secret');
SELECT name FROM pg_cursors WHERE name !~ 'unnamed' ORDER BY 1;
FETCH mine;
SELECT loread(0, 10);
ROLLBACK;
SELECT * FROM lo.apply('Mine: LISTEN lo');
SELECT * FROM lo.apply('Mine: CREATE TEMP TABLE t (a int) ON COMMIT DROP | CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''SELECT 1'' | CREATE TEMP SEQUENCE s | CREATE TYPE pg_temp.e AS ENUM (''a'')');
SELECT count(*) AS temporary FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = pg_my_temp_schema();
-- A handler that retries or ends its own message, and one that moves its
-- partition: its message is done, and the messages behind it too.
-- Room on the page: an assertion of PostgreSQL's forbids that a row moves to
-- another one once a subtransaction has changed it and was rolled back.
DELETE FROM pgstock_internal.failed_event;
ALTER TABLE pgstock_internal.failed_event SET (fillfactor = 10);
VACUUM pgstock_internal.failed_event;
CREATE FUNCTION lo.second_try(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (message->>'attempt')::int = 1 THEN
		RAISE EXCEPTION 'not yet';
	END IF;
	EXECUTE payload->>'run';
	IF (payload->>'fails')::boolean THEN
		RAISE EXCEPTION 'it fails again';
	END IF;
END
$$;
SELECT register_handler('lo-own', 'lo.second_try');
CREATE TABLE lo.own (order_id text, run text, fails boolean);
INSERT INTO lo.own VALUES
	('own-1', $$SELECT retry_failed_event(order_id => 'own-1')$$, false),
	('own-2', $$SELECT retry_failed_event(order_id => 'own-2')$$, true),
	('own-3', $$SELECT discard_failed_event(id, 'mine') FROM stock_failed_events WHERE order_id = 'own-3'$$, false),
	('own-4', $$SELECT retry_failed_event(order_id => 'own-5')$$, false),
	('own-5', 'SELECT 1', false),
	('own-6', $$DELETE FROM pgstock_internal.failed_event WHERE order_id = 'own-6'$$, false),
	('own-7', $$DELETE FROM pgstock_internal.inbox WHERE order_id = 'own-7'$$, false),
	('own-8', $$SELECT pgstock_internal.relay_rewind('lo-own', '{0}', '{0}', 'r')$$, false),
	('own-9', 'SELECT 1', false);
CREATE FUNCTION lo.own_batch() RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(jsonb_build_object('topic', 'lo-own', 'offset', substr(order_id, 5)::int, 'key', order_id, 'headers', '{"ce_type": "t"}'::jsonb, 'json', to_jsonb(o)) ORDER BY order_id) FROM lo.own o
$$;
SELECT result, reason, n FROM apply(lo.own_batch());
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE topic = 'lo-own' AND state = 'waiting';
CREATE PROCEDURE lo.retry_all() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. 9 LOOP PERFORM pgstock_internal.relay_retry(50, relay_options()); COMMIT; END LOOP; END $$;
CALL lo.retry_all();
SELECT f.order_id, f.state, f.attempts, f.error FROM pgstock_internal.failed_event f WHERE f.topic = 'lo-own' ORDER BY 1;
SELECT order_id, result, reason FROM stock_inbox WHERE topic = 'lo-own' ORDER BY 1;
-- A try whose transaction does not commit: its messages are tried alone, and
-- one that does not commit alone has failed.
SELECT register_handler('lo-commit', 'lo.second_try');
SELECT result, n FROM apply((SELECT jsonb_agg(jsonb_build_object('topic', 'lo-commit', 'json', jsonb_build_object('order_id', 'commit-' || n, 'run', 'SELECT 1'))) FROM generate_series(1, 3) n));
CREATE FUNCTION lo.retry_due(first text, OUT tried text) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE pgstock_internal.failed_event f SET next_retry_at = CASE f.order_id WHEN first THEN '2020-01-01' ELSE '2020-01-02' END::timestamptz WHERE f.topic = 'lo-commit' AND f.state = 'waiting';
	SELECT string_agg(concat_ws(' ', r.result, r.reason), ', ') INTO tried FROM pgstock_internal.relay_retry(50, relay_options()) r;
END
$$;
BEGIN;
SELECT lo.retry_due('commit-1');
ROLLBACK;
SELECT lo.retry_due('commit-1');
BEGIN;
SELECT lo.retry_due('commit-2');
ROLLBACK;
BEGIN;
SELECT lo.retry_due('commit-2');
ROLLBACK;
SELECT lo.retry_due('commit-2');
SELECT f.order_id, f.state, f.attempts, f.sqlstate || ': ' || f.error AS error FROM pgstock_internal.failed_event f WHERE f.topic = 'lo-commit' ORDER BY 1;
SELECT lo.retry_due('commit-2');
SELECT f.order_id, f.state, f.attempts FROM pgstock_internal.failed_event f WHERE f.topic = 'lo-commit' ORDER BY 1;
DELETE FROM pgstock_internal.failed_event WHERE topic = 'lo-commit';
-- the same in a first try: a handler's change
-- to its own partition does not stop it
CREATE FUNCTION lo.rewinds(payload jsonb, message jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pgstock_internal.relay_rewind('lo-back', '{0}', '{0}', 'r') $$;
SELECT register_handler('lo-back', 'lo.rewinds');
SELECT result, reason, n FROM apply('[{"topic": "lo-back", "offset": 1, "json": {}}]');
SELECT result, reason, n FROM apply('[{"topic": "lo-back", "offset": 2, "json": {}}, {"topic": "lo-back", "offset": 3, "json": {}}]');
SELECT next_offset FROM pgstock_internal.inbox_offset WHERE topic = 'lo-back';
-- an error while the result is written fails the message, and not the call
DELETE FROM pgstock_internal.failed_event WHERE order_id <> 'own-1';
UPDATE pgstock_internal.failed_event SET topic = 'lo-other';
CREATE UNIQUE INDEX lo_one ON pgstock_internal.failed_event (state) WHERE state = 'retried' AND topic <> 'lo-own';
SELECT register_handler('lo-breaks', 'lo.second_try');
SELECT result, reason, n FROM apply('[{"topic": "lo-breaks", "json": {"run": "CREATE TABLE lo.made ()", "fails": false}}, {"topic": "lo-own", "json": {"run": "SELECT 1", "fails": false}}]');
UPDATE pgstock_internal.failed_event SET next_retry_at = '2020-01-01' WHERE state = 'waiting';
SELECT topic, result, reason, n FROM pgstock_internal.relay_retry(50, relay_options());
SELECT topic, state, attempts, error FROM pgstock_internal.failed_event ORDER BY id;
SELECT to_regclass('lo.made');
DROP INDEX pgstock_internal.lo_one;
DELETE FROM pgstock_internal.failed_event;
DELETE FROM pgstock_internal.user_handler;
\set VERBOSITY terse
ALTER TABLE pgstock_internal.failed_event RESET (fillfactor);
SET client_min_messages = warning;
DROP SCHEMA lo CASCADE;
RESET client_min_messages;
SELECT grant_stock_access('regress_lo', 'none'), grant_stock_access('regress_lo_other', 'none');
DROP ROLE regress_lo, regress_lo_other;
SELECT * FROM verify_stock();
-- an error text that is invalid in every encoding stops no message either
\set origin :DBNAME
CREATE DATABASE regress_lo_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c regress_lo_ascii
CREATE EXTENSION pgstock;
CREATE FUNCTION fails(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF payload ? 'bad' THEN
		RAISE EXCEPTION USING MESSAGE = convert_from('\x6e6fff80', 'SQL_ASCII'), DETAIL = convert_from('\xfe', 'SQL_ASCII'), ERRCODE = payload->>'bad';
	END IF;
END
$$;
SELECT register_handler('ascii', 'fails');
CREATE FUNCTION ascii_options() RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"dlq_topic": "{topic}_dlq", "retry_delays_ms": [0], "order_wait_ms": 900000, "group": "g", "alert": true}'::jsonb $$;
SELECT r.result, r.reason, r.n FROM pgstock_internal.relay_apply('{ascii,ascii,ascii}', '{0,0,0}', '{1,2,3}', '{-1,-1,-1}', '{k1,k2,k3}',
	ARRAY[convert_to('{"bad": "P0001"}', 'UTF8'), convert_to('{"bad": "22023"}', 'UTF8'), convert_to('{}', 'UTF8')], '{NULL,NULL,NULL}', ascii_options()) r;
SELECT r.result, r.reason, r.n FROM pgstock_internal.relay_retry(50, ascii_options()) r;
SELECT r.result, r.reason, r.n FROM pgstock_internal.relay_retry(50, ascii_options()) r;
SELECT id, state, error FROM stock_failed_events ORDER BY 1;
SELECT topic, headers->>'__dlq.errors.message' AS message FROM stock_outbox ORDER BY seq;
SELECT id, error FROM pgstock_internal.relay_failed(NULL, NULL, NULL, NULL, NULL, NULL, 0, 10);
SELECT line FROM pgstock_internal.relay_alerts(10, 10) ORDER BY 1;
\c :origin
DROP DATABASE regress_lo_ascii;
