--
-- publisher: an outbox that another program publishes is emptied by time, and
-- no relay leads it
--
CREATE PROCEDURE pub_run(by interval, times int, step text) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..times LOOP
		UPDATE pgstock_internal.outbox_part SET since = since - by;
		EXECUTE step;
		COMMIT;
	END LOOP;
END
$$;
CREATE VIEW pub_rows AS SELECT count(*) FROM pgstock_internal.outbox WHERE aggregatetype = 'pub';
-- a relay published before, and its position is stored
SELECT pgstock_internal.relay_adopt(true) IS NOT NULL AS adopted LIMIT 1;
SELECT pgstock_internal.relay_lead() IS NOT NULL AS leads;
-- bounds, and a number without a unit, which is seconds
SELECT set_outbox_retention('7');
SELECT set_outbox_retention('59 s');
SELECT set_outbox_retention('11 years');
SELECT set_outbox_retention('-1 day');
-- refused while a relay leads; its epoch stays
SELECT epoch FROM pgstock_internal.relay_epoch \gset
\set VERBOSITY sqlstate
SELECT set_outbox_retention('7 days');
\set VERBOSITY default
SELECT epoch = :epoch AS same FROM pgstock_internal.relay_epoch;
\c
CALL wait_alone();
-- refused where no background worker would empty it
SELECT set_outbox_retention('7 days', 'debezium');
SELECT set_outbox_retention(NULL, 'nothing to undo');
SELECT action, target, reason FROM stock_admin_actions WHERE action = 'set_outbox_retention';
-- as it would be set there
SELECT behind FROM pgstock_internal.relay_levels('pub-levels', NULL, 100);
INSERT INTO pgstock_internal.other_publisher VALUES (true, '1 hour');
SELECT outcome_of('SELECT pgstock_internal.relay_lead()');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = x'7064'::int AND granted;
SELECT name, value FROM pgstock_internal.relay_check('{}', current_user) WHERE name = 'other_publisher';
SELECT value FROM pgstock_internal.relay_status() WHERE name = 'other_publisher_retention';
-- rows that no relay has published, in parts of all ages
SELECT publish_event('pub', 'k', '1') IS NOT NULL AS id;
SELECT * FROM pgstock_internal.pending();
-- for people nothing is wrong, and nothing known to be pending
SELECT s -> 'problems' ? 'no relay leads the outbox' AS missing, s -> 'other_publisher_retention' AS retention, s -> 'pending_events' AS pending,
	   stock_activity() -> 'pending' AS in_activity FROM stock_status() s;
-- the level stream ends with a step of a relay that has lost the lead
SELECT behind FROM pgstock_internal.relay_levels('pub-levels', NULL, 100);
SELECT count(*) FROM pgstock_internal.level_stream;
CALL pub_run('10 min', 5, 'SELECT pgstock_internal.outbox_rotate_by_time()');
TABLE pub_rows;
-- a foreign history is not touched
UPDATE pgstock_internal.incarnation SET restored = true;
CALL pub_run('1 day', 3, 'SELECT pgstock_internal.keeper_purge(1000)');
SELECT pgstock_internal.outbox_rotate_by_time();
UPDATE pgstock_internal.incarnation SET restored = false;
TABLE pub_rows;
CALL pub_run('30 min', 4, 'SELECT pgstock_internal.keeper_purge(1000)');
TABLE pub_rows;
-- a relay's own upkeep does not empty it by time
SELECT set_outbox_retention(NULL, 'the relay is back');
SELECT publish_event('pub', 'k', '3') IS NOT NULL AS id;
CALL pub_run('1 day', 3, 'SELECT pgstock_internal.outbox_rotate_by_time()');
CALL pub_run('1 day', 3, $$SELECT pgstock_internal.outbox_rotate('1 hour')$$);
TABLE pub_rows;
SELECT pgstock_internal.relay_lead() IS NOT NULL AS leads;
SELECT n > 0 AS pending FROM pgstock_internal.pending();
SELECT stock_activity() ->> 'pending' = n::text AS in_activity FROM pgstock_internal.pending(1000);
\c
DELETE FROM pgstock_internal.admin_action WHERE action IN ('set_outbox_retention', 'adopt');
DROP VIEW pub_rows;
DROP PROCEDURE pub_run;
