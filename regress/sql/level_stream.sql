--
-- level_stream: records of levels for a compacted topic
--
-- What a consumer of the compacted topic has: the latest record of each key.
CREATE VIEW stream AS
SELECT DISTINCT ON (key) key, payload, seq FROM stock_outbox WHERE topic = 'stock-levels' ORDER BY key, seq DESC;
-- Where that differs from the levels.
CREATE FUNCTION stream_faults() RETURNS SETOF text
LANGUAGE sql AS $$
SELECT coalesce(s.key, pgstock_internal.level_key(l.product_id, l.location)) || ': ' || coalesce(s.payload::text, 'none') || ', is ' || coalesce(to_jsonb(l)::text, 'none')
  FROM (SELECT * FROM stream WHERE payload IS NOT NULL) s FULL JOIN stock_levels l ON pgstock_internal.level_key(l.product_id, l.location) = s.key
 WHERE s.payload - 'timestamp' IS DISTINCT FROM to_jsonb(l)
$$;
-- Steps until none is left, each in a transaction of its own; the records of
-- this test's products.
CREATE PROCEDURE stream_steps(OUT records bigint)
LANGUAGE plpgsql AS $$
DECLARE
	since	text;
	more	boolean := true;
	before	bigint := pgstock_internal.last_seq();
BEGIN
	FOR i IN 1..1000 LOOP
		SELECT l.next_since, l.behind INTO since, more FROM pgstock_internal.relay_levels('stock-levels', since, 50000) l;
		COMMIT;
		EXIT WHEN NOT more;
	END LOOP;
	records := (SELECT count(*) FROM stock_outbox WHERE seq > before AND topic = 'stock-levels' AND key LIKE 'ls%');
END
$$;
SELECT receive_stock('ls-a', 100), receive_stock('ls-a', 10, 'east'), receive_stock('ls-b', 5);

-- off: no mark; a call that turns it off changes nothing
SELECT * FROM pgstock_internal.relay_levels(NULL, NULL, 100);
SELECT count(*) FROM pgstock_internal.level_mark;
-- on: it is filled once each transaction that may not know it has ended
SELECT n, behind, next_since IS NULL AS anew FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
SELECT topic, ready_at IS NULL AS unknown, filled_at IS NULL AS filling FROM pgstock_internal.level_stream;
CALL stream_steps(NULL) \gset
SELECT :records = count(*) AS each_once FROM stock_levels WHERE product_id LIKE 'ls%';
SELECT * FROM stream_faults();
SELECT filled_at IS NOT NULL AS filled, fill_product <> '' AS somewhere FROM pgstock_internal.level_stream;
-- the record
SELECT key, event_type, payload - 'timestamp' AS value, (payload ->> 'timestamp')::timestamptz > now() - interval '1 hour' AS recent, headers
  FROM stock_outbox WHERE topic = 'stock-levels' AND key LIKE 'ls-%' ORDER BY key;
-- nothing has changed: nothing is written
CALL stream_steps(NULL);

-- many changes of a level are one record, and each kind of change is one
SELECT count(reserve_stock('ls-a', 1, 'ls-' || i)) FROM generate_series(1, 20) i;
SELECT count(*) FROM pgstock_internal.level_mark;
CALL stream_steps(NULL);
SELECT payload -> 'reserved' AS reserved, payload -> 'version' AS version FROM stream WHERE key = 'ls-a@main';
SELECT * FROM stream_faults();
SELECT count(*) FROM pgstock_internal.level_mark;
CREATE PROCEDURE after(command text, OUT records bigint)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	COMMIT;
	CALL stream_steps(records);
	IF EXISTS (SELECT FROM stream_faults()) THEN
		RAISE WARNING 'the stream differs after %', command;
	END IF;
