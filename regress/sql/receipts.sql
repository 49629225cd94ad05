--
-- receipts: whether Kafka has an event, and waiting for it.  The waits that end
-- because a relay publishes are in tests/e2e/test_receipts.py.
--
SELECT pgstock_internal.relay_lead() AS epoch \gset
CREATE FUNCTION receipts_store(epoch bigint) RETURNS boolean LANGUAGE sql AS $$
SELECT pgstock_internal.relay_store_position(pgstock_internal.relay_next_window(p."window"), 0, true, $1) FROM pgstock_internal.relay_position() p
$$;
CREATE FUNCTION receipts_of(id uuid) RETURNS text LANGUAGE sql AS $$
SELECT format('%s %s, seq %s, created %s, published %s', s.topic, s.state, s.seq > 0, s.created_at <= now(), s.published_at BETWEEN s.created_at AND clock_timestamp())
  FROM event_status(id) s WHERE s.event_id = id
$$;
SELECT receipts_store(:epoch);
-- pending, then published: at the time of the first position that passes it
SELECT publish_event('receipts', 'k', '1') AS a \gset
SELECT receipts_of(:'a');
SELECT wait_for_event(:'a', '0'), wait_for_event(:'a', '10 ms');
SELECT receipts_store(:epoch);
SELECT receipts_of(:'a'), wait_for_event(:'a', '0'), wait_for_event(:'a');
SELECT published_at AS at FROM event_status(:'a') \gset
SELECT publish_event('receipts', 'k', '2') AS b \gset
SELECT count(receipts_store(:epoch)) FROM generate_series(1, 5);
SELECT published_at = :'at' AS same FROM event_status(:'a');
SELECT published_at > :'at' AS later FROM event_status(:'b');
-- the positions before are gone: not later than the oldest one that is left
BEGIN;
DELETE FROM pgstock_internal.position_even WHERE n < (SELECT max(n) FROM pgstock_internal.relay_position);
DELETE FROM pgstock_internal.position_odd WHERE n < (SELECT max(n) FROM pgstock_internal.relay_position);
SELECT published_at > :'at' AS later FROM event_status(:'a');
ROLLBACK;
-- unknown, and no argument
SELECT * FROM event_status('eeeeeeee-0000-4000-8000-00000000beef');
SELECT state FROM event_status(NULL);
SELECT wait_for_event('eeeeeeee-0000-4000-8000-00000000beef', '20 ms');
SELECT outcome_of('SELECT wait_for_event(NULL)'), outcome_of(format('SELECT wait_for_event(%L, %L)', :'a', '-1 s')), wait_for_event(:'a', NULL);
SELECT wait_for_event(:'a', '1 min'), outcome_of(format('SELECT wait_for_event(%L, %L)', :'a', '60.001 s'));
-- of this transaction, also where a subtransaction wrote it,
-- and not once that was rolled back
BEGIN;
SELECT publish_event('receipts', 'k', '3') AS c \gset
SELECT outcome_of(format('SELECT wait_for_event(%L)', :'c'));
SELECT (event_status(:'c')).state;
SAVEPOINT s;
SELECT publish_event('receipts', 'k', '3') AS d \gset
SELECT outcome_of(format('SELECT wait_for_event(%L)', :'d'));
ROLLBACK TO s;
SELECT wait_for_event(:'d', '10 ms'), wait_for_event(:'a');
ROLLBACK;
-- in every isolation level it sees what was committed since;
-- a snapshot is no reason to wait
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT wait_for_event(:'a'), wait_for_event(:'b');
COMMIT;
-- no lock remains that would keep a table from being truncated
BEGIN;
SELECT wait_for_event(:'a'), wait_for_event('eeeeeeee-0000-4000-8000-00000000beef', '10 ms');
SELECT receipts_of(:'a');
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text ~ '^pgstock_internal.(outbox|position|held)';
COMMIT;
-- cancel and timeouts end it
SET statement_timeout = '500 ms';
SELECT wait_for_event('eeeeeeee-0000-4000-8000-00000000beef', '1 min');
RESET statement_timeout;
-- an event of a held topic
SELECT publish_event('receipts-h', 'k', '1') AS h \gset
SELECT seq AS held FROM event_status(:'h') \gset
SELECT pgstock_internal.relay_hold('receipts-h', 'no', :epoch), pgstock_internal.relay_set_aside(ARRAY[:held], :epoch);
SELECT receipts_store(:epoch);
SELECT receipts_of(:'h'), wait_for_event(:'h', '10 ms');
BEGIN;
SELECT discard_held_event(:'h', 'never');
SELECT receipts_of(:'h'), wait_for_event(:'h', '10 ms');
ROLLBACK;
-- its row in the outbox may be gone before
BEGIN;
DELETE FROM pgstock_internal.outbox WHERE id = :'h';
SELECT receipts_of(:'h');
ROLLBACK;
SELECT pgstock_internal.relay_cross_off('receipts-h', ARRAY[:held], true, :epoch);
SELECT receipts_of(:'h'), wait_for_event(:'h');
-- a copy has the id of its original, which Kafka has
SELECT events FROM pgstock_internal.relay_replay(ROW(:held, :held, NULL, NULL, NULL)::pgstock_internal.replay_filter, 0, 10, true, 'again');
SELECT (SELECT count(*) FROM stock_outbox WHERE event_id = :'h') AS rows, receipts_of(:'h');
SELECT receipts_store(:epoch);
-- by an index
BEGIN;
SET LOCAL enable_seqscan = off;
CREATE FUNCTION receipts_scans() RETURNS bigint LANGUAGE sql AS $$
SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint FROM pg_class c WHERE c.oid::regclass::text ~ '^pgstock_internal.outbox_[0-9]+$'
$$;
SELECT receipts_scans() AS before \gset
SELECT count(event_status(:'a'));
SELECT receipts_scans() - :before AS read_by_scans;
ROLLBACK;
-- ids rise with time, whose milliseconds they begin with
SELECT substr(:'a', 15, 1) AS version, substr(:'a', 20, 1) IN ('8', '9', 'a', 'b') AS variant, left(:'a', 13) <= left(:'b', 13) AS rising,
	   abs(extract(epoch FROM now()) * 1000 - ('x' || replace(left(:'a', 13), '-', ''))::bit(48)::bigint) < 600000 AS now;
-- no session waits
SELECT count(*) FROM pgstock_internal.receipt_waiters();
SELECT outcome_of('SELECT pgstock_internal.wake_waiter(-1)');
SELECT pg_advisory_unlock_all();
DROP FUNCTION receipts_store, receipts_of;
