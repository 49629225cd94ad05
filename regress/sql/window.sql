--
-- window: the outbox as the relay reads it: every event once, by seq; a
-- position of another history is refused, and adopted by hand
--
-- Everything here is one session; late commits have their isolation specs.
CREATE TABLE held ("window" text);
-- The next window, read in pages of n rows: the keys of its rows.
CREATE FUNCTION read_window(max_rows int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	after_seq	bigint := 0;
	keys		text[] := '{}';
	page		record;
BEGIN
	LOOP
		SELECT array_agg(convert_from(p.key, 'UTF8') ORDER BY p.seq) AS keys, count(*) AS n, max(p.seq) AS last, min(p.seq) AS first
		  INTO page FROM held h, LATERAL pgstock_internal.relay_page(h."window", after_seq, max_rows, 1000000) p;
		ASSERT page.first > after_seq OR page.n = 0;
		keys := keys || page.keys || CASE WHEN page.n < max_rows THEN NULL ELSE '|' END;
		EXIT WHEN page.n < max_rows;
		after_seq := page.last;
	END LOOP;
	RETURN array_to_string(keys, ' ');
END
$$;
-- the identity of the database
SELECT relay_api, "database" = current_database() AS here, inbox_group ~ '^pgstock-[0-9]{8}$' AS drawn, in_recovery, preloaded, max_event_bytes
  FROM pgstock_internal.relay_hello();
-- nothing was ever published: every event is pending
SELECT m.value = (SELECT count(*) FROM stock_outbox) AS all_pending FROM pgstock_internal.relay_metrics() m WHERE m.name = 'outbox_pending_events';
-- the lead: once a session; its position is behind every published event,
-- here none
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT pgstock_internal.relay_lead() = :epoch + 1 AS again;
SELECT :epoch + 1 AS epoch \gset
SELECT seq, finished FROM pgstock_internal.relay_position();
INSERT INTO held SELECT pgstock_internal.relay_next_window("window") FROM pgstock_internal.relay_position();
SELECT (SELECT count(*) FROM held h, LATERAL pgstock_internal.relay_page(h."window", 0, 1000000, 2000000000)) = count(*) AS all_of_it FROM stock_outbox;
-- nothing new, in a window of its own
UPDATE held SET "window" = pgstock_internal.relay_next_window("window");
SELECT read_window(10);
-- several transactions; rolled-back events are absent;
-- pages of any size join up
SELECT publish_event('window', 'a' || i, '1') IS NOT NULL AS id FROM generate_series(1, 3) i;
BEGIN;
SELECT publish_event('window', 'b1', '1') IS NOT NULL AS id;
SAVEPOINT s;
SELECT publish_event('window', 'gone', '1') IS NOT NULL AS id;
ROLLBACK TO s;
SAVEPOINT t;
SELECT publish_event('window', 'b2', '1') IS NOT NULL AS id;
COMMIT;
BEGIN;
SELECT publish_event('window', 'gone', '1') IS NOT NULL AS id;
ROLLBACK;
SELECT publish_event('window', 'c1', '1') IS NOT NULL AS id;
UPDATE held SET "window" = pgstock_internal.relay_next_window("window");
SELECT n, read_window(n) FROM unnest('{1,2,3,5,6,7,100}'::int[]) n;
-- later events are not in it
SELECT publish_event('window', 'd1', '1') IS NOT NULL AS id;
SELECT read_window(100);
-- stored half-way it resumes half-way, in this window or, finished,
-- in the next one
SELECT p.seq AS half FROM held h, LATERAL pgstock_internal.relay_page(h."window", 0, 3, 1000000) p ORDER BY 1 DESC LIMIT 1 \gset
SELECT pgstock_internal.relay_store_position("window", :half, false, :epoch) FROM held;
SELECT p.seq = :half AS seq, p.finished, (SELECT string_agg(convert_from(g.key, 'UTF8'), ' ' ORDER BY g.seq) FROM pgstock_internal.relay_page(p."window", p.seq, 100, 1000000) g) AS rest
  FROM pgstock_internal.relay_position() p;
SELECT name, value FROM pgstock_internal.relay_metrics() WHERE name = 'outbox_pending_events';
SELECT pgstock_internal.relay_store_position("window", :half + 1000, true, :epoch) FROM held;
SELECT p.finished, (SELECT string_agg(convert_from(g.key, 'UTF8'), ' ' ORDER BY g.seq) FROM pgstock_internal.relay_page(pgstock_internal.relay_next_window(p."window"), 0, 100, 1000000) g) AS next
  FROM pgstock_internal.relay_position() p;
-- a look is both at once: a row with the window, then its first page
SELECT l.next_window IS NOT NULL AS "window", convert_from(l.key, 'UTF8') AS key
  FROM pgstock_internal.relay_position() p, pgstock_internal.relay_look(p."window", 'auto', 2, 1000000) WITH ORDINALITY l ORDER BY l.ordinality;
SELECT name, labels, value FROM pgstock_internal.relay_metrics() WHERE name = 'outbox_pending_events';
-- a former leader stores nothing
SELECT regexp_replace(outcome_of(format('SELECT pgstock_internal.relay_store_position(%L, 0, true, %s)', '', :epoch - 1)), '\d+ is', 'N is');
SELECT finished FROM pgstock_internal.relay_position();
-- a window needs READ COMMITTED: its statements must see commits between them
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome_of('SELECT pgstock_internal.relay_next_window("window") FROM held');
COMMIT;
-- a position of another history: another cluster, another database, another
-- incarnation, a timeline that is not an ancestor
CREATE FUNCTION stored_with(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer	text;
BEGIN
	EXECUTE format('UPDATE pgstock_internal.position_even p SET "window" =
		jsonb_populate_record(p."window"::pgstock_internal.outbox_window, %s)::text', change);
	answer := outcome_of('SELECT * FROM pgstock_internal.relay_position()');
	RAISE EXCEPTION SQLSTATE 'UNDO0' USING MESSAGE = regexp_replace(answer, '[0-9A-F]+/[0-9A-F]+', 'X/X');
EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
	RETURN SQLERRM;
END
$$;
\pset format unaligned
\pset tuples_only on
SELECT stored_with($$'{"system_id": 7}'$$);
SELECT stored_with($$'{"database": 7}'$$);
SELECT stored_with($$'{"incarnation": "11111111-2222-4333-8444-555555555555"}'$$);
SELECT stored_with($$'{"timeline": 77}'$$);
SELECT stored_with($$jsonb_build_object('lsn', pg_current_wal_insert_lsn() + 1000000)$$);
SELECT stored_with($$'{}'$$);
DROP FUNCTION stored_with;
-- Kafka's position: of the same lead it counts if it is as far, of a later one
-- always, of an earlier one or of another history never
CREATE FUNCTION kafka(led bigint, change jsonb = '{}', finished boolean = true) RETURNS bytea LANGUAGE sql AS $$
SELECT convert_to(jsonb_build_object('window', jsonb_populate_record(p."window"::pgstock_internal.outbox_window, change)::text,
	'seq', 777777, 'finished', $3, 'epoch', led, 'held', true)::text, 'UTF8') FROM pgstock_internal.relay_position p
$$;
SELECT p.seq = 777777 AND p.finished FROM pgstock_internal.relay_position(kafka(:epoch)) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch, finished => false)) p;
SELECT p.seq = 777777 AND NOT p.finished FROM pgstock_internal.relay_position(kafka(:epoch + 1, finished => false)) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch + 1)) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch - 1)) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch, '{"lsn": "0/1"}')) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch + 1, '{"lsn": "0/1"}')) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch + 1, '{"system_id": 7}')) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch + 1, '{"timeline": 77}')) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(NULL) p;
-- two windows at one place of the WAL: the one that shows more counts,
-- whatever their seqs, finished or not
SELECT pg_snapshot_xmax((p."window"::pgstock_internal.outbox_window).s2) AS xmax FROM pgstock_internal.relay_position p \gset
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch, jsonb_build_object('s2', format('%1$s:%2$s:', :xmax, :xmax + 1)), finished => false)) p;
SELECT p.seq = 777777 FROM pgstock_internal.relay_position(kafka(:epoch, jsonb_build_object('s2', format('%1$s:%2$s:%1$s', :xmax - 1, :xmax)))) p;
-- text that is no position
SELECT outcome_of('SELECT * FROM pgstock_internal.relay_position(''hello'')');
SELECT left(outcome_of(format('SELECT * FROM pgstock_internal.relay_position(%L)', bad)), 5)
  FROM (VALUES ('\xff'::bytea), (''), ('5'), (repeat('[', 100000)::bytea), ('{"window": "(1)", "seq": 1, "finished": true, "epoch": 1, "held": false}')) v (bad)