END
$$;
CALL after($$SELECT receive_stock('ls-a', 1)$$, NULL);
CALL after($$SELECT receive_stock('ls-new', 1)$$, NULL);
CALL after($$SELECT adjust_stock('ls-a', -1, 'broken')$$, NULL);
CALL after($$SELECT set_stock('ls-b', 7)$$, NULL);
CALL after($$SELECT move_stock('ls-a', 1, 'main', 'east')$$, NULL);
CALL after($$SELECT configure_product('ls-a', safety => 3)$$, NULL);
CALL after($$SELECT configure_product('ls-a', safety => -1, slots => 4)$$, NULL);
CALL after($$SELECT reserve_order('ls-o', '[{"product_id": "ls-a", "quantity": 2}, {"product_id": "ls-b", "quantity": 1}]')$$, NULL);
CALL after($$SELECT confirm_stock('ls-o')$$, NULL);
CALL after($$SELECT return_stock('ls-o')$$, NULL);
CALL after($$SELECT release_stock('ls-1')$$, NULL);
CALL after($$SELECT rollback_stock('ls-2')$$, NULL);
CALL after($$SELECT extend_reservation('ls-3', '1 hour')$$, NULL);
CALL after($$SELECT make_due('ls-3'); SELECT expire_reservations()$$, NULL);
CALL after($$SELECT open_flash_sale('ls-sale', 'ls-a', 3)$$, NULL);
CALL after($$SELECT purchase_flash_sale('ls-sale', 'u', 'ls-buy')$$, NULL);
CALL after($$SELECT close_flash_sale('ls-sale')$$, NULL);
CALL after($$UPDATE pgstock_internal.level SET on_hand = 1 WHERE product_id = 'ls-b'; SELECT repair_stock('ls-b', 'test')$$, NULL);
-- a type of event that is not written changes nothing here
CALL after($$SELECT set_event_topic('*', NULL)$$, NULL);
CALL after($$SELECT reserve_stock('ls-a', 1, 'ls-quiet')$$, NULL);
SELECT set_event_topic('*', NULL), count(*) FROM pgstock_internal.event_topic;
DELETE FROM pgstock_internal.event_topic;
-- rolled back: no mark, no record
BEGIN;
SELECT status FROM reserve_stock('ls-a', 1, 'ls-no');
ROLLBACK;
CALL stream_steps(NULL);
-- a subtransaction's mark has the id of its transaction
BEGIN;
SAVEPOINT s;
SELECT status FROM reserve_stock('ls-a', 1, 'ls-sub');
SELECT DISTINCT xid = pg_current_xact_id() AS same FROM pgstock_internal.level_mark;
COMMIT;
CALL stream_steps(NULL);

-- a level that is gone has a tombstone
BEGIN;
SELECT receive_stock('ls-gone', 1);
COMMIT;
CALL stream_steps(NULL);
DELETE FROM pgstock_internal.level WHERE product_id = 'ls-gone';
DELETE FROM pgstock_internal.movement WHERE product_id = 'ls-gone';
INSERT INTO pgstock_internal.level_mark VALUES (pg_current_xact_id(), 'ls-gone', 'main');
CALL stream_steps(NULL);
SELECT key, payload FROM stream WHERE key = 'ls-gone@main';
SELECT * FROM stream_faults();

-- two levels never have the same key
SELECT k, pgstock_internal.level_key(k[1], k[2]) FROM unnest(ARRAY['a@b|c', 'a|b@c', 'a|b%40c']) t, string_to_array(t, '|') k;
SELECT receive_stock('ls@x', 1, 'y'), receive_stock('ls', 2, 'x@y'), receive_stock(E'ls-"\\', 3, E'\u00e9\t');
CALL stream_steps(NULL);
SELECT key, payload ->> 'product_id' AS product_id, payload ->> 'location' AS location FROM stream WHERE key LIKE 'ls@%' OR key LIKE 'ls-"%' ORDER BY key;
SELECT * FROM stream_faults();

