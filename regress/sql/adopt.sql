-- A database that was copied or restored: its incarnation,
-- and the events that it publishes.
\set SHOW_CONTEXT never
SELECT current_database() AS origin \gset
CREATE DATABASE regress_adopt TEMPLATE template0;
\c regress_adopt
CREATE EXTENSION pgstock;
-- the row names the cluster and the database
SELECT i.system_id = c.system_identifier AS system, i."database" = d.oid AS "database", i.restored
  FROM pgstock_internal.incarnation i, pg_control_system() c, pg_database d WHERE d.datname = current_database();
SELECT incarnation AS own, inbox_group AS "group" FROM pgstock_internal.relay_hello() \gset
SELECT incarnation = :'own' AND inbox_group = :'group' AS the_same, :'group' ~ '^pgstock-[0-9]{8}$' AS named FROM pgstock_internal.relay_hello();
-- a copy draws its own incarnation, once;
-- without published events no adoption is needed
\c :origin
CREATE DATABASE regress_adopt_copy TEMPLATE regress_adopt;
\c regress_adopt_copy
SELECT incarnation AS copy, inbox_group AS copy_group FROM pgstock_internal.relay_hello() \gset
SELECT :'copy' <> :'own' AS another, :'copy_group' <> :'group' AS another_group, incarnation = :'copy' AS once FROM pgstock_internal.relay_hello();
SELECT count(*) FROM pgstock_internal.incarnation;
SELECT pgstock_internal.relay_lead();
SELECT finished FROM pgstock_internal.relay_position();
\c regress_adopt
DROP DATABASE regress_adopt_copy;
SELECT incarnation = :'own' AS the_same FROM pgstock_internal.relay_hello();
-- so does an upgraded database: another cluster;
-- a row from a subscription is another database's
UPDATE pgstock_internal.incarnation SET system_id = 7;
SELECT incarnation <> :'own' AS another FROM pgstock_internal.relay_hello();
SELECT incarnation AS own FROM pgstock_internal.relay_hello() \gset
INSERT INTO pgstock_internal.incarnation VALUES (gen_random_uuid(), 'theirs', 7, 7, false);
SELECT incarnation = :'own' AS own FROM pgstock_internal.relay_hello();
SELECT pgstock_internal.purge_old(10);
-- events of another history: a and b published, c not,
-- according to the position; xids of the future
SELECT receive_stock('adopt-a', 9);
SELECT status FROM reserve_stock('adopt-a', 1, 'adopt-1', ttl => '1 h');
UPDATE pgstock_internal.reservation SET due_at = now(), expires_at = now();
SELECT publish_event('adopt', k, '1') IS NOT NULL AS id FROM unnest('{a,b,c}'::text[]) k;
UPDATE pgstock_internal.outbox o SET xid = CASE s.key WHEN 'c' THEN '900000200' ELSE '900000050' END::xid8 FROM stock_outbox s WHERE s.seq = o.seq;
SELECT seq AS last FROM stock_outbox WHERE key = 'c' \gset
CREATE FUNCTION position_of(system bigint) RETURNS text LANGUAGE sql AS $$
SELECT jsonb_populate_record(pgstock_internal.first_window()::pgstock_internal.outbox_window, jsonb_build_object('system_id', system, 'database', 7,
	'incarnation', '11111111-2222-4333-8444-555555555555', 'timeline', 1, 'lsn', '0/1', 's1', '900000000:900000000:', 's2', '900000100:900000100:',
	's2_floor', (SELECT seq - 1 FROM stock_outbox WHERE key = 'c')))::text
