-- Upkeep: each step fails alone,
-- and its failure is recorded until it works again.
SELECT outcome_of('SELECT pgstock_internal.progress()');
SELECT pgstock_internal.relay_adopt(true) IS NOT NULL AS adopted LIMIT 1;
CREATE FUNCTION upkeep() RETURNS TABLE (trouble text) LANGUAGE sql AS $$
SELECT regexp_replace(u.trouble, 'since [^ ]*:', 'since T:', 'g') FROM pgstock_internal.relay_upkeep('100 years', '1 day', 1000) u
$$;
CREATE VIEW failing AS SELECT labels FROM pgstock_internal.relay_metrics() WHERE name = 'upkeep_failing' AND value <> 0;
SELECT * FROM upkeep();
TABLE failing;
SELECT count(*) FROM pgstock_internal.relay_metrics() WHERE name = 'upkeep_failing';
-- two steps fail; those before, between and behind them work
INSERT INTO pgstock_internal.refused_order VALUES ('upkeep-1', 'x', '2001-01-01');
INSERT INTO pgstock_internal.idempotency VALUES ('upkeep-1', 1, '{}', '2001-01-01');
INSERT INTO pgstock_internal.outbox_part VALUES (6, 'l', '2001-01-01');
ALTER TABLE pgstock_internal.inbox RENAME TO inbox_away;
ALTER TABLE pgstock_internal.failed_event RENAME COLUMN first_failed_at TO away;
SET client_min_messages = error;
SELECT * FROM upkeep();
SELECT * FROM upkeep();
RESET client_min_messages;
TABLE failing;
SELECT (SELECT count(*) FROM pgstock_internal.refused_order WHERE order_id = 'upkeep-1') AS refused,
	(SELECT count(*) FROM pgstock_internal.idempotency WHERE key = 'upkeep-1') AS keys,
	(SELECT state FROM pgstock_internal.outbox_part WHERE part = 6) AS state;
-- one of them works again
ALTER TABLE pgstock_internal.inbox_away RENAME TO inbox;
SET client_min_messages = error;
SELECT * FROM upkeep();
RESET client_min_messages;
TABLE failing;
ALTER TABLE pgstock_internal.failed_event RENAME COLUMN away TO first_failed_at;
SELECT * FROM upkeep();
TABLE failing;
DELETE FROM pgstock_internal.outbox_part WHERE part = 6;
-- the same for the step that expires reservations, and in /status
ALTER FUNCTION pgstock_internal.expire_free RENAME TO away;
SET client_min_messages = error;
SELECT pgstock_internal.relay_expire(10);
RESET client_min_messages;
TABLE failing;
SELECT value ->> 0 ~ '^expire since .*expire_free.* does not exist \(SQLSTATE 42883\)$' AS named FROM pgstock_internal.relay_status() WHERE name = 'upkeep_trouble';
ALTER FUNCTION pgstock_internal.away RENAME TO expire_free;
SELECT pgstock_internal.relay_expire(100000) > 0 AS later;
TABLE failing;
-- a publication of all tables prevents nothing:
-- each table has a replica identity
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'pgstock_internal'::regnamespace AND c.relkind IN ('r', 'p') AND c.relreplident <> 'f'
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END);
SET client_min_messages = error;
CREATE PUBLICATION upkeep FOR ALL TABLES;
RESET client_min_messages;
INSERT INTO pgstock_internal.inbox (topic, partition, "offset", event_id, result, received_at, source, value_hash) VALUES ('upkeep', 0, 0, 'upkeep', 'applied', '2001-01-01', 'upkeep', 0);
SELECT * FROM upkeep();
SELECT count(*) FROM pgstock_internal.inbox WHERE topic = 'upkeep';
INSERT INTO pgstock_internal.failed_event (topic, partition, "offset", event_id, source, attempts, state, class, error, first_failed_at, handled)
	VALUES ('upkeep', 0, 0, 'upkeep-2', 'upkeep', 1, 'archived', 'poison', 'x', clock_timestamp(), false) RETURNING id AS failed \gset
