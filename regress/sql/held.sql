--
-- held: topics that the broker refuses; the relay sets their events aside
--
\set VERBOSITY terse
SELECT pgstock_internal.relay_lead() AS epoch \gset
SELECT count(publish_event(t, 'k', '{}')) FROM unnest('{a,b,a,b}'::text[]) t;
SELECT max(seq) - 3 AS first FROM stock_outbox \gset
-- the position has passed them
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window("window"), 0, true, :epoch) FROM pgstock_internal.relay_position();

-- a former leader changes nothing
SELECT pgstock_internal.relay_hold('a', 'no', :epoch - 1);
SELECT pgstock_internal.relay_set_aside(ARRAY[:first], :epoch - 1);
SELECT pgstock_internal.relay_cross_off('a', '{}', true, :epoch - 1);
SELECT * FROM pgstock_internal.relay_held_topics();

-- refused again: the last reason is stored, and two tries
SELECT pgstock_internal.relay_hold('a', 'too large', :epoch);
SELECT pgstock_internal.relay_hold('a', 'gone', :epoch);
SELECT * FROM pgstock_internal.relay_held_topics();

-- an event set aside twice is set aside once; an unknown event cannot be
SELECT pgstock_internal.relay_set_aside(ARRAY[:first + 2], :epoch);
SELECT pgstock_internal.relay_set_aside(ARRAY[:first, :first + 2], :epoch);
SELECT pgstock_internal.relay_set_aside(ARRAY[:first, :first + 100], :epoch);
SELECT seq - :first AS nth, topic, event_type, key FROM pgstock_internal.relay_held_page('a', 10, 1000000);
SELECT count(*) FROM pgstock_internal.relay_held_page('a', 1, 1000000);
SELECT count(*) FROM pgstock_internal.relay_held_page('b', 10, 1000000);

-- it is shown: as pending, as held, with the reason
SELECT name, labels, value FROM pgstock_internal.relay_metrics() WHERE name IN ('outbox_pending_events', 'outbox_held_events');
SELECT t.held - 'since' - 'tried_at' - 'first_event' AS held, t.held ->> 'first_event' IS NOT NULL AS has_first FROM pgstock_internal.relay_status() s, jsonb_array_elements(s.value) AS t (held) WHERE s.name = 'held_topics';
SELECT pending, count(*) FROM pgstock_internal.relay_audit_page(NULL, :first - 1, :first + 3, 10) GROUP BY 1 ORDER BY 1;

-- an event that no topic will accept is discarded by hand, recorded,
-- and is not set aside again
BEGIN;
SELECT discard_held_event(event_id, 'never') FROM pgstock_internal.relay_held_page('a', 1, 1000000);
SELECT count(*) FROM pgstock_internal.relay_held_page('a', 10, 1000000);
SELECT pgstock_internal.relay_set_aside(ARRAY[:first, :first + 2], :epoch);
SELECT count(*) FROM pgstock_internal.relay_held_page('a', 10, 1000000);
SELECT pending, count(*) FROM pgstock_internal.relay_audit_page(NULL, :first - 1, :first + 3, 10) GROUP BY 1 ORDER BY 1;
SELECT action, target LIKE 'event ________-%' AS target, reason FROM stock_admin_actions WHERE action = 'discard_held_event';
-- by an index, because it is looked up for each event
SET LOCAL enable_seqscan = off;
CREATE TEMP VIEW index_use AS SELECT sum(pg_stat_get_xact_numscans(i.indexrelid)) AS scans, sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) AS entries
  FROM pg_index i WHERE i.indrelid = 'pgstock_internal.admin_action'::regclass;
SELECT scans, entries FROM index_use \gset
SELECT pgstock_internal.is_discarded(gen_random_uuid());
SELECT scans - :scans AS scans, entries - :entries AS entries FROM index_use;
SELECT outcome_of($$SELECT discard_held_event('11111111-2222-4333-8444-555555555555', 'never')$$), outcome_of('SELECT discard_held_event(gen_random_uuid(), NULL)');
ROLLBACK;

-- the outbox's rows may be deleted: these are copies
BEGIN;
DELETE FROM pgstock_internal.outbox;
SELECT count(*) FROM pgstock_internal.relay_held_page('a', 10, 1000000);
ROLLBACK;

-- a topic is resumed when none of its events is left, and not before
SELECT pgstock_internal.relay_cross_off('a', ARRAY[:first], true, :epoch);
SELECT pgstock_internal.relay_cross_off('a', ARRAY[:first + 2], false, :epoch);
SELECT pgstock_internal.relay_cross_off('a', '{}', true, :epoch);
SELECT * FROM pgstock_internal.relay_held_topics();
SELECT value FROM pgstock_internal.relay_status() WHERE name LIKE 'held%' ORDER BY name;