$$;
SELECT pgstock_internal.relay_position();
SELECT pgstock_internal.raise_epoch(), pgstock_internal.put_position(position_of(7), 0, true);
SELECT pgstock_internal.relay_position();
-- upkeep expires and purges nothing before the database is adopted
INSERT INTO pgstock_internal.idempotency VALUES ('adopt-1', 1, '{}', '2001-01-01');
SELECT pgstock_internal.keeper_expire(10), pgstock_internal.keeper_purge(10), pgstock_internal.relay_expire(10);
SELECT state FROM pgstock_internal.reservation;
-- adopted: first, sequences behind their tables, where numbers may be negated,
-- are advanced
INSERT INTO pgstock_internal.movement (id, at, kind, product_id, location, on_hand_delta, reserved_delta, actor) VALUES (-900000, now(), 'opening', 'adopt-none', 'main', 0, 0, 'x');
SELECT setval('pgstock_internal.outbox_seq', 1), setval('pgstock_internal.movement_id', 1, false);
SELECT * FROM pgstock_internal.relay_adopt(false) WHERE found <> 'last stored' AND found !~ 'oldest';
SELECT * FROM pgstock_internal.relay_adopt(true) WHERE found <> 'last stored' AND found !~ 'oldest';
SELECT last_value = :last AS seq FROM pgstock_internal.outbox_seq;
SELECT last_value >= 900000 AS movement FROM pgstock_internal.movement_id;
SELECT * FROM pgstock_internal.catch_up_sequences();
SELECT m.value FROM pgstock_internal.relay_metrics() m WHERE m.name = 'outbox_pending_events';
SELECT s.key FROM pgstock_internal.relay_position() p, LATERAL pgstock_internal.relay_page(p."window", p.seq, 100, 1000000) r JOIN stock_outbox s USING (seq) ORDER BY r.seq;
SELECT pgstock_internal.keeper_expire(10) > 0 AS later, pgstock_internal.keeper_purge(10) AS purged;
SELECT state FROM pgstock_internal.reservation;
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT pgstock_internal.relay_store_position(p."window", 0, true, :epoch) FROM pgstock_internal.relay_position() p;
-- published events count as published, although their xids are not visible;
-- StockExpired follows them
SELECT m.value FROM pgstock_internal.relay_metrics() m WHERE m.name = 'outbox_pending_events';
SELECT events FROM pgstock_internal.relay_replay(ROW(0, 1000000000, NULL, NULL, 'adopt'), 0, 100, false, 'test');
-- nor are they published again where that database is restored at once
BEGIN;
UPDATE pgstock_internal.position_even p SET "window" = jsonb_populate_record(p."window"::pgstock_internal.outbox_window, '{"system_id": 7}')::text;
SELECT found FROM pgstock_internal.relay_adopt(true) WHERE found = 'events to publish';
SELECT s.key FROM pgstock_internal.relay_position() p, LATERAL pgstock_internal.relay_page(p."window", p.seq, 100, 1000000) r JOIN stock_outbox s USING (seq) WHERE s.topic = 'adopt';
ROLLBACK;
SELECT pgstock_internal.relay_next_window(p."window") AS w FROM pgstock_internal.relay_position() p \gset
SELECT s.event_type FROM pgstock_internal.relay_page(:'w', 0, 100, 1000000) r JOIN stock_outbox s USING (seq) ORDER BY r.seq;
SELECT pgstock_internal.relay_store_position(:'w', 0, true, :epoch);
SELECT m.value FROM pgstock_internal.relay_metrics() m WHERE m.name = 'outbox_pending_events';
SELECT pgstock_internal.relay_next_window(p."window") AS w FROM pgstock_internal.relay_position() p \gset
SELECT count(*) FROM pgstock_internal.relay_page(:'w', 0, 100, 1000000);
-- an xid of another history that a running transaction
-- of this one also has is not that transaction's
SELECT r.seq > :last AS ours FROM pgstock_internal.relay_page(jsonb_populate_record(:'w'::pgstock_internal.outbox_window,
	'{"s1": "900000040:900000060:900000050", "s2": "900000300:900000300:", "next_xid": "900000060"}')::text, 0, 100, 1000000) r;
-- restored again: events that the first adoption
-- found and published are not published again
UPDATE pgstock_internal.position_even p SET "window" = jsonb_populate_record(p."window"::pgstock_internal.outbox_window, '{"system_id": 7}')::text;
SELECT publish_event('adopt', 'd', '1') IS NOT NULL AS id;
SELECT * FROM pgstock_internal.relay_adopt(true) WHERE found = 'events to publish';
SELECT s.key FROM pgstock_internal.relay_position() p, LATERAL pgstock_internal.relay_page(p."window", p.seq, 100, 1000000) r JOIN stock_outbox s USING (seq) ORDER BY r.seq;
-- a restore, as pg_dump begins it: nothing runs, and nothing is written,
-- before it is adopted
SELECT pg_advisory_unlock_all();
DROP EXTENSION pgstock;
SET row_security = off;
CREATE EXTENSION pgstock;
SELECT restored FROM pgstock_internal.incarnation;
SELECT pgstock_internal.relay_lead();
SELECT pgstock_internal.relay_position();
SELECT pgstock_internal.keeper_expire(10);
SELECT count(*) FROM pgstock_internal.relay_epoch;
-- tries that were under way in the other database
-- did not end with their process
INSERT INTO pgstock_internal.inbox_attempt VALUES ('payment-success', 0, 7, 7, 3, 1, 7, now(), 1);
INSERT INTO pgstock_internal.failed_event (topic, partition, "offset", event_id, source, attempts, state, class, error, first_failed_at, handled, started, session, process)
	VALUES ('payment-success', 0, 6, 'e6', 'payment-success', 1, 'waiting', 'transient', 'not now', now(), false, 3, 1, 1);
SELECT * FROM pgstock_internal.relay_adopt(false);
SELECT started FROM pgstock_internal.inbox_attempt;
SELECT * FROM pgstock_internal.relay_adopt(true);
SELECT count(*) FROM pgstock_internal.inbox_attempt;
SELECT attempts, state, started, session, process FROM pgstock_internal.failed_event;
SELECT restored FROM pgstock_internal.incarnation;
SELECT pgstock_internal.relay_lead();
SELECT finished FROM pgstock_internal.relay_position();
RESET row_security;
\c :origin
DROP DATABASE regress_adopt;
