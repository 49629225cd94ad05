--
-- user_isolation: a handler affects neither other messages, nor the session,
-- nor the relay's rights
--
CREATE SCHEMA ui;
CREATE TABLE ui.seen (id int PRIMARY KEY, note text);
CREATE TABLE ui.parent (id int PRIMARY KEY);
CREATE TABLE ui.child (id int, parent int REFERENCES ui.parent DEFERRABLE INITIALLY DEFERRED);
-- Runs the commands in the payload.
CREATE FUNCTION ui.runs(payload jsonb, message jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	command	text;
BEGIN
	FOR command IN SELECT jsonb_array_elements_text(payload->'run') LOOP
		EXECUTE command;
	END LOOP;
	INSERT INTO seen VALUES ((payload->>'id')::int, payload->>'note');
END
$$;
CREATE ROLE regress_ui;
CREATE ROLE regress_ui_other;
GRANT USAGE, CREATE ON SCHEMA ui TO regress_ui;
GRANT ALL ON ALL TABLES IN SCHEMA ui TO regress_ui;
SELECT grant_stock_access('regress_ui', 'admin');
SET ROLE regress_ui;
SELECT register_handler('ui', 'ui.runs');
RESET ROLE;
-- Messages, one a list of commands; applied to their end, each call a
-- transaction, as the relay does.
CREATE PROCEDURE ui.batch(VARIADIC commands text[]) LANGUAGE plpgsql AS $$
DECLARE
	first	bigint := coalesce((SELECT max(i."offset") + 1 FROM stock_inbox i WHERE i.topic = 'ui'), 0);
	next	bigint := first;
	batch	jsonb := (SELECT jsonb_agg(jsonb_build_object('topic', 'ui', 'offset', first + c.n - 1, 'headers', jsonb_build_object('ce_id', 'ui-' || first + c.n - 1),
					'json', jsonb_build_object('id', first + c.n - 1, 'run', CASE WHEN c.command = '' THEN '[]' ELSE to_jsonb(string_to_array(c.command, ' | ')) END)) ORDER BY c.n)
					FROM unnest(commands) WITH ORDINALITY AS c (command, n));
BEGIN
	DELETE FROM ui.latest;
	WHILE next < first + cardinality(commands) LOOP
		next := next + (SELECT sum(a.n) FROM apply(jsonb_path_query_array(batch, '$[*] ? (@.offset >= $next)', jsonb_build_object('next', next))) a);
		COMMIT;
	END LOOP;
	INSERT INTO ui.latest SELECT i."offset", i.result, i.reason FROM stock_inbox i WHERE i.topic = 'ui' AND i."offset" >= first;
END
$$;
CREATE TABLE ui.latest (id bigint, result text, reason text);
-- an error, data, a constraint, a deferred one: alone
CALL ui.batch('', 'SELECT 1/0', '', 'INSERT INTO ui.seen VALUES (0)', '', 'INSERT INTO ui.child VALUES (1, 1)', '');
TABLE ui.latest ORDER BY id;
-- a deferred constraint that holds in the end is no failure, also behind others
CALL ui.batch('', 'INSERT INTO ui.child VALUES (2, 2) | INSERT INTO ui.parent VALUES (2)', 'INSERT INTO ui.child VALUES (3, 3) | INSERT INTO ui.parent VALUES (3)', 'INSERT INTO ui.child VALUES (4, 4)', '');
TABLE ui.latest ORDER BY id;
SELECT * FROM ui.child;
-- no more rights than the role that registered it
CALL ui.batch('SET ROLE regress_ui_other', 'RESET ROLE', 'SET LOCAL ROLE NONE', 'SET SESSION AUTHORIZATION DEFAULT', $$SELECT set_config('role', 'none', false)$$,
	$$SELECT set_config('session_authorization', 'default', true)$$, 'CREATE ROLE regress_ui_more SUPERUSER', 'SELECT * FROM pgstock_internal.level', 'ALTER ROLE regress_ui SUPERUSER', '');
-- (the wording of the error about superusers differs by version)
SELECT id, result, CASE WHEN reason ~* 'superuser|CREATEROLE' THEN 'no superuser' ELSE reason END AS reason FROM ui.latest ORDER BY id;
SELECT current_user = session_user AS mine, rolsuper FROM pg_roles WHERE rolname = 'regress_ui';
-- caught, it changes nothing either
CALL ui.batch($$DO 'BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END'$$, 'INSERT INTO pgstock_internal.level VALUES (NULL)');
TABLE ui.latest ORDER BY id;
-- it cannot end the transaction
CALL ui.batch('COMMIT', 'ROLLBACK', $$DO 'BEGIN COMMIT; END'$$, 'SAVEPOINT s', 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', '');
TABLE ui.latest ORDER BY id;
-- nothing of it remains in the session
PREPARE relays AS SELECT 1;
CALL ui.batch('LISTEN ui', 'UNLISTEN *', 'PREPARE p AS SELECT 1', 'DEALLOCATE ALL', 'DISCARD ALL', 'DISCARD TEMP', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', $$LOAD 'pgstock'$$, '');
TABLE ui.latest ORDER BY id;
SELECT DISTINCT sqlstate FROM pgstock_internal.failed_event WHERE error ~ 'is not allowed in a handler';
SELECT name FROM pg_prepared_statements;
SELECT * FROM pg_listening_channels();
SELECT name FROM pg_cursors;
DEALLOCATE relays;
CALL ui.batch($$SET work_mem = '77MB' | SET LOCAL pgstock.actor = 'evil'$$, $$SELECT set_config('search_path', 'evil', false) | SELECT set_config('pgstock.trace_id', 'evil', true)$$,
	$$INSERT INTO ui.seen SELECT 1000, concat_ws(' ', current_setting('work_mem'), current_setting('pgstock.actor'), current_setting('search_path'), current_setting('pgstock.trace_id'))$$,
	'SET LOCAL transaction_read_only = on', '');
TABLE ui.latest ORDER BY id;
SELECT note FROM ui.seen WHERE id = 1000;
SELECT current_setting('work_mem') = '77MB' AS changed, current_setting('search_path') AS path;
CALL ui.batch('CREATE TEMP TABLE t (a int) | INSERT INTO t VALUES (1)', 'CREATE TEMP TABLE IF NOT EXISTS t (a int) | INSERT INTO ui.seen SELECT 1001, count(*) FROM t', 'CREATE TEMP TABLE t (a int)', 'SELECT * FROM t');
TABLE ui.latest ORDER BY id;
SELECT note FROM ui.seen WHERE id = 1001;
SELECT relname FROM pg_class WHERE relname = 't';
CALL ui.batch('SELECT pg_advisory_lock(1)', 'SELECT pg_advisory_lock(2) | SELECT 1/0', 'SELECT pg_advisory_xact_lock(3)', '');
TABLE ui.latest ORDER BY id;
SELECT locktype, objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
-- no more than its time limit, also if it does not stop;
-- another timeout is not changed
SET debug_discard_caches = 0;
SET pgstock.handler_timeout = '100ms';
SET statement_timeout = '1min';
CALL ui.batch('', 'SELECT pg_sleep(60)', '', 'SET statement_timeout = 0 | SELECT pg_sleep(60)', $$DO 'BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN EXIT; END; END LOOP; END' | SELECT pg_sleep(60)$$,
	$$DO 'BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END'$$, '');
TABLE ui.latest ORDER BY id;
SELECT DISTINCT f.sqlstate FROM pgstock_internal.failed_event f JOIN ui.latest l ON f.error = l.reason WHERE f.topic = 'ui';
SET statement_timeout = '300ms';
SELECT outcome_of('SELECT pg_sleep(60)');
RESET statement_timeout;
SELECT left(outcome_of('SET pgstock.handler_timeout = 0'), 5) AS none, left(outcome_of($$SET pgstock.handler_timeout = '1min'$$), 5) AS too_long;
-- the same in a retry
UPDATE pgstock_internal.failed_event SET next_retry_at = now() - interval '1 min' WHERE topic = 'ui' AND state = 'waiting';
SELECT count(*) FROM pgstock_internal.failed_event WHERE topic = 'ui' AND state = 'waiting';
SELECT topic, result, sum(n) AS n, max(attempts) AS attempts FROM pgstock_internal.relay_retry(50, relay_options()) GROUP BY 1, 2;
RESET pgstock.handler_timeout;
RESET debug_discard_caches;
SELECT current_user = session_user AS mine;
SELECT id FROM ui.seen ORDER BY id;
DELETE FROM pgstock_internal.failed_event WHERE topic = 'ui';
DELETE FROM pgstock_internal.user_handler;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA ui CASCADE;
RESET client_min_messages;
SELECT grant_stock_access('regress_ui', 'none');
DROP ROLE regress_ui, regress_ui_other;
SELECT * FROM verify_stock();