-- a step takes so many marks, and the next one the others;
-- with no snapshot it finds all
SELECT count(receive_stock('ls-many-' || i, 1)) FROM generate_series(1, 25) i;
SELECT n, behind, next_since IS NULL AS kept FROM pgstock_internal.relay_levels('stock-levels', NULL, 10);
SELECT n, behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 10);
SELECT n, behind, next_since IS NULL AS kept, next_since FROM pgstock_internal.relay_levels('stock-levels', NULL, 10) \gset
SELECT :n AS n, :'behind' AS behind, :'kept' AS kept;
SELECT status FROM reserve_stock('ls-many-1', 1, 'ls-many');
SELECT n, behind FROM pgstock_internal.relay_levels('stock-levels', :'next_since', 10);
SELECT * FROM stream_faults();

-- a snapshot writes all levels once more, page by page, and is recorded
SELECT n = count(*) AS all_of_them, last_product IS NOT NULL AS has_last FROM stock_levels, pgstock_internal.relay_snapshot('stock-levels', '', '', 100000) GROUP BY n, last_product;
SELECT n, last_product, last_location FROM pgstock_internal.relay_snapshot('other', 'ls-a', 'east', 2);
SELECT n, last_product FROM pgstock_internal.relay_snapshot('other', U&'\+10FFFF', '', 2);
SELECT action, target, reason FROM stock_admin_actions WHERE action = 'snapshot';
SELECT * FROM stream_faults();

-- neither a replay nor an order's history has the records
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window("window"), 0, true, :epoch) FROM pgstock_internal.relay_position();
SELECT pg_advisory_unlock_all();
SELECT count(*) > 0 AS published FROM pgstock_internal.replayable(ROW(1, pgstock_internal.last_seq(), NULL, NULL, NULL)::pgstock_internal.replay_filter, 0, 1000);
SELECT count(*) FROM pgstock_internal.replayable(ROW(1, pgstock_internal.last_seq(), NULL, NULL, 'stock-levels')::pgstock_internal.replay_filter, 0, 1000);
SELECT count(*) FILTER (WHERE topic = 'stock-levels') AS levels, count(*) > 0 AS others FROM pgstock_internal.relay_audit_page(NULL, 0, pgstock_internal.last_seq(), 100000);
SELECT status FROM reserve_stock('ls-a', 1, 'ls-a@main');
SELECT kind, what FROM order_history('ls-a@main') WHERE kind = 'event';
CALL stream_steps(NULL);

-- an application does not publish to its topic
CREATE ROLE regress_ls_app;
SELECT grant_stock_access('regress_ls_app', 'app');
SET ROLE regress_ls_app;
SELECT outcome_of($$SELECT publish_event('stock-levels', 'ls-a@main', '{}')$$);
RESET ROLE;
SELECT grant_stock_access('regress_ls_app', 'none');
DROP ROLE regress_ls_app;

-- nor do levels go to any topic but one of their own
SELECT bind_topic('ls-in', 'ignore');
SELECT t.topic, outcome_of(format('SELECT pgstock_internal.relay_snapshot(%L, %L, %L, 2)', t.topic, '', '')) AS snapshot
  FROM unnest('{"", a b, .., stock-events, stock-freeze-failed, pgstock-position-x, ls-in, ls-in_dlq}'::text[]) t (topic);
SELECT unbind_topic('ls-in');
SELECT set_event_topic('StockReserved', 'ls-events');
SELECT outcome_of($$SELECT pgstock_internal.relay_snapshot('ls-events', '', '', 2)$$);
SELECT n, behind FROM pgstock_internal.relay_levels('ls-events', NULL, 100);
SELECT step, sqlstate, error FROM pgstock_internal.upkeep_failure;
SELECT topic FROM pgstock_internal.level_stream;
DELETE FROM pgstock_internal.event_topic;
CALL stream_steps(NULL) \gset

