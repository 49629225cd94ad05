-- Rotation: no row is deleted by itself; a part of the outbox is truncated when
-- all its events are published and past retention.
SELECT outcome_of('SELECT pgstock_internal.progress()');
SELECT pgstock_internal.relay_adopt(true) IS NOT NULL AS adopted LIMIT 1;
SELECT pgstock_internal.relay_lead() AS epoch \gset
CREATE FUNCTION publish_all(epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	w	text;
BEGIN
	w := pgstock_internal.relay_next_window(p."window") FROM pgstock_internal.relay_position() p;
	PERFORM pgstock_internal.relay_store_position(w, 0, true, epoch);
END
$$;
CREATE FUNCTION purge(retention interval) RETURNS bigint LANGUAGE sql AS $$
SELECT pgstock_internal.relay_purge(retention, '100 years', 1000)
$$;
CREATE FUNCTION pass(by interval) RETURNS void LANGUAGE sql AS $$
UPDATE pgstock_internal.outbox_part SET since = since - by
$$;
CREATE VIEW parts AS SELECT string_agg(part || ':' || state::text, ' ' ORDER BY part) AS parts FROM pgstock_internal.outbox_part;
CREATE VIEW rows AS SELECT string_agg(part || ':' || n, ' ' ORDER BY part) AS rows FROM (SELECT part, count(*) AS n FROM pgstock_internal.outbox GROUP BY part) x;
-- rows of other tests are removed first; then all is as after CREATE EXTENSION
SELECT set_config('rotate.epoch', :'epoch', false) IS NOT NULL AS set;
DO $$ BEGIN FOR i IN 1..5 LOOP PERFORM publish_all(current_setting('rotate.epoch')::bigint); COMMIT; PERFORM pass('1 day'), purge('0'); COMMIT; END LOOP; END $$;
SELECT count(*) FROM stock_outbox;
DELETE FROM pgstock_internal.outbox_part;
SELECT pgstock_internal.part_switched('outbox_part');
SELECT pgstock_internal.outbox_lock_part();
SELECT purge('1 hour');
-- no switch from an empty part, nor before its time: a quarter of the retention
SELECT pass('1 day'), purge('1 hour');
TABLE parts;
SELECT publish_event('rotate', 'a', '1') IS NOT NULL AS id;
UPDATE pgstock_internal.outbox_part SET since = clock_timestamp() - interval '14 minutes';
SELECT purge('1 hour');
UPDATE pgstock_internal.outbox_part SET since = clock_timestamp() - interval '16 minutes';
SELECT purge('1 hour');
TABLE parts;
-- from then on the next part is written; the former is sealed,
-- for no transaction uses it
SELECT publish_event('rotate', 'b', '1') IS NOT NULL AS id;
SELECT purge('1 hour');
TABLE parts;
TABLE rows;
SELECT purge('1 hour');
-- published, but not old enough; old enough, but not published (b is:
-- only rows of the sealed part count)
SELECT publish_all(:epoch);
SELECT purge('1 hour');
SELECT pass('61 minutes');
SELECT publish_event('rotate', 'c', '1') IS NOT NULL AS id;
SELECT purge('1 hour');
TABLE parts;
TABLE rows;
SELECT purge('1 hour'), purge('1 hour');
SELECT pass('61 minutes');
SELECT publish_event('rotate', 'd', '1') IS NOT NULL AS id;
SELECT purge('1 hour');
TABLE parts;
TABLE rows;
SELECT purge('1 hour'), purge('1 hour');
SELECT publish_all(:epoch), purge('1 hour'), purge('1 hour');
TABLE parts;
TABLE rows;
-- a window that is published half-way counts as not published
SELECT publish_event('rotate', 'e', '1') IS NOT NULL AS id;
SELECT pass('61 minutes'), purge('1 hour'), purge('1 hour');
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, false, :epoch) FROM pgstock_internal.relay_position() p;
SELECT pass('61 minutes'), purge('1 hour');
TABLE rows;
SELECT pgstock_internal.relay_store_position(p."window", 0, true, :epoch) FROM pgstock_internal.relay_position() p;
SELECT pass('61 minutes'), purge('1 hour');
TABLE rows;
-- a replay writes to the current part
SELECT publish_event('rotate', 'f', '1') IS NOT NULL AS id;
SELECT publish_all(:epoch);
SELECT events FROM pgstock_internal.relay_replay(ROW(0, 1000000000, NULL, NULL, 'rotate'), 0, 100, true, 'test');
TABLE parts;
TABLE rows;
-- with a position of another history nothing is truncated
BEGIN;
UPDATE pgstock_internal.position_even p SET "window" = jsonb_populate_record(p."window"::pgstock_internal.outbox_window, '{"system_id": 7}')::text;
SELECT left(outcome_of($$SELECT purge('0')$$), 5);
-- nor before the adopted events are published, whatever the stored snapshots
-- show; a part sealed in the other history is sealed again
UPDATE pgstock_internal.position_even p SET "window" = jsonb_populate_record(p."window"::pgstock_internal.outbox_window, '{"s1": "900000000:900000000:", "s2": "900000000:900000000:"}')::text;
INSERT INTO pgstock_internal.outbox_part VALUES (6, 's', '2001-01-01', '3');
SELECT purge('1 hour'), found FROM pgstock_internal.relay_adopt(true) WHERE found = 'events to publish';
SELECT state, since > '2001-01-01' AS anew FROM pgstock_internal.outbox_part WHERE part = 6;
SELECT pass('61 minutes'), purge('1 hour');
TABLE parts;
ROLLBACK;
-- no part is free: one is added, equal to the others
BEGIN;
INSERT INTO pgstock_internal.outbox_part (part, state) SELECT n, 's' FROM generate_series(1, 6) n ON CONFLICT DO NOTHING;
SELECT pass('20 minutes'), purge('1 hour');
TABLE parts;
SELECT pgstock_internal.outbox_lock_part();
SELECT publish_event('rotate', 'g', '1') IS NOT NULL AS id;
SELECT s.key, o.tableoid::regclass FROM pgstock_internal.outbox o JOIN stock_outbox s USING (seq) WHERE s.key = 'g';
SELECT replace(indexdef, '_7', '_6') AS def FROM pg_indexes WHERE tablename = 'outbox_7' EXCEPT SELECT indexdef FROM pg_indexes WHERE tablename = 'outbox_6';
SELECT (a.attname, a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) AS col FROM pg_attribute a LEFT JOIN pg_attrdef d ON (adrelid, adnum) = (attrelid, attnum) WHERE attrelid = 'pgstock_internal.outbox_7'::regclass AND attnum > 0
EXCEPT SELECT (a.attname, a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) FROM pg_attribute a LEFT JOIN pg_attrdef d ON (adrelid, adnum) = (attrelid, attnum) WHERE attrelid = 'pgstock_internal.outbox'::regclass AND attnum > 0;
SELECT value > pg_total_relation_size('pgstock_internal.outbox_7') + pg_total_relation_size('pgstock_internal.outbox_6') AS all_of_them FROM pgstock_internal.relay_metrics() WHERE name = 'outbox_table_bytes';
ROLLBACK;
TABLE parts;
SELECT publish_event('rotate', 'h', '1') IS NOT NULL AS id;
TABLE rows;
SELECT publish_all(:epoch);
SELECT pg_advisory_unlock_all();
DROP VIEW parts, rows;
DROP FUNCTION publish_all, purge, pass;