INSERT INTO pgstock_internal.inbox (topic, partition, "offset", event_id, dedup_id, result, received_at, source, value_hash) VALUES ('upkeep', 0, 0, 'upkeep-2', 'upkeep-2', 'waiting', clock_timestamp(), 'upkeep', 0);
SELECT discard_failed_event(:failed, 'test');
DROP PUBLICATION upkeep;
DELETE FROM pgstock_internal.inbox WHERE topic = 'upkeep';
DELETE FROM pgstock_internal.failed_event WHERE topic = 'upkeep';
-- a clock that was ahead for a while: a part is not written, nor kept,
-- until then
DELETE FROM pgstock_internal.outbox_part;
SELECT pgstock_internal.part_switched('outbox_part');
SELECT pgstock_internal.outbox_rotate('1 hour');
SELECT publish_event('upkeep', 'a', '1') IS NOT NULL AS id;
UPDATE pgstock_internal.outbox_part SET since = clock_timestamp() + interval '30 days';
INSERT INTO pgstock_internal.outbox_part VALUES (6, 's', clock_timestamp() + interval '30 days');
SELECT pgstock_internal.outbox_rotate('1 hour');
SELECT count(*) FROM pgstock_internal.outbox_part WHERE since > clock_timestamp();
-- and movements of that time do not retain older ones
BEGIN;
INSERT INTO pgstock_internal.movement (id, at, kind, product_id, location, on_hand_delta, reserved_delta, actor)
	SELECT n, clock_timestamp() + interval '30 days', 'received', 'upkeep', 'main', 1, 0, 'x' FROM generate_series(1, 5) n ON CONFLICT DO NOTHING;
UPDATE pgstock_internal.movement SET at = clock_timestamp() + interval '30 days' WHERE id BETWEEN 1 AND 5;
INSERT INTO pgstock_internal.movement (id, at, kind, product_id, location, on_hand_delta, reserved_delta, actor) VALUES (900000000, '2001-01-01', 'received', 'upkeep', 'main', 1, 0, 'x');
DELETE FROM pgstock_internal.movement WHERE id > 5 AND at > '2001-01-02';
SELECT pgstock_internal.purge_written(0, '2002-01-01', 3);
ROLLBACK;
-- a sequence with a cache, or that does not rise, is refused:
-- the window would miss events
\set SHOW_CONTEXT never
ALTER SEQUENCE pgstock_internal.outbox_seq CACHE 20;
SELECT publish_event('upkeep', 'a', '1');
SELECT events FROM pgstock_internal.relay_replay(ROW(0, 1000000000, NULL, NULL, 'upkeep'), 0, 100, true, 'test');
ALTER SEQUENCE pgstock_internal.outbox_seq CACHE 1 INCREMENT -1;
SELECT publish_event('upkeep', 'a', '1');
ALTER SEQUENCE pgstock_internal.outbox_seq INCREMENT 1;
ALTER SEQUENCE pgstock_internal.movement_id CYCLE;
SELECT receive_stock('upkeep', 1);
ALTER SEQUENCE pgstock_internal.movement_id NO CYCLE;
SELECT publish_event('upkeep', 'a', '1') IS NOT NULL AS id, receive_stock('upkeep', 1);
-- settings that change how a function's text is read
SET standard_conforming_strings = off;
SET escape_string_warning = off;
SET client_min_messages = error;
SELECT relay_api FROM pgstock_internal.relay_hello();
SET standard_conforming_strings = off;
SELECT * FROM upkeep();
SELECT pgstock_internal.outbox_next_part() > 0 AS part;
SELECT count(*) > 0 AS some FROM pgstock_internal.relay_status();
SELECT pgstock_internal.is_copy(pgstock_internal.replay_header(7));
SELECT events >= 0 AS counted FROM pgstock_internal.relay_replay(ROW(0, 1000000000, NULL, NULL, 'upkeep'), 0, 100, false, 'test');
-- the relay's session resets them
SET standard_conforming_strings = off;
SET session_replication_role = replica;
SET extra_float_digits = -15;
SET statement_timeout = 77777;
SET "DateStyle" = 'SQL, DMY';
SET plpgsql.variable_conflict = use_column;
SELECT relay_api FROM pgstock_internal.relay_hello();
SELECT current_setting(s) FROM unnest('{standard_conforming_strings,session_replication_role,extra_float_digits,statement_timeout,DateStyle,plpgsql.variable_conflict}'::text[]) s;
RESET ALL;
DROP VIEW failing;
DROP FUNCTION upkeep;