-- another topic, another database or timeline: it is begun anew
SELECT n, behind, next_since IS NULL AS anew FROM pgstock_internal.relay_levels('elsewhere', NULL, 100);
SELECT topic, filled_at IS NULL AS filling FROM pgstock_internal.level_stream;
SELECT n, behind, next_since IS NULL AS anew FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
CALL stream_steps(NULL) \gset
UPDATE pgstock_internal.level_stream SET timeline = 77;
SELECT n, behind, next_since IS NULL AS anew FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
CALL stream_steps(NULL) \gset
SELECT :records = count(*) AS each_once FROM stock_levels WHERE product_id LIKE 'ls%';
SELECT * FROM stream_faults();

-- a level that has changed is in the page that fills it, too: one record
SELECT behind FROM pgstock_internal.relay_levels('elsewhere', NULL, 100);
SELECT behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
SELECT behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
SELECT status FROM reserve_stock('ls-a', 1, 'ls-both');
SELECT pgstock_internal.last_seq() AS before \gset
SELECT n, behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 50000);
SELECT count(*) FROM stock_outbox WHERE seq > :before AND topic = 'stock-levels' AND key = 'ls-a@main';
CALL stream_steps(NULL) \gset
SELECT * FROM stream_faults();

-- a step that fails is a failing step of the upkeep, and loses no mark
SELECT status FROM reserve_stock('ls-a', 1, 'ls-fails');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT n, behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
SELECT step, sqlstate, error FROM pgstock_internal.upkeep_failure;
ROLLBACK;
CALL stream_steps(NULL);
SELECT * FROM stream_faults();
SELECT name, labels, value FROM pgstock_internal.relay_metrics() WHERE name LIKE 'levels_%';

-- records that Kafka has are compared with the levels, the latest of each key
CREATE FUNCTION level_record(name text) RETURNS bytea
LANGUAGE sql AS $$
SELECT payload FROM pgstock_internal.outbox WHERE aggregatetype = 'stock-levels' AND aggregateid = convert_to(name, 'UTF8') ORDER BY seq DESC LIMIT 1
$$;
CREATE FUNCTION read_back(key bytea, VARIADIC found bytea[]) RETURNS bigint
LANGUAGE sql AS $$
SELECT pgstock_internal.relay_levels_read('stock-levels', array_fill(2, ARRAY[cardinality(found)]), ARRAY(SELECT generate_series(40, 39 + cardinality(found)))::bigint[], array_fill(key, ARRAY[cardinality(found)]), found,
	array_fill(convert_to(id::text, 'UTF8'), ARRAY[cardinality(found)]), false)
  FROM pgstock_internal.own_incarnation()