UNION ALL
SELECT left(outcome_of(format('SELECT * FROM pgstock_internal.relay_position(%L)', kafka(7, '{"system_id": null}'))), 5);
DROP FUNCTION kafka;
-- adopted: shown first, then done; every event whose publication was not stored
-- is published once, later ones after it
UPDATE pgstock_internal.position_even p SET "window" = jsonb_populate_record(p."window"::pgstock_internal.outbox_window, '{"system_id": 7}')::text;
SELECT left(outcome_of('SELECT * FROM pgstock_internal.relay_position()'), 5);
SELECT found, value FROM pgstock_internal.relay_adopt(false) WHERE found = 'events to publish';
SELECT left(outcome_of('SELECT * FROM pgstock_internal.relay_position()'), 5);
SELECT found, value FROM pgstock_internal.relay_adopt(true) WHERE found = 'events to publish';
SELECT publish_event('window', 'e1', '1') IS NOT NULL AS id;
SELECT finished FROM pgstock_internal.relay_position();
UPDATE held SET "window" = (SELECT "window" FROM pgstock_internal.relay_position());
SELECT read_window(100), read_window(1);
UPDATE held SET "window" = pgstock_internal.relay_next_window("window");
SELECT read_window(100);
SELECT regexp_replace(outcome_of(format('SELECT pgstock_internal.relay_store_position(%L, 0, true, %s)', '', :epoch)), '\d+ is', 'N is');
SELECT action, target, reason FROM stock_admin_actions WHERE action = 'adopt';
-- a page ends with its bytes, whichever column has them; its first row may be
-- larger
SELECT pgstock_internal.last_seq() AS last \gset
SELECT publish_event('window', CASE w WHEN 'key' THEN repeat('k', 100) ELSE 'k' END, CASE w WHEN 'payload' THEN to_jsonb(repeat('p', 100)) ELSE '1' END,
					 CASE w WHEN 'type' THEN repeat('t', 100) ELSE 't' END, CASE w WHEN 'headers' THEN jsonb_build_object('h', repeat('h', 100)) ELSE '{}' END) IS NOT NULL AS id
  FROM unnest('{key,type,payload,headers}'::text[]) w, generate_series(1, 3);
UPDATE held SET "window" = pgstock_internal.relay_next_window("window");
SELECT w, max_bytes, (SELECT count(*) FROM pgstock_internal.relay_page("window", :last + 3 * (n - 1), 3, max_bytes)) AS rows
  FROM held, unnest('{key,type,payload,headers}'::text[]) WITH ORDINALITY u (w, n), unnest('{1,150,1000}'::int[]) max_bytes ORDER BY n, max_bytes;
BEGIN;
UPDATE pgstock_internal.outbox SET format = 'r', payload = convert_to(repeat('p', 3000000), 'UTF8') WHERE seq > :last;
SELECT count(*) FROM pgstock_internal.relay_audit_page(NULL, :last, :last + 12, 100);
ROLLBACK;
SELECT pg_advisory_unlock_all();
DROP TABLE held;
DROP FUNCTION read_window;