$$;
-- one record, of another database or of none
CREATE FUNCTION read_other(key bytea, found bytea, database bytea, behind boolean DEFAULT false) RETURNS bigint
LANGUAGE sql AS $$
SELECT pgstock_internal.relay_levels_read('stock-levels', '{2}', '{50}', ARRAY[key], ARRAY[found], ARRAY[database], behind)
$$;
CREATE PROCEDURE make_ripe()
LANGUAGE sql AS $$
UPDATE pgstock_internal.level_difference SET found_at = '-infinity'
$$;
SELECT read_back('ls-a@main', level_record('ls-a@main')) AS same;
SELECT read_back('ls-a@main', '{"product_id":"ls-a"}', NULL, level_record('ls-a@main')) AS latest_is_same;
SELECT "partition", next_offset FROM pgstock_internal.relay_level_offsets();
-- a difference alone is no reason to write: a newer record may follow
SELECT read_back('ls-a@main', level_record('ls-a@main'), '{"product_id":"ls-a"}') AS stale;
CALL stream_steps(NULL);
SELECT read_back('ls-a@main', level_record('ls-a@main')) AS newer_record_is_read;
CALL make_ripe();
CALL stream_steps(NULL);
-- nor is one of a level that is written meanwhile
SELECT read_back('ls-a@main', '{"product_id":"ls-a"}') AS stale;
SELECT status FROM reserve_stock('ls-a', 1, 'ls-meanwhile');
CALL stream_steps(NULL);
CALL make_ripe();
CALL stream_steps(NULL);
-- nor while a record from before is in the outbox, or the reader is behind
SELECT read_back('ls-a@main', '{"product_id":"ls-a"}') AS stale;
UPDATE pgstock_internal.level_difference SET found_at = d.oldest FROM pgstock_internal.pending(10000) d;
CALL stream_steps(NULL);
SELECT read_other('no level', 'x', NULL, true) AS behind;
CALL make_ripe();
CALL stream_steps(NULL);
-- at the end of the topic it is written, once
UPDATE pgstock_internal.level_read SET behind_at = clock_timestamp() - interval '6 s';
CALL stream_steps(NULL);
CALL stream_steps(NULL);
SELECT read_back('ls-a@main', NULL) AS tombstone_of_a_level;
CALL make_ripe();
CALL stream_steps(NULL);
SELECT key, payload ->> 'product_id' AS product_id FROM stream WHERE key = 'ls-a@main';
SELECT read_back('ls-gone@main', NULL) AS gone, read_back('ls-gone@main', level_record('ls-a@main')) AS but_there;
CALL make_ripe();
CALL stream_steps(NULL);
SELECT key, payload FROM stream WHERE key = 'ls-gone@main';
SELECT key, read_back(convert_to(key, 'UTF8'), level_record(key)) FROM stream WHERE key LIKE 'ls@%' OR key LIKE 'ls-"%' ORDER BY key;
-- records of another database are its own; those of none are,
-- if there is no level
SELECT read_other('ls-a@main', 'x', '5d7f0f6e-0000-4000-8000-000000000000') AS of_a_level, read_other('ls-theirs@main', 'x', '5d7f0f6e-0000-4000-8000-000000000000') AS of_none, read_other('ls-a@main', 'x', '') AS of_no_database;
SELECT read_other('ls-theirs@main', 'x', NULL) AS of_none, read_other('ls-a@main', 'x', NULL) AS of_a_level;
CALL make_ripe();
CALL stream_steps(NULL);
-- other programs' keys name no level
SELECT k.key, read_back(k.key, 'x') FROM (VALUES (NULL::bytea), (''), ('no level'), ('ls-a@%zz'), ('\xff40'), ('\x614000')) k (key);
SELECT read_back(convert_to('ls' || repeat('%40', 2 + n) || '@' || repeat('%40', 255), 'UTF8'), 'x') FROM (VALUES (82), (83)) k (n);
SELECT count(*) FROM pgstock_internal.level_difference;
SELECT pgstock_internal.relay_levels_read('elsewhere', '{0}', '{7}', ARRAY['ls-a@main'::bytea], '{x}', '{NULL}', false) AS of_another_topic;
-- a stream that is begun anew reads all of it
SELECT behind FROM pgstock_internal.relay_levels('elsewhere', NULL, 100);
SELECT count(*), (SELECT count(*) FROM pgstock_internal.level_difference) AS differences FROM pgstock_internal.relay_level_offsets();
SELECT behind FROM pgstock_internal.relay_levels('stock-levels', NULL, 100);
CALL stream_steps(NULL) \gset
DROP PROCEDURE make_ripe;
DROP FUNCTION level_record, read_back, read_other;

-- off again: marks are gone, and none are made
SELECT status FROM reserve_stock('ls-a', 1, 'ls-last');
SELECT * FROM pgstock_internal.relay_levels(NULL, NULL, 100);
SELECT status FROM reserve_stock('ls-a', 1, 'ls-off');
SELECT (SELECT count(*) FROM pgstock_internal.level_mark) AS marks, (SELECT count(*) FROM pgstock_internal.level_stream) AS on;
SELECT name, labels, value FROM pgstock_internal.relay_metrics() WHERE name LIKE 'levels_%';
DROP PROCEDURE after, stream_steps;
DROP FUNCTION stream_faults;
DROP VIEW stream;
